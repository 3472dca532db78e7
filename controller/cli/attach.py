"""cloudtap bridge attach and detach: taps a bridge that somebody else owns, as root on its host.

The tap bridge beside it, with its mark in the database, is all that attaching makes. Mirrors on the
owner's bridge are made by controllers, while sessions need them; detaching removes those, too.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from hashlib import blake2b

import click

from controller.cli.client import HAS_CHANGED, Failure, Values
from controller.cli.command import Command
from controller.cli.options import output_option
from controller.cli.output import Column, print_data, print_done, print_table
from controller.cli.owner_bridge import (
    TARGET,
    Detachment,
    HostBridges,
    check_may_be_tapped,
    find_detachment,
    read_host_bridges,
)
from controller.cli.vsctl import NewRow, run, vsctl_command
from controller.databases import TAPS
from flows.model import Dpid, datapath_of

DEVICE_NAME_MAX = 15
"""Bytes in the name of a network device of Linux (IFNAMSIZ - 1); a bridge has one of its name."""
ROUNDS_MAX = 5
"""A controller that runs may make a Mirror while others are removed: so often is looked again."""
OVN_GAP = (
    "it belongs to OVN, whose flows stay as they are; not copied are frames of container ports "
    "(tag and parent in OVN), which have no port of their own on this bridge"
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_TARGET = re.compile(r"(tcp|ssl|unix):[!-~]+")
_COLUMNS: tuple[Column, ...] = (
    ("Change", lambda change: change["change"]),
    ("Table", lambda change: change["table"]),
    ("Columns", lambda change: [f"{k}={_shown(v)}" for k, v in change["columns"].items()]),
)

_database_option = click.option(
    "--database", metavar="TARGET", help="Open vSwitch database, as `ovs-vsctl --db` takes it."
)
_dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Print every row that would be changed, and change nothing."
)


@click.command(cls=Command)
@click.argument("bridge")
@click.option("--name", help="Name of the tap bridge. [default: ct-BRIDGE, if it is short enough]")
@click.option(
    "--controller",
    "targets",
    metavar="TARGET",
    multiple=True,
    help=f"OpenFlow target of a controller, as the tap bridge reaches it; may repeat. "
    f"[default: {TARGET}]",
)
@_database_option
@_dry_run_option
@output_option
def attach(
    bridge: str,
    name: str | None,
    targets: tuple[str, ...],
    database: str | None,
    dry_run: bool,
    output: str,
) -> None:
    """Tap a bridge that somebody else owns: OpenStack, Proxmox, libvirt, or set up by hand.

    To be run as root on the host of the bridge, once. Makes a tap bridge of cloudtap beside it.
    The bridge itself is not changed: sessions that need its frames add Mirrors to it while they
    run, and nothing else. `cloudtap bridge detach` removes everything again.
    """
    for target in targets:
        if not _TARGET.fullmatch(target):
            raise Failure(f"{target!r} is no target: write it like {TARGET}, with tcp, ssl or unix")
    vsctl = vsctl_command(database)
    host = read_host_bridges(vsctl)
    wanted = tuple(dict.fromkeys(targets)) or (TARGET,)
    gap = f"; {OVN_GAP}" if host.is_ovn(bridge) else ""
    before = host.tap_bridges(bridge)
    if before:
        sentence = _attached_already(host, bridge, before, name, targets)
        print_done(*_done(bridge, before[0]["name"], sentence + gap), output)
        return
    check_may_be_tapped(host, bridge, wanted)
    tap = _TapBridge(bridge, name or _default_name(bridge), wanted)
    _check_name(host, tap.name, is_here=database is None)
    rows = tap.rows(host.datapath_type(bridge), tap_dpid(host.dpid(bridge)))
    if dry_run:
        _print_changes(bridge, [tap.name], [*_made(rows), _listed("+", tap.name)], output)
        return
    command = [*vsctl, *(word for row in rows for word in row.create())]
    run([*command, "--", "add", "Open_vSwitch", ".", "bridges", "@bridge"])
    HAS_CHANGED.set(True)
    sentence = f"its tap bridge is {tap.name!r}; the bridge itself is not changed{gap}"
    print_done(*_done(bridge, tap.name, sentence), output)


@click.command(cls=Command)
@click.argument("bridge")
@_database_option
@_dry_run_option
@output_option
def detach(bridge: str, database: str | None, dry_run: bool, output: str) -> None:
    """Stop tapping a bridge that somebody else owns, and remove all that cloudtap has made.

    To be run as root on the host of the bridge; no controller needs to run. Removes the Mirrors of
    cloudtap with their patch ports, and the tap bridge with all its ports, in one transaction.
    What has no mark of cloudtap stays as it is. Sessions that watch workloads of the bridge go on
    elsewhere, and wait for it here.
    """
    vsctl = vsctl_command(database)
    found = find_detachment(read_host_bridges(vsctl), bridge)
    names = [tap["name"] for tap in found.taps]
    if dry_run:
        _print_changes(bridge, names, _removed(found), output)
        return
    if not found:
        print_done(*_done(bridge, None, "it is not attached: there is nothing to remove"), output)
        return
    left = found
    for _ in range(ROUNDS_MAX):
        run([*vsctl, *left.commands()])
        HAS_CHANGED.set(True)
        host = read_host_bridges(vsctl)
        if not host.is_known(bridge) or not (left := find_detachment(host, bridge)):
            break
    else:
        raise Failure(f"a controller makes Mirrors on bridge {bridge!r} again: run this again")
    sentence = _detached(found)
    value: Values = {"bridge": bridge, "tap_bridges": names, "result": sentence}
    value |= {"mirrors": len(found.mirrors), "ports": list(found.foreign_ports)}
    print_done(f"bridge {bridge}: {sentence}", value, output)


def tap_dpid(owner: Dpid) -> Dpid:
    """The datapath id of the tap bridge of an owner's bridge: the same whenever it is attached."""
    seed = f"tap bridge of {owner:016x}".encode()
    return Dpid(int.from_bytes(blake2b(seed, digest_size=8).digest(), "big"))


@dataclass(frozen=True, slots=True)
class _TapBridge:
    """A tap bridge that is to be made."""

    owner: str
    name: str
    targets: tuple[str, ...]

    def rows(self, datapath_type: str, dpid: Dpid) -> list[NewRow]:
        """Its rows; each refers to those before it."""
        interface = NewRow("interface", "Interface", {"name": self.name, "type": "internal"})
        port = NewRow("port", "Port", {"name": self.name, "interfaces": ["@interface"]})
        controllers = [
            NewRow(f"controller{number}", "Controller", {"target": target})
            for number, target in enumerate(self.targets, 1)
        ]
        columns = _settings(datapath_type, dpid)
        columns |= {
            "name": self.name,
            "external_ids": {TAPS: self.owner},
            "ports": ["@port"],
            "controller": [f"@{row.id}" for row in controllers],
        }
        return [interface, port, *controllers, NewRow("bridge", "Bridge", columns)]


def _settings(datapath_type: str, dpid: Dpid) -> Values:
    """The columns of a tap bridge on which safety rests: it forwards nothing by itself."""
    config = {"disable-in-band": "true", "datapath-id": f"{dpid:016x}"}
    return {
        "datapath_type": datapath_type,
        "fail_mode": "secure",
        "protocols": ["OpenFlow13"],
        "other_config": config,
    }


def _default_name(bridge: str) -> str:
    name = f"ct-{bridge}"
    if len(name) <= DEVICE_NAME_MAX and _NAME.fullmatch(name):
        return name
    return f"ct-{blake2b(bridge.encode(), digest_size=4).hexdigest()}"


def _check_name(host: HostBridges, name: str, *, is_here: bool) -> None:
    if not _NAME.fullmatch(name) or len(name) > DEVICE_NAME_MAX:
        raise Failure(
            f"{name!r} cannot be the name of a bridge: take at most {DEVICE_NAME_MAX} letters, "
            "digits, '-', '_' and '.'"
        )
    taken = host.who_is_called(name)
    if not taken and is_here and os.path.lexists(f"/sys/class/net/{name}"):
        taken = "a network device"
    if taken:
        raise Failure(f"the name {name!r} is taken by {taken}: give another one with --name")


def _attached_already(
    host: HostBridges, bridge: str, taps: list[Values], name: str | None, targets: tuple[str, ...]
) -> str:
    """A sentence for a bridge that is attached as it should be.

    Raises:
        Failure: it is attached in another way.
    """
    again = f"run `cloudtap bridge detach {bridge}` before you attach it again"
    if len(taps) > 1:
        names = " and ".join(repr(tap["name"]) for tap in taps)
        raise Failure(f"bridge {bridge!r} has more than one tap bridge, {names}: {again}")
    [tap] = taps
    differ = []
    if name is not None and name != tap["name"]:
        differ.append(f"not by {name!r}")
    has = host.targets(tap["name"])
    if targets and set(targets) != set(has):
        differ.append(f"with {_shown(list(has)) or 'no controller'}, not {_shown(list(targets))}")
    differ += _altered(host, bridge, tap)
    if differ:
        what = "; ".join(differ)
        raise Failure(f"bridge {bridge!r} is attached by {tap['name']!r} already: {what}; {again}")
    return f"it is attached already: its tap bridge is {tap['name']!r}"


def _altered(host: HostBridges, bridge: str, tap: Values) -> list[str]:
    """What somebody has changed of a tap bridge, of all on which safety rests."""
    if not host.is_known(bridge):
        return [f"there is no bridge {bridge!r} any more"]
    altered = []
    wanted = _settings(host.datapath_type(bridge), tap_dpid(host.dpid(bridge)))
    for column, value in wanted.items():
        seen = tap[column]
        if column == "datapath_type":
            is_same = datapath_of(seen) is datapath_of(value)
        elif column == "other_config":  # that of the owner's bridge may be another one by now
            value = {key: each for key, each in value.items() if key != "datapath-id"}
            seen = {key: seen.get(key, "") for key in value}
            is_same = seen == value
        else:
            is_same = seen in (value, _shown(value))
        if not is_same:
            altered.append(f"its {column} is {_shown(seen) or 'empty'}, not {_shown(value)}")
    return altered


def _detached(found: Detachment) -> str:
    """What was removed, in a sentence."""
    parts = [f"tap bridge {tap['name']!r}" for tap in found.taps]
    if found.mirrors:
        count = len(found.mirrors)
        parts.append(f"{count} Mirror{'s' if count > 1 else ''} of cloudtap")
    if found.patches:
        count = len(found.patches)
        parts.append(f"{count} patch port{'s' if count > 1 else ''}")
    sentence = f"removed: {', '.join(parts)}"
    if found.foreign_ports:
        names = ", ".join(map(repr, found.foreign_ports))
        sentence += f"; ports {names} were on the tap bridge and are on no bridge now"
    return sentence


def _made(rows: list[NewRow]) -> list[Values]:
    return [{"change": "make", "table": row.table, "columns": row.columns} for row in rows]


def _removed(found: Detachment) -> list[Values]:
    changes: list[Values] = [
        {"change": "remove", "table": table, "columns": columns} for table, columns in found.rows()
    ]
    return changes + [_listed("-", tap["name"]) for tap in found.taps]


def _listed(sign: str, name: str) -> Values:
    """The change of the list of all bridges."""
    return {"change": "change", "table": "Open_vSwitch", "columns": {"bridges": f"{sign}{name}"}}


def _print_changes(bridge: str, taps: list[str], changes: list[Values], output: str) -> None:
    if output != "table":
        print_data({"bridge": bridge, "tap_bridges": taps, "changes": changes}, output)
    elif changes:
        print_table(changes, _COLUMNS)
    else:
        print_done(f"bridge {bridge}: there is nothing to remove", {}, output)


def _done(bridge: str, tap: str | None, sentence: str) -> tuple[str, Values]:
    value: Values = {"bridge": bridge, "tap_bridge": tap, "result": sentence}
    return f"bridge {bridge}: {sentence}", value


def _shown(value: object) -> str:
    """A value of a column as it is shown."""
    if isinstance(value, dict):
        return ",".join(f"{key}={each}" for key, each in value.items())
    return ",".join(value) if isinstance(value, list) else str(value)
