"""Which row of a database has a name or a number that several claim: the one that had it first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping

from controller.databases.errors import BadValue, shown

Claim = tuple[Hashable, ...]
"""What is claimed, for people, and its value; and where, if another value is elsewhere."""


class Claims:
    """What rows claim, by their uuid, and which row has it.

    A row keeps what it has until it claims it no more. Of several that begin to claim the same
    together none gets it.
    """

    def __init__(self) -> None:
        self._claims_by_row: dict[str, frozenset[Claim]] = {}
        self._claimants: defaultdict[Claim, set[str]] = defaultdict(set)
        self._holder: dict[Claim, str] = {}

    def claim(self, claims: Mapping[str, frozenset[Claim]]) -> set[str]:
        """These rows claim this from now on; other rows that claimed what is free now."""
        others: set[str] = set()
        for uuid, new in claims.items():
            old = self._claims_by_row.get(uuid, frozenset())
            for claim in old - new:
                claimants = self._claimants[claim]
                claimants.discard(uuid)
                if self._holder.get(claim) == uuid:
                    del self._holder[claim]
                others |= claimants
                if not claimants:
                    del self._claimants[claim]
            for claim in new - old:
                self._claimants[claim].add(uuid)
            if new:
                self._claims_by_row[uuid] = new
            else:
                self._claims_by_row.pop(uuid, None)
        return others

    def hold(self, uuid: str) -> None:
        """Take what a row claims.

        Raises:
            BadValue: another row has it, or claims it as well.
        """
        claims = self._claims_by_row.get(uuid, frozenset())
        for claim in sorted(claims, key=str):
            holder = self._holder.get(claim)
            if holder == uuid or (holder is None and len(self._claimants[claim]) == 1):
                continue
            value = shown(str(claim[1]))
            other = "another one, which had it before," if holder else "another one"
            raise BadValue(f"{other} has its {claim[0]} {value} as well: give each its own")
        for claim in claims:
            self._holder[claim] = uuid
