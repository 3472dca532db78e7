"""What `cloudtap doctor` says of bridges of this host that have the kernel's datapath."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from controller.cli.client import Failure
from controller.cli.vsctl import run
from controller.config import Config
from controller.databases import PAIR_MARK, TAPS
from controller.devices import DeviceName, PairDevices, PairEnd, end_of, read_pair_states
from flows.model import Datapath, Dpid, PairState, datapath_of

CAP_NET_ADMIN = 12
"""linux/capability.h."""
DATABASE_ANSWERED_S = 2
"""How long the database may take to answer, in seconds."""
UNPREPARED_NAMED_MAX = 5
"""So many bridges are named in one sentence."""
LEFT_OUT = "copies that must be truncated are left out"
PAIR_FINDINGS: Mapping[PairState, str] = {
    PairState.UNSEEN: "what the devices of its segmenting pair do cannot be seen here: if they "
    "hand on super-frames, copies that must be truncated are lost",
    PairState.OFFLOADED: f"a device of its segmenting pair has offloads: {LEFT_OUT}",
    PairState.SHORT: "a device of its segmenting pair has another MTU than it was given: "
    f"{LEFT_OUT}",
    PairState.DOWN: f"a device of its segmenting pair is down: {LEFT_OUT}",
    PairState.APART: "the devices of its segmenting pair are not the two ends of one veth device: "
    f"{LEFT_OUT}: give these devices other names, then",
}
"""What is wrong with the segmenting pair of a bridge that has one."""


class _Marked(NamedTuple):
    """An interface that says that it belongs to a segmenting pair."""

    named: tuple[str, str]
    """Its name, and what its mark says."""
    device: DeviceName | None
    """None if it is no device of a host."""


def datapath_findings(config: Config, database: str) -> Iterator[str]:
    """What is to be prepared on this host, a sentence each; nothing if its database is closed.

    ``database`` is where ovs-vsctl finds it.
    """
    try:
        bridges = list(_kernel_bridges(config, database))
        marked = _pair_ends(database) if bridges else []
    except Failure:
        return  # what is wrong with the database is said by another line
    if not bridges:
        return
    yield from _pair_findings(bridges, marked)
    if config.bridges.tap_offloads == "off" and not may_change_devices():
        yield (
            f"{_named([name for _, name in bridges])}: this user may not switch off the offloads "
            "of tap ports (CAP_NET_ADMIN): run `cloudtap tap-port prepare INTERFACE` as root, for "
            "each of them"
        )


def _pair_findings(bridges: list[tuple[Dpid, str]], marked: list[_Marked]) -> Iterator[str]:
    """The bridges that truncate no copies, or may lose them, by what is wrong."""
    ends = {
        name: {end: each.device for each in marked if (end := end_of(dpid, *each.named))}
        for dpid, name in bridges
    }
    unprepared = [name for name, there in ends.items() if not there]
    if unprepared:
        yield (
            f"{_named(unprepared)}: without a segmenting pair copies that must be truncated are "
            "left out: run `cloudtap bridge prepare BRIDGE` as root"
        )
    pairs = {name: _pair(there) for name, there in ends.items() if there}
    states = read_pair_states([pair for pair in pairs.values() if pair is not None])
    for state, what in PAIR_FINDINGS.items():
        wrong = [n for n, p in pairs.items() if (states[p] if p else PairState.UNSEEN) is state]
        if wrong:
            then = "" if what.endswith("then") else ":"
            yield f"{_named(wrong)}: {what}{then} run `cloudtap bridge prepare BRIDGE` as root"


def _pair(ends: Mapping[PairEnd, DeviceName | None]) -> PairDevices | None:
    """Both devices of a segmenting pair; None if one is missing, or is no device."""
    out, back = ends.get(PairEnd.OUT), ends.get(PairEnd.BACK)
    return None if out is None or back is None else PairDevices(out, back)


def may_change_devices() -> bool:
    """Whether this process has CAP_NET_ADMIN (proc_pid_status(5))."""
    for line in (
        Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    ):
        name, _, value = line.partition(":")
        if name == "CapEff":
            return bool(int(value, 16) >> CAP_NET_ADMIN & 1)
    return os.geteuid() == 0


def _kernel_bridges(config: Config, database: str) -> Iterator[tuple[Dpid, str]]:
    """Those that this controller may own, without bridges of others that are attached."""
    rows = list(_rows(database, "Bridge", "name", "datapath_type", "datapath_id", "external_ids"))
    tapped = {dict(row["external_ids"][1]).get(TAPS) for row in rows}
    for row in rows:
        kind, text = str(row["datapath_type"]), row["datapath_id"]
        if datapath_of(kind) is Datapath.KERNEL and isinstance(text, str):
            dpid, name = Dpid(int(text, 16)), str(row["name"])
            if name not in tapped and config.bridges.may_own(dpid, name):
                yield dpid, name


def _pair_ends(database: str) -> list[_Marked]:
    """All interfaces that say that they belong to a segmenting pair."""
    found = []
    for row in _rows(database, "Interface", "name", "external_ids", "ifindex"):
        mark, index = dict(row["external_ids"][1]).get(PAIR_MARK), row["ifindex"]
        if mark is not None:
            name = str(row["name"])
            device = DeviceName(name, index) if isinstance(index, int) and index > 0 else None
            found.append(_Marked((name, str(mark)), device))
    return found


def _rows(database: str, table: str, *columns: str) -> Iterator[dict[str, Any]]:
    """The rows of a table as ovs-vsctl prints them.

    Raises:
        Failure: ovs-vsctl is missing, or the database cannot be asked.
    """
    listed = ",".join(columns)
    command = ("ovs-vsctl", f"--timeout={DATABASE_ANSWERED_S}", f"--db={database}", "--format=json")
    text = run((*command, f"--columns={listed}", "list", table))
    found = json.loads(text)
    for row in found["data"]:
        yield dict(zip(found["headings"], row, strict=True))


def _named(bridges: list[str]) -> str:
    more = (
        f" and {len(bridges) - UNPREPARED_NAMED_MAX} more"
        if len(bridges) > UNPREPARED_NAMED_MAX
        else ""
    )
    return ", ".join(repr(name) for name in sorted(bridges)[:UNPREPARED_NAMED_MAX]) + more
