"""Which sessions share a Mirror, where an owner's bridge has no room for one for each.

Of each bridge one Mirror is kept free, so that another can be made before the one that it replaces
is removed. If what sessions claim does not fit, most keep Mirrors of their own: first those that
have one, then those of the lowest numbers. The others share one that selects all their ports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from flows.model import (
    Attachment,
    Dpid,
    MirrorKey,
    NetworkId,
    OwnerPort,
    SessionId,
    World,
)
from flows.resolve.history import changed_keys
from flows.resolve.mirrors import (
    MirrorClaim,
    MirrorUse,
    Taken,
    Vlans,
    networks_of,
    own_uses,
    reach_of,
    union_of,
    vlans_of,
)
from flows.resolve.session import ResolvedSession

Claimed = tuple[SessionId, MirrorClaim]
Shares = Mapping[SessionId, tuple[MirrorUse, ...]]
NO_ATTACHMENTS: Mapping[Dpid, Attachment] = {}
LAST = 1 << 32
"""The number of a session that has none yet."""


class MirrorRoom:
    """What sessions claim on bridges of others, and what they get where not all have room."""

    def __init__(self, world: World, previous: MirrorRoom | None = None) -> None:
        self._world = world
        self._before = NO_ATTACHMENTS if previous is None else previous._world.attachments
        self._claims: dict[Dpid, dict[SessionId, tuple[MirrorClaim, ...]]] = {}
        self._shares: dict[Dpid, Shares] = {}
        if previous is not None:
            self._claims, self._shares = dict(previous._claims), dict(previous._shares)

    def follow(self, gone: Iterable[SessionId], new: Iterable[ResolvedSession]) -> Set[SessionId]:
        """Note what sessions claim now; the sessions that get something else by that.

        ``gone`` are those that ended or changed, ``new`` those that changed or are new.
        """
        touched = changed_keys(self._before, self._world.attachments) | self._shares.keys()
        touched |= self._note(frozenset(gone), new)
        changed = set[SessionId]()
        for dpid in touched:
            old, now = self._shares.pop(dpid, None), self._share(dpid)
            if now is not None:
                self._shares[dpid] = now
            changed |= changed_keys(old or {}, now or {})
        return changed

    def shares_of(self, session: SessionId) -> Mapping[Dpid, tuple[MirrorUse, ...]]:
        """The Mirrors that a session gets on each bridge that has no room for all."""
        found = ((dpid, shares.get(session)) for dpid, shares in self._shares.items())
        return {dpid: uses for dpid, uses in found if uses is not None}

    def uses_if(self, resolved_session: ResolvedSession) -> tuple[MirrorUse, ...]:
        """The Mirrors that a session would get if it were one of these, as it is now."""
        key, other = resolved_session.session.id, MirrorRoom(self._world, self)
        other.follow([key], [resolved_session])
        shares, found = other.shares_of(key), list[MirrorUse]()
        for dpid in dict.fromkeys(claim.dpid for claim in resolved_session.claims):
            own = (use for use in resolved_session.mirrors if use.dpid == dpid)
            found += shares.get(dpid, own)
        return tuple(found)

    def _note(self, gone: Set[SessionId], new: Iterable[ResolvedSession]) -> Set[Dpid]:
        """Replace the claims of sessions; the bridges where some differ."""
        mine = {dpid for dpid, claims in self._claims.items() if not gone.isdisjoint(claims)}
        for dpid in mine:
            self._claims[dpid] = {k: c for k, c in self._claims[dpid].items() if k not in gone}
        for resolved_session in new:
            if not resolved_session.session.enabled or resolved_session.refused is not None:
                continue
            for claim in resolved_session.claims:
                if claim.dpid not in mine:
                    self._claims[claim.dpid] = dict(self._claims.get(claim.dpid, {}))
                    mine.add(claim.dpid)
                at_bridge, key = self._claims[claim.dpid], resolved_session.session.id
                at_bridge[key] = (*at_bridge.get(key, ()), claim)
        return mine

    def _share(self, dpid: Dpid) -> Shares | None:
        attachment, claims = self._world.attachments.get(dpid), self._claims.get(dpid)
        if attachment is None or not claims:
            return None
        numbers = self._world.numbers.session
        ordered = sorted(claims, key=lambda key: (numbers.get(key, LAST), key))
        claimed = [(key, claim) for key in ordered for claim in claims[key]]

        def told(key: MirrorKey) -> Vlans | None:
            return networks_of(key, dpid, self._world.ports_by_dpid.get(dpid, ()), self._world)

        return share_mirrors(claimed, attachment, told)


def share_mirrors(
    claimed: Sequence[Claimed], attachment: Attachment, told: Callable[[MirrorKey], Vlans | None]
) -> Shares | None:
    """What each session gets for its claims on one bridge; None if all have Mirrors of their own.

    ``claimed`` is in the order of the sessions' numbers. ``told`` says the networks of the VLANs in
    the copies of a Mirror, None if that cannot be told.
    """
    room = max(0, attachment.room)
    limit = room - 1 if room > 1 else room
    if len({key for _, claim in claimed for _, key in claim.keys}) <= limit:
        return None
    own, groups = _allot(claimed, attachment, limit)
    uses: dict[Claimed, tuple[MirrorUse, ...]] = {}
    stand_ins = _stand_ins(own, groups[:limit], attachment, told)
    for each in own:
        uses[each] = _uses_of_own(each[1], attachment, stand_ins)
    for group in groups[:limit]:
        shared = group.selected
        for each in group.claimed:
            uses[each] = _uses_of_shared(each[1], shared, attachment, stand_ins)
    for group in groups[limit:]:
        for each in group.claimed:
            refused = own_uses(each[1], attachment)
            uses[each] = tuple(replace(use, is_refused=True) for use in refused)
    uses = _within(room, uses, attachment)
    found: dict[SessionId, tuple[MirrorUse, ...]] = {}
    for key, claim in claimed:
        found[key] = (*found.get(key, ()), *uses[key, claim])
    return found


@dataclass(slots=True)
class _Group:
    """Claims that share a Mirror: VLANs tell their networks apart."""

    claimed: list[Claimed] = field(default_factory=list)
    ports: dict[tuple[OwnerPort, NetworkId], None] = field(default_factory=dict)

    @property
    def selected(self) -> MirrorKey:
        return union_of(claim.selected for _, claim in self.claimed)

    def take(self, each: Claimed) -> bool:
        """Take a claim, if VLANs tell its networks from those that are in it."""
        more = [port for port in each[1].ports if port not in self.ports]
        if more and vlans_of([*self.ports, *more]) is None:
            return False
        self.claimed.append(each)
        self.ports.update(dict.fromkeys(more))
        return True


def _allot(
    claimed: Sequence[Claimed], attachment: Attachment, limit: int
) -> tuple[list[Claimed], list[_Group]]:
    """The claims with Mirrors of their own, and those that share some; as many own as fit."""

    def turn(each: Claimed) -> tuple[bool, bool]:
        return each[1].is_told, not _is_made(each[1], attachment)

    in_turn = sorted(claimed, key=turn)  # those of the same turn stay in order
    for budget in range(limit - 1, -1, -1):
        keys, own = set[MirrorKey](), set[Claimed]()
        for each in in_turn:
            more = {key for _, key in each[1].keys} - keys
            if len(keys) + len(more) <= budget:
                keys |= more
                own.add(each)
        groups = _groups(each for each in claimed if each not in own)
        if len(keys) + len(groups) <= limit:
            return [each for each in claimed if each in own], groups
    return [], _groups(claimed)


def _groups(claimed: Iterable[Claimed]) -> list[_Group]:
    groups: list[_Group] = []
    for each in claimed:
        if not any(group.take(each) for group in groups):
            groups.append(_Group())
            groups[-1].take(each)
    return groups


def _is_made(claim: MirrorClaim, attachment: Attachment) -> bool:
    return all(key in attachment.mirrors for _, key in claim.keys)


def _stand_ins(
    own: Iterable[Claimed],
    groups: Iterable[_Group],
    attachment: Attachment,
    told: Callable[[MirrorKey], Vlans | None],
) -> list[MirrorKey]:
    """The Mirrors that may serve claims while others are made, first that with most of them."""
    lacking = [claim.selected for _, claim in own if not _is_made(claim, attachment)]
    lacking += [g.selected for g in groups if g.selected not in attachment.mirrors]
    needed = union_of(lacking)

    def reach(key: MirrorKey) -> tuple[int, tuple[int, list[str], list[str]]]:
        return sum(len(a & b) for a, b in zip(key, needed, strict=True)), reach_of(key)

    usable = (key for key in attachment.mirrors if told(key)) if lacking else ()
    return sorted(usable, key=reach, reverse=True)


def _uses_of_own(
    claim: MirrorClaim, attachment: Attachment, stand_ins: Iterable[MirrorKey]
) -> tuple[MirrorUse, ...]:
    made = next((key for key in stand_ins if _covers(key, claim.selected)), None)
    if _is_made(claim, attachment) or made is None:
        return own_uses(claim, attachment)
    return tuple(
        MirrorUse(claim.dpid, key, Taken.BY_ADDRESS, made, own=claim.selected)
        for _, key in claim.keys
    )


def _uses_of_shared(
    claim: MirrorClaim, shared: MirrorKey, attachment: Attachment, stand_ins: Iterable[MirrorKey]
) -> tuple[MirrorUse, ...]:
    """The use of a shared Mirror; until that is made, of what serves others too, or of its own."""
    made = next((key for key in stand_ins if _covers(key, claim.selected)), None)
    made = shared if shared in attachment.mirrors else made
    if made is not None and [key for _, key in claim.keys] != [made]:
        return (MirrorUse(claim.dpid, shared, Taken.BY_ADDRESS, made, own=claim.selected),)
    return tuple(replace(use, wanted=shared) for use in own_uses(claim, attachment))


def _covers(made: MirrorKey, wanted: MirrorKey) -> bool:
    return all(a <= b for a, b in zip(wanted, made, strict=True))


def _within(
    room: int, uses: Mapping[Claimed, tuple[MirrorUse, ...]], attachment: Attachment
) -> dict[Claimed, tuple[MirrorUse, ...]]:
    """The same, without what stands in where that leaves no room for any that is missing.

    The smallest goes first: it serves the fewest ports.
    """
    every = [use for those in uses.values() for use in those]
    wanted = {use.wanted for use in every if not use.is_refused}
    in_use = {use.made for use in every if use.made is not None}
    excess = len((attachment.mirrors.keys() & wanted) | in_use) - room + 1
    if wanted <= attachment.mirrors.keys() or excess <= 0:
        return dict(uses)
    over = set(sorted(in_use - wanted, key=reach_of)[:excess])
    return {
        each: tuple(replace(use, made=None) if use.made in over else use for use in those)
        for each, those in uses.items()
    }
