"""cloudtap tap-port: prepares the device of a tap port, as root on the host where it is."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Any

import click

from controller.cli.client import HAS_CHANGED, Failure, Values
from controller.cli.command import Command, Group
from controller.cli.options import output_option
from controller.cli.output import print_done
from controller.databases import OFFLOADS
from controller.devices import (
    RECORDED_OFF,
    DeviceName,
    is_virtual,
    read_offloads,
    record_of,
    switch_off_offloads,
)

VSCTL = ("ovs-vsctl", "--timeout=10")
WITHOUT_SUPER_FRAMES = "netdev"
"""The ``datapath_type`` of the userspace datapath, which knows no super-frames."""
VETH = "use one end of a veth pair as tap port in its place"
RESTARTS = (
    "; a virtual machine whose driver starts again switches them on again: define its interface "
    "without guest offloads as well"
)


@dataclass(frozen=True, slots=True)
class _Interface:
    """What the database of this host says of an interface."""

    name: str
    kind: str
    ifindex: int | None
    datapath: str
    recorded: str


@click.group(cls=Group, name="tap-port")
def tap_port() -> None:
    """Devices of tap ports, on the host where they are."""


@tap_port.command(cls=Command)
@click.argument("interface")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@click.option(
    "--database", metavar="TARGET", help="Open vSwitch database, as `ovs-vsctl --db` takes it."
)
@output_option
def prepare(interface: str, dry_run: bool, database: str | None, output: str) -> None:
    """Switch the offloads of a tap port's device off, and record it in the database of its host.

    To be run as root on the host of the tap port, where the controller is on another one; again
    when the device is made anew. Without this a sensor gets frames of up to 64 kB with unfinished
    checksums from a bridge with the kernel datapath.
    """
    vsctl = (*VSCTL, *(() if database is None else (f"--db={database}",)))
    found = _find(vsctl, interface)
    if found.datapath == WITHOUT_SUPER_FRAMES:
        _say(interface, "nothing to do: its bridge has the userspace datapath", output)
        return
    device = _device(found)
    state = read_offloads([device]).get(device)
    if state is None:
        raise Failure(
            f"device {interface!r} with index {device.ifindex}, which the database reports, is not "
            "on this machine: run this on its host"
        )
    if not is_virtual(state.driver):
        _say(interface, f"nothing to do: its driver {state.driver} is of a network card", output)
        return
    steps = ["switch its offloads off"] if state.is_on else []
    if found.recorded not in (RECORDED_OFF, record_of(device.ifindex)):
        steps.append(f"record {OFFLOADS}={record_of(device.ifindex)}")
    if dry_run:
        _say(interface, f"would {' and '.join(steps)}" if steps else _already(), output)
        return
    if state.is_on:
        _switch_off(device)
    if steps[-1:] and steps[-1].startswith("record"):
        value = f"external_ids:{OFFLOADS}={record_of(device.ifindex)}"
        _run((*vsctl, "set", "Interface", interface, value))
    HAS_CHANGED.set(bool(steps))
    more = RESTARTS if state.driver == "tun" else ""
    done = "its offloads are off and recorded" if steps else _already()
    _say(interface, f"{done}{more}", output)


def _already() -> str:
    return "its offloads are off and recorded already"


def _say(interface: str, sentence: str, output: str) -> None:
    value: Values = {"interface": interface, "result": sentence}
    print_done(f"tap port device {interface}: {sentence}", value, output)


def _find(vsctl: tuple[str, ...], interface: str) -> _Interface:
    """What the database says of an interface.

    Raises:
        Failure: it has none of this name, or cannot be asked.
    """
    columns = "type,ifindex,external_ids"
    text = _run((*vsctl, "--format=json", f"--columns={columns}", "list", "Interface", interface))
    found = json.loads(text)
    [row] = found["data"]
    values: dict[str, Any] = dict(zip(found["headings"], row, strict=True))
    bridge = _run((*vsctl, "iface-to-br", interface)).strip()
    datapath = _run((*vsctl, "get", "Bridge", bridge, "datapath_type")).strip().strip('"')
    index = values["ifindex"]
    return _Interface(
        interface,
        str(values["type"]),
        index if isinstance(index, int) and index > 0 else None,
        datapath,
        str(dict(values["external_ids"][1]).get(OFFLOADS, "")),
    )


def _device(found: _Interface) -> DeviceName:
    """The device of an interface.

    Raises:
        Failure: it has none whose offloads could be switched off.
    """
    if found.kind == "internal":
        raise Failure(
            f"{found.name!r} is an internal port, whose offloads cannot be switched off: {VETH}"
        )
    if found.kind not in ("", "system", "tap"):
        raise Failure(f"{found.name!r} is a {found.kind} port, and no device of this host")
    if found.ifindex is None:
        raise Failure(f"{found.name!r} has no device now: make it, and run this again")
    return DeviceName(found.name, found.ifindex)


def _switch_off(device: DeviceName) -> None:
    why = switch_off_offloads([device]).get(device)
    if why is None:
        return
    if not why:
        raise Failure(f"the offloads of device {device.name!r} cannot be switched off: {VETH}")
    raise Failure(
        f"the offloads of device {device.name!r} are still on: {why}: run this as root "
        "(CAP_NET_ADMIN)"
    )


def _run(command: tuple[str, ...]) -> str:
    """What ovs-vsctl prints.

    Raises:
        Failure: it is missing, or has failed.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise Failure(f"cannot start {command[0]!r}: {error.strerror}") from error
    if done.returncode:
        raise Failure(done.stderr.strip() or f"{command[0]} has failed")
    return done.stdout
