"""cloudtap bridge prepare: makes the segmenting pair of a bridge, as root on its host."""

from __future__ import annotations

import click

from controller.cli.client import HAS_CHANGED, Failure
from controller.cli.command import Command
from controller.cli.options import output_option
from controller.cli.output import print_done
from controller.cli.vsctl import run, vsctl_command
from controller.databases import OFFLOADS, PAIR_MARK, TAPS
from controller.devices import (
    PairDevices,
    PairEnd,
    PairFailed,
    find_pair,
    is_pair_ready,
    make_pair,
    pair_name,
    record_of,
    remove_pair,
)
from flows.model import Datapath, Dpid


@click.command(cls=Command)
@click.argument("bridge")
@click.option("--undo", is_flag=True, help="Remove the pair again.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@click.option(
    "--database", metavar="TARGET", help="Open vSwitch database, as `ovs-vsctl --db` takes it."
)
@output_option
def prepare(bridge: str, undo: bool, dry_run: bool, database: str | None, output: str) -> None:
    """Make the segmenting pair of a bridge, so that it can truncate copies.

    To be run as root on the host of the bridge, again after a restart of the host. The kernel's
    datapath truncates a super-frame (TSO, GRO) as a whole. So copies that must be truncated go over
    a veth device without offloads first, whose both ends are ports of the bridge. Without it they
    are left out.
    """
    vsctl = vsctl_command(database)
    found = run((*vsctl, "get", "Bridge", bridge, "datapath_type", "datapath_id")).split()
    datapath, text = (word.strip('"') for word in found)
    if not undo and datapath == Datapath.USERSPACE.value:
        _say(bridge, "nothing to do: it has the userspace datapath, which makes frames", output)
        return
    if not undo:
        _check_ours(vsctl, bridge)
    try:
        dpid = Dpid(int(text, 16))
    except ValueError as error:
        raise Failure(f"bridge {bridge!r} has no datapath id yet: is ovs-vswitchd up?") from error
    names = {end: pair_name(dpid, end) for end in PairEnd}
    both = " and ".join(map(repr, names.values()))
    try:
        if undo:
            _undo(vsctl, bridge, dpid, dry_run, output)
            return
        ports = run((*vsctl, "list-ports", bridge)).split()
        has_ports = set(names.values()) <= set(ports)
        if is_pair_ready(dpid) and has_ports and _is_recorded(vsctl, find_pair(dpid)):
            _say(bridge, f"its segmenting pair {both} is there already", output)
            return
        if dry_run:
            _say(bridge, f"would make veth devices {both} without offloads its ports", output)
            return
        pair = make_pair(dpid)
    except PairFailed as error:
        raise Failure(str(error)) from error
    command = list(vsctl)
    for end, device in zip(PairEnd, pair, strict=True):
        marks = [f"external_ids:{PAIR_MARK}={end.value}"]
        marks += [f"external_ids:{OFFLOADS}={record_of(device.ifindex)}"]
        command += ["--", "--may-exist", "add-port", bridge, device.name]
        command += ["--", "set", "Interface", device.name, *marks]
    run(command)
    HAS_CHANGED.set(True)
    _say(bridge, f"{both} are its segmenting pair: it truncates copies now", output)


def _check_ours(vsctl: tuple[str, ...], bridge: str) -> None:
    """Refuses the bridge of somebody else, which would forward from one end of the pair to the
    other for ever.

    Raises:
        Failure: it is attached, or switches by itself.
    """
    find = ("--bare", "--columns=name", "find", "Bridge", f"external_ids:{TAPS}={bridge}")
    taps = run((*vsctl, *find)).split()
    loop = "both ends of the pair would be a loop in a bridge that switches by itself"
    if taps:
        raise Failure(
            f"bridge {bridge!r} belongs to somebody else and is attached: {loop}; run this for its "
            f"tap bridge: `cloudtap bridge prepare {taps[0]}`"
        )
    fail_mode = run((*vsctl, "get", "Bridge", bridge, "fail_mode")).strip()
    if fail_mode != "secure":
        raise Failure(
            f"bridge {bridge!r} has not fail_mode=secure, so it is none that cloudtap writes the "
            f"flows of: {loop}"
        )


def _is_recorded(vsctl: tuple[str, ...], pair: PairDevices | None) -> bool:
    """Whether the database says of both devices that they have no offloads."""
    return pair is not None and all(
        run((*vsctl, "--if-exists", "get", "Interface", device.name, f"external_ids:{OFFLOADS}"))
        .strip()
        .strip('"')
        == record_of(device.ifindex)
        for device in pair
    )


def _undo(vsctl: tuple[str, ...], bridge: str, dpid: Dpid, dry_run: bool, output: str) -> None:
    names = [pair_name(dpid, end) for end in PairEnd]
    both = " and ".join(map(repr, names))
    ports = run((*vsctl, "list-ports", bridge)).split()
    if dry_run:
        _say(bridge, f"would remove {both} from it, and the devices", output)
        return
    command = list(vsctl)
    for name in names:
        command += ["--", "--if-exists", "del-port", bridge, name]
    run(command)
    was_there = remove_pair(dpid) or not set(names).isdisjoint(ports)
    HAS_CHANGED.set(was_there)
    _say(bridge, f"{both} are removed" if was_there else "it has no segmenting pair", output)


def _say(bridge: str, sentence: str, output: str) -> None:
    print_done(f"bridge {bridge}: {sentence}", {"bridge": bridge, "result": sentence}, output)
