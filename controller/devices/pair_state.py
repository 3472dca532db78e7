"""What the devices of segmenting pairs do now, seen and set right on the host that has them."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

from controller.devices.ioctl import DeviceName, present_devices
from controller.devices.links import DeviceLink, read_link, set_link_up
from controller.devices.offloads import has_offload, switch_off_offloads
from flows.model import PairState

PAIR_MTU = 65535
"""MTU of the devices, in bytes: any frame passes. The sender chose how long segments are."""
VETH_KIND = "veth"


class PairDevices(NamedTuple):
    """The devices of one segmenting pair."""

    out: DeviceName
    back: DeviceName


def read_pair_states(pairs: Iterable[PairDevices]) -> Mapping[PairDevices, PairState]:
    """What is known of some pairs; UNSEEN if one end, or both, cannot be seen."""
    wanted = tuple(pairs)
    found = dict.fromkeys(wanted, PairState.UNSEEN)
    for inside, here in present_devices({device for pair in wanted for device in pair}):
        for pair in wanted:
            if set(pair) <= set(here):
                with suppress(OSError):  # one has gone
                    found[pair] = _state(inside, pair)
    return found


def mend_pairs(pairs: Iterable[PairDevices]) -> Mapping[PairDevices, str]:
    """Switch offloads off, and set MTU and state, of devices that are the two ends of one veth
    device. Returns why this was not done, for each pair of which it was not.
    """
    wanted = tuple(pairs)
    refused = dict.fromkeys(wanted, "its devices cannot be seen")
    for inside, here in present_devices({device for pair in wanted for device in pair}):
        for pair in wanted:
            if set(pair) <= set(here):
                if why := _mend(inside, pair):
                    refused[pair] = why
                else:
                    del refused[pair]
    return refused


def _mend(inside: socket.socket, pair: PairDevices) -> str:
    """Set one pair right; why not, empty if it is right now."""
    try:
        if not _are_ends(pair, *(read_link(inside, device) for device in pair)):
            return "its devices are not the ends of one veth device"
        if failed := switch_off_offloads(pair):
            device, why = next(iter(failed.items()))
            return f"offloads of {device.name}: {why or 'it has no such setting'}"
        for device in pair:
            set_link_up(inside, device, PAIR_MTU)
        state = _state(inside, pair)
    except OSError as problem:
        return problem.strerror or str(problem)
    return "" if state is PairState.SOUND else f"its devices are {state.value} again"


def _state(inside: socket.socket, pair: PairDevices) -> PairState:
    """What is wrong with a pair, the worst first.

    Raises:
        OSError: a device has gone.
    """
    out, back = (read_link(inside, device) for device in pair)
    if not _are_ends(pair, out, back):
        return PairState.APART
    if any(_has_offload(inside, device) for device in pair):
        return PairState.OFFLOADED
    if min(out.mtu, back.mtu) < PAIR_MTU:
        return PairState.SHORT
    return PairState.SOUND if out.is_up and back.is_up else PairState.DOWN


def _are_ends(pair: PairDevices, out: DeviceLink, back: DeviceLink) -> bool:
    peers = (out.peer, back.peer) == (pair.back.ifindex, pair.out.ifindex)
    return peers and out.kind == back.kind == VETH_KIND


def _has_offload(inside: socket.socket, device: DeviceName) -> bool:
    try:
        return has_offload(inside, device)
    except OSError as problem:
        if problem.errno == errno.EOPNOTSUPP:
            return False
        raise
