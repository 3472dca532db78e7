"""How people refer to a bridge: by name, by name and host, or by datapath id."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from flows.model.names import Dpid

AT = "@"
"""Separates the name of a bridge from that of its host."""

_DPID = re.compile(r"0[xX][0-9a-fA-F]{1,16}|[0-9a-fA-F]{16}")


@dataclass(frozen=True, slots=True)
class BridgeReference:
    """A bridge as people write it: ``br-int``, ``br-int@hv1``, or ``0x51``.

    A datapath id is written with ``0x`` in front, or with all its 16 hexadecimal digits. A bridge
    whose name contains ``@`` or looks like a datapath id is found by its whole name, too.
    """

    text: str

    @property
    def dpid(self) -> Dpid | None:
        """The datapath id, if it is written as one."""
        return Dpid(int(self.text, 16)) if _DPID.fullmatch(self.text) else None

    @property
    def is_qualified(self) -> bool:
        """Whether more than a name is given: a name alone may be that of several bridges."""
        return AT in self.text or self.dpid is not None

    def means(self, dpid: Dpid, name: str, hosts: Collection[str] = ()) -> bool:
        """Whether the bridge with this id, this name and these names of its host is meant."""
        if self.text == name or self.dpid == dpid:
            return True
        bridge, at, host = self.text.rpartition(AT)
        return bool(at) and bridge == name and host in hosts

    def __str__(self) -> str:
        return self.text
