"""Changes of flows in bundles: the switch does all of one at once, or nothing of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

from controller.southbound.openflow.partial_apply import Change, Clearing
from controller.southbound.errors import SwitchRefused, SwitchUnfit, WireError
from controller.southbound.openflow.channel import Exchange
from controller.southbound.wire.flow import encode_clearing, encode_delete
from controller.southbound.wire.error import SwitchError
from controller.southbound.wire.message import (
    BundleStep,
    encode_bundle_add,
    encode_bundle_control,
)
from controller.southbound.wire.template import FlowTemplates
from flows.openflow.flow import Flow

BATCH_BYTES = 1 << 16
"""Messages are sent together until they are about this long."""
NO_BUNDLES = frozenset({"OFPBRC_BAD_EXPERIMENTER", "OFPBRC_BAD_EXP_TYPE", "OFPBRC_BAD_TYPE"})
OPENING = -1
"""Where the message that opens a bundle is, counted like the changes in it."""


class Bundling(Exchange):
    """An exchange with a switch that takes bundles."""

    _next_bundle = 1

    @cached_property
    def _templates(self) -> FlowTemplates:
        return FlowTemplates()

    def _bundle(self, parts: Iterable[Sequence[Change]], step: BundleStep) -> dict[int, str]:
        """Send one bundle, part by part as they come, and end it with ``step``.

        Tells which changes were refused, and why: then none is done. None is done either when
        ``parts`` raises.

        Raises:
            SwitchUnfit: the switch knows no bundles.
            SwitchRefused: it refuses the bundle as a whole, because parts came too late perhaps.
        """
        bundle, self._next_bundle = self._next_bundle, (self._next_bundle + 1) & 0xFFFFFFFF
        self._begin("take a plan", 1)
        batch = bytearray(encode_bundle_control(self._xid(0), bundle, BundleStep.OPEN))
        count, refused = 0, dict[int, str]()
        try:
            for part in parts:
                self._reserve(len(part))
                for change in part:
                    try:
                        batch += self._encode(change, self._xid(count + 1), bundle)
                    except WireError as problem:
                        refused[count] = str(problem)
                    count += 1
                    if len(batch) > BATCH_BYTES:
                        self._send(bytes(batch))
                        batch.clear()
        except BaseException:
            self._send_bytes(encode_bundle_control(self._xid(0), bundle, BundleStep.DISCARD))
            raise
        self._reserve(3)  # after the changes: barrier, end, barrier
        refused |= self._refusals(self._until_barrier(count + 1, bytes(batch)), count)
        if refused:
            step = BundleStep.DISCARD
        ending = encode_bundle_control(self._xid(count + 2), bundle, step)
        return refused | self._refusals(self._until_barrier(count + 3, ending), count)

    def _encode(self, change: Change, xid: int, bundle: int) -> bytes:
        if isinstance(change, Flow):
            return self._templates.encode(change, xid, bundle)
        if isinstance(change, Clearing):
            return encode_bundle_add(bundle, encode_clearing(change.flow, xid))
        return encode_bundle_add(bundle, encode_delete(change, xid))

    def _refusals(self, errors: list[SwitchError], count: int) -> dict[int, str]:
        """Sort errors by the change they belong to; one that belongs to none ends the plan."""
        refused: dict[int, str] = {}
        for problem in errors:
            at = self._offset(problem.xid) - 1
            if at == OPENING and problem.name in NO_BUNDLES:
                raise SwitchUnfit(self.name, ("atomic bundles",))
            if 0 <= at < count:
                refused.setdefault(at, str(problem))
        if errors and not refused:
            raise SwitchRefused(self.name, self._doing, str(errors[0]))
        return refused
