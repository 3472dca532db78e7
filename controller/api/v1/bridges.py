"""/v1/bridges: the virtual switches, and the flows that they should have."""

from __future__ import annotations

from flask import Response

from controller.api.context import (
    Context,
    actor,
    answer,
    bring_about,
    context,
    no_content,
    page,
    resource,
)
from controller.api.lookup import listed_bridges
from controller.api.problems import conflict, not_found
from controller.api.schemas import BridgeList, BridgeOut, BridgePage, FlowsOut, NoQuery, Path
from controller.process import did_you_mean
from controller.status import BridgeStatus
from flows.model import BridgeReference

bridges = resource("bridges", "Virtual switches that connect, or that ports are placed on.")


@bridges.get("", responses={200: BridgePage})
def list_bridges(query: BridgeList) -> Response:
    """List bridges"""
    known = context().inspector.bridges()
    if query.name is not None:
        named = listed_bridges(query.name, known, "name")
        known = [bridge for bridge in known if bridge.dpid in named]
    shown = [show(bridge) for bridge in known]
    shown = [bridge for bridge in shown if query.state in (None, bridge.state)]
    items, following = page(shown, query, lambda bridge: bridge.id)
    return answer(BridgePage(items=items, next=following))


@bridges.get("/<ref>", responses={200: BridgeOut})
def show_bridge(path: Path, query: NoQuery) -> Response:
    """Show a bridge"""
    return answer(show(_find(path.ref, context())))


@bridges.delete("/<ref>", responses={204: None})
def forget_bridge(path: Path, query: NoQuery) -> Response:
    """Forget a bridge that is not connected and will not come back

    Sessions and numbers wait for it no longer. Forget none that still forwards packets: numbers
    that it uses may be given to other networks, and its packets would be taken for theirs.
    """
    parts = context()
    parts.reconciler.forget(_find(path.ref, parts).dpid, actor())
    bring_about()
    return no_content()


@bridges.get("/<ref>/flows", responses={200: FlowsOut})
def show_flows(path: Path, query: NoQuery) -> Response:
    """Show the flows that a bridge should have"""
    parts = context()
    bridge = _find(path.ref, parts)
    flows = list(parts.inspector.flows(bridge.dpid))
    return answer(FlowsOut(id=f"{bridge.dpid:016x}", bridge=bridge.name, flows=flows))


def show(bridge: BridgeStatus) -> BridgeOut:
    """A bridge as an answer."""
    return BridgeOut(
        id=f"{bridge.dpid:016x}",
        name=bridge.name,
        state=bridge.state.value,
        reasons=list(bridge.reasons),
        connected=bridge.connected,
        ports=bridge.ports,
        flows=bridge.flows,
        plans=bridge.plans,
        errors=bridge.errors,
        shed=bridge.shed,
        hosts=list(bridge.hosts),
    )


def _find(ref: str, parts: Context) -> BridgeStatus:
    """A bridge by datapath id, by name, or by name and host (see BridgeReference)."""
    known, reference = parts.inspector.bridges(), BridgeReference(ref)
    found = [b for b in known if b.dpid == reference.dpid]
    found = found or [b for b in known if reference.means(b.dpid, b.name, b.hosts)]
    if not found:
        raise not_found("bridge", ref, hint=did_you_mean(ref, (b.name for b in known)))
    if len(found) > 1:
        ids = ", ".join(f"{b.dpid:016x}" for b in found)
        raise conflict(
            "ambiguous-name",
            f"several bridges are called {ref!r}: write the host, too (BRIDGE@HOST), or an id: "
            f"{ids}",
        )
    return found[0]
