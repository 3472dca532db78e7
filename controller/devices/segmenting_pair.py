"""Segmenting pairs: veth devices without offloads that make frames of super-frames.

A bridge of the kernel's datapath needs one, with both ends as ports, to truncate copies. It is made
on the host of the bridge, because only there devices and their offloads can be set.
"""

from __future__ import annotations

import json
import subprocess
from enum import Enum

from controller.devices.ioctl import DeviceName
from controller.devices.names import device_name
from controller.devices.offloads import switch_off_offloads
from controller.devices.pair_state import PAIR_MTU, PairDevices, read_pair_states
from flows.model import Dpid, PairState

IP_TIMEOUT_S = 10.0


class PairEnd(Enum):
    """The ends of a segmenting pair; the value of ``external_ids:cloudtap-segments``."""

    OUT = "out"
    """Where the bridge sends super-frames."""
    BACK = "back"
    """Where their frames come back."""


class PairFailed(Exception):
    """A segmenting pair could not be made or removed; the message says why."""


_LETTERS = {PairEnd.OUT: "o", PairEnd.BACK: "b"}
"""No kind of tunnel has one of these."""


def pair_name(dpid: Dpid, end: PairEnd) -> str:
    """The name of the device at one end of the segmenting pair of a bridge."""
    return device_name(_LETTERS[end], dpid)


def end_of(dpid: Dpid, name: str, mark: str) -> PairEnd | None:
    """Which end a port is by its name and mark, which must agree; None if it is none."""
    return next((e for e in PairEnd if (e.value, pair_name(dpid, e)) == (mark, name)), None)


def is_pair_ready(dpid: Dpid) -> bool:
    """Whether the devices exist, belong together, are up, and leave nothing to others.

    Raises:
        PairFailed: there is another device of such a name.
    """
    pair = find_pair(dpid)
    return pair is not None and read_pair_states([pair])[pair] is PairState.SOUND


def find_pair(dpid: Dpid) -> PairDevices | None:
    """The devices; None if there are none.

    Raises:
        PairFailed: there is another device of such a name.
    """
    out, back = (_device(dpid, end) for end in PairEnd)
    if out is None or back is None:
        return None
    names = (pair_name(dpid, end) for end in PairEnd)
    return PairDevices(*(map(DeviceName, names, (out, back))))


def make_pair(dpid: Dpid) -> PairDevices:
    """Make the devices, without offloads, with the longest MTU and up; what is there already stays.

    Raises:
        PairFailed: another device has such a name, or this process may not.
    """
    out, back = (pair_name(dpid, end) for end in PairEnd)
    mtu = ("mtu", str(PAIR_MTU))
    if find_pair(dpid) is None:
        _ip("link", "add", out, *mtu, "type", "veth", "peer", "name", back, *mtu)
    pair = find_pair(dpid)
    if pair is None:
        raise PairFailed(f"devices {out!r} and {back!r} have gone again")
    for device, why in switch_off_offloads(pair).items():
        raise PairFailed(f"the offloads of device {device.name!r} cannot be switched off: {why}")
    for name in (out, back):
        # nothing of this host is to speak there: no router solicitations, no MLD reports
        _ip("link", "set", name, "addrgenmode", "none")
        _ip("link", "set", name, *mtu, "up")
    return pair


def remove_pair(dpid: Dpid) -> bool:
    """Remove the devices; whether there were any.

    Raises:
        PairFailed: another device has such a name, or this process may not.
    """
    if _device(dpid, PairEnd.OUT) is None:
        return False
    _ip("link", "delete", pair_name(dpid, PairEnd.OUT))
    return True


def _device(dpid: Dpid, end: PairEnd) -> int | None:
    """The index of a device of the pair; None if there is none.

    Raises:
        PairFailed: a device of this name is no veth device whose peer is the other end.
    """
    name = pair_name(dpid, end)
    other = PairEnd.BACK if end is PairEnd.OUT else PairEnd.OUT
    done = _run("ip", "-json", "-details", "link", "show", "dev", name)
    if done.returncode:
        return None
    [link] = json.loads(done.stdout)
    if link.get("link") != pair_name(dpid, other):
        raise PairFailed(
            f"there is a device {name!r} already, which is not ours: give it another name"
        )
    return int(link["ifindex"])


def _ip(*words: str) -> None:
    done = _run("ip", *words)
    if done.returncode:
        why = done.stderr.strip().removeprefix("RTNETLINK answers: ")
        more = ": run this as root (CAP_NET_ADMIN)" if "not permitted" in why else ""
        raise PairFailed(f"`ip {' '.join(words)}` has failed: {why}{more}")


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=IP_TIMEOUT_S
        )
    except FileNotFoundError as error:
        raise PairFailed("`ip` is missing: install the package iproute2") from error
    except subprocess.TimeoutExpired as error:
        raise PairFailed(f"`{' '.join(command)}` does not end") from error
