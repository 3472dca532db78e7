"""The flows of a tap bridge: packets that Mirrors of an owner's bridge have copied to it.

It forwards nothing: what comes in at the patch port of a Mirror loses the tag of its VLAN, if that
is not the workload's own, and goes to the sessions that have the Mirror. Those that share one take
the packets from and to the MAC addresses of their ports, in their networks. Everything else is
dropped, and nothing is ever sent to a patch port: nothing can get into the owner's bridge.
"""

from __future__ import annotations

from collections.abc import Iterator

from flows.compile.production import BY_TAG, TAP_PORT, WORKLOAD
from flows.model import Attachment, NetworkId, Ofport
from flows.openflow import (
    NOTHING,
    PRODUCTION,
    VLAN_PRESENT,
    Action,
    Flow,
    Load,
    Match,
    PopVlan,
    Resubmit,
    Steps,
    make_flow,
)
from flows.pipeline import (
    ACCEPT,
    AGREED,
    COPIED_FROM,
    COPIED_TO,
    EGRESS,
    NETWORK,
    START,
    VERDICT,
)
from flows.resolve import BridgeView, Vlans, networks_of


def compile_tap_bridge(view: BridgeView, attachment: Attachment) -> Iterator[Flow]:
    """Every flow of a tap bridge that does not depend on sessions."""
    why = "nothing comes from the owner's bridge but copies"
    yield make_flow(START.pattern("nothing"), (), NOTHING, PRODUCTION, why)
    for tap in view.tap_ports:
        why = f"tap port {tap.id} is receive-only"
        yield make_flow(TAP_PORT, (view.ofport(tap),), NOTHING, PRODUCTION, why)
    for key, patch in attachment.mirrors.items():
        vlans = networks_of(key, view.dpid, view.workloads, view.world)
        if vlans is not None:
            yield from _start_mirror(view, patch, vlans)
    why = "the other list of rules accepts it, too"
    match = Match.of(VERDICT.eq(1))
    go = (Resubmit(ACCEPT.number),)
    yield Flow(AGREED.number, AGREED["agreed"], match, go, PRODUCTION, why)
    why = "only one list of rules accepts it"
    yield Flow(AGREED.number, AGREED["alone"], Match.of(), (), PRODUCTION, why)
    why = "no session tells packets by this address"
    for table in (COPIED_FROM, COPIED_TO):
        yield Flow(table.number, table["nothing"], Match.of(), (), PRODUCTION, why)


def _start_mirror(view: BridgeView, patch: Ofport, vlans: Vlans) -> Iterator[Flow]:
    """Where the copies of one Mirror come in."""
    for vlan, network in sorted(vlans.tagged.items()):
        steps = Steps.of(PopVlan(), *_to_sessions(view, network))
        why = f"copied by a Mirror, without the tag of VLAN {vlan}"
        yield make_flow(BY_TAG, (patch, VLAN_PRESENT | vlan), steps, PRODUCTION, why)
    if vlans.other is not None:
        steps = Steps.of(*_to_sessions(view, vlans.other))
        yield make_flow(WORKLOAD, (patch,), steps, PRODUCTION, "copied by a Mirror")


def _to_sessions(view: BridgeView, network: NetworkId) -> tuple[Action, ...]:
    load = Load(NETWORK, view.world.numbers.network[network])
    return load, *(Resubmit(table.number) for table in (EGRESS, COPIED_FROM, COPIED_TO))
