"""Epochs: have every megaflow of a bridge replaced, by what a bundle of flow changes can do alone.

A flow that no packet ever matches is above all others of the first table. Open vSwitch has to look
at it, so each megaflow matches the bits of ``pkt_mark`` that it asks for (0 in every packet). The
flow of the next epoch asks for other bits: the revalidators find that no megaflow from before is
specific enough, and delete it. Where a switch cannot change megaflows correctly, plans therefore
begin a new epoch. See docs/decisions/0024-brought-through-to-the-datapath.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from xxhash import xxh3_64_intdigest

from flows.model import Dpid
from flows.openflow import EPOCH_OBJECT, PKT_MARK, Flow, Match, is_ours, object_of
from flows.pipeline import EPOCH, REREAD, START
from flows.plan import InstalledFlow, InstalledFlows, Plan

EPOCHS = range(1, 1 << EPOCH.bits)
"""Their numbers; after the last comes the first again."""
MASK_BITS = 11
"""Bits of ``pkt_mark`` that each epoch asks for, of 32. Two masks with equally many bits never
contain each other, and there are 129 million. Where patch ports join bridges, a megaflow has the
bits of several bridges: they contain those of a new epoch once in thousands of times."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """The flows of epochs that a bridge has: those of one, or none before its first plan."""

    flows: tuple[InstalledFlow, ...] = ()

    def follow(self, dpid: Dpid, todo: Plan) -> tuple[Plan, Epoch]:
        """The same plan with the flow of the next epoch in place of these; the epoch after it."""
        numbers = [number for flow in self.flows for number in _numbers(flow)]
        number = max(numbers, default=0) + 1
        flows = epoch_flows(dpid, number if number in EPOCHS else EPOCHS.start)
        installed = [InstalledFlow(f.table, f.priority, f.match, f.cookie) for f in flows]
        plan = replace(todo, add=(*todo.add, *flows), remove=(*todo.remove, *self.flows))
        return plan, Epoch(tuple(installed))

    def without(self, refused: Iterable[Flow]) -> Epoch:
        """What a bridge has of it if it refused some flows."""
        keys = {flow.key for flow in refused}
        return Epoch(tuple(flow for flow in self.flows if flow.key not in keys))


def epoch_flows(dpid: Dpid, number: int) -> tuple[Flow, ...]:
    """The flows of one epoch of a bridge; no packet has the number in that register.

    There is one wherever a megaflow begins: where a packet comes in, and after it was read again.
    """
    mask = _mask(dpid, number)
    match = Match.of(EPOCH.eq(number), PKT_MARK.masked(mask, mask))
    why = "megaflows from before the last plan do not fit this flow: they are made again"
    return tuple(
        Flow(table.number, table["epoch"], match, (), EPOCH_OBJECT, why)
        for table in (START, REREAD)
    )


def without_epoch(found: InstalledFlows) -> tuple[InstalledFlows, Epoch]:
    """What a bridge has without the flows of epochs, and these."""
    epochs = tuple(flow for flow in found.others if is_of_epoch(flow))
    if not epochs:
        return found, Epoch()
    others = tuple(flow for flow in found.others if not is_of_epoch(flow))
    return InstalledFlows(found.known, others), Epoch(epochs)


def is_of_epoch(flow: InstalledFlow) -> bool:
    """Whether a flow of ours belongs to an epoch, not to what the bridge should do."""
    return is_ours(flow.cookie) and object_of(flow.cookie) == EPOCH_OBJECT


def _numbers(flow: InstalledFlow) -> Iterable[int]:
    terms = flow.match.terms if flow.match is not None else ()
    return (term.value >> EPOCH.low for term in terms if term.field is EPOCH.field)


def _mask(dpid: Dpid, number: int) -> int:
    """Bits of ``pkt_mark`` chosen by a hash, MASK_BITS of them."""

    def place(bit: int) -> int:
        return xxh3_64_intdigest(f"{dpid:x} {number} {bit}".encode())

    return sum(1 << bit for bit in sorted(range(PKT_MARK.bits), key=place)[:MASK_BITS])
