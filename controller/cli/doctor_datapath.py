"""What `cloudtap doctor` says of bridges of this host that have the kernel's datapath."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from controller.cli.client import Failure
from controller.cli.vsctl import run
from controller.config import Config
from controller.databases import PAIR_MARK, TAPS
from controller.devices import PairEnd, end_of
from flows.model import Datapath, Dpid, datapath_of

CAP_NET_ADMIN = 12
"""linux/capability.h."""
DATABASE_ANSWERED_S = 2
"""How long the database may take to answer, in seconds."""
UNPREPARED_NAMED_MAX = 5
"""So many bridges are named in one sentence."""


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
    unprepared = [
        name
        for dpid, name in bridges
        if {end_of(dpid, *each) for each in marked}.isdisjoint(PairEnd)
    ]
    if unprepared:
        yield (
            f"{_named(unprepared)}: without a segmenting pair copies that must be truncated are "
            "left out: run `cloudtap bridge prepare BRIDGE` as root"
        )
    if config.bridges.tap_offloads == "off" and not may_change_devices():
        yield (
            f"{_named([name for _, name in bridges])}: this user may not switch off the offloads "
            "of tap ports (CAP_NET_ADMIN): run `cloudtap tap-port prepare INTERFACE` as root, for "
            "each of them"
        )


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


def _pair_ends(database: str) -> list[tuple[str, str]]:
    """The names and marks of all interfaces that say that they belong to a segmenting pair."""
    found = []
    for row in _rows(database, "Interface", "name", "external_ids"):
        mark = dict(row["external_ids"][1]).get(PAIR_MARK)
        if mark is not None:
            found.append((str(row["name"]), str(mark)))
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
