"""Sends changes of flows in bundles: the switch applies all changes of one atomically, or none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from controller.southbound.errors import SwitchRefused, SwitchUnfit, WireError
from controller.southbound.openflow.channel import Channel
from controller.southbound.openflow.partial_apply import Clearing, FlowChange
from controller.southbound.wire import (
    BundleControl,
    ErrorMessage,
    FlowTemplates,
    encode_bundle_add,
    encode_bundle_control,
    encode_flow_clear,
    encode_flow_delete,
)
from flows.openflow import Flow

BATCH_BYTES = 1 << 16
"""Messages are sent in batches of about this length."""
NO_BUNDLES = frozenset({"OFPBRC_BAD_EXPERIMENTER", "OFPBRC_BAD_EXP_TYPE", "OFPBRC_BAD_TYPE"})
OPENING = -1
"""The position of the message that opens a bundle; that of the first change is 0."""


class BundleWriter:
    """Writes bundles to the switch of a channel, whose lock the caller holds."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._next_bundle = 1
        self._templates = FlowTemplates()

    def write(
        self,
        parts: Iterable[Sequence[FlowChange]],
        end: BundleControl,
        most_s: float = math.inf,
    ) -> dict[int, str]:
        """Send one bundle, part by part as ``parts`` yields them, then ``end`` it.

        Returns the reason by position of each change that was refused; then none is applied. None
        is applied either if ``parts`` raises. ``most_s`` limits how long the switch is waited for.

        Raises:
            SwitchUnfit: the switch does not support bundles.
            SwitchRefused: it refuses the bundle as a whole, for example because of its timeout.
        """
        channel, bundle = self._channel, self._next_bundle
        self._next_bundle = (bundle + 1) & 0xFFFFFFFF
        channel.begin("take a plan", 1, most_s=most_s)
        batch = bytearray(encode_bundle_control(channel.xid(0), bundle, BundleControl.OPEN))
        count, refused = 0, dict[int, str]()
        try:
            for part in parts:
                channel.reserve(len(part))
                for change in part:
                    try:
                        batch += self._encode(change, channel.xid(count + 1), bundle)
                    except WireError as problem:
                        refused[count] = str(problem)
                    count += 1
                    if len(batch) > BATCH_BYTES:
                        channel.send(bytes(batch))
                        batch.clear()
        except BaseException:
            discard = encode_bundle_control(channel.xid(0), bundle, BundleControl.DISCARD)
            channel.try_send(discard)
            raise
        channel.reserve(3)  # after the changes: barrier, end of the bundle, barrier
        refused |= self._refusals(channel.send_with_barrier(count + 1, bytes(batch)), count)
        if refused:
            end = BundleControl.DISCARD
        ending = encode_bundle_control(channel.xid(count + 2), bundle, end)
        return refused | self._refusals(channel.send_with_barrier(count + 3, ending), count)

    def _encode(self, change: FlowChange, xid: int, bundle: int) -> bytes:
        if isinstance(change, Flow):
            return self._templates.encode(change, xid, bundle)
        if isinstance(change, Clearing):
            return encode_bundle_add(bundle, encode_flow_clear(change.flow, xid))
        return encode_bundle_add(bundle, encode_flow_delete(change, xid))

    def _refusals(self, errors: list[ErrorMessage], count: int) -> dict[int, str]:
        """The reason by position of each refused change.

        Raises:
            SwitchUnfit, SwitchRefused: all errors belong to the bundle itself, not to a change.
        """
        channel, refused = self._channel, dict[int, str]()
        for problem in errors:
            position = channel.offset(problem.xid) - 1
            if position == OPENING and problem.name in NO_BUNDLES:
                raise SwitchUnfit(channel.name, ("atomic bundles",))
            if 0 <= position < count:
                refused.setdefault(position, str(problem))
        if errors and not refused:
            raise SwitchRefused(channel.name, channel.request, str(errors[0]))
        return refused
