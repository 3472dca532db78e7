"""/v1/bridges, audit and status: what runs, what was changed, and how everything is."""

from __future__ import annotations

from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version

from flask import Response

from controller.api.schemas.responses import (
    AuditOut,
    AuditPage,
    BridgeOut,
    BridgePage,
    FlowsOut,
    SystemOut,
    TotalsOut,
)
from controller.api.context import BRING_S, Context, answer, context, part, resource, who
from controller.api.problems import bad_request, conflict, not_found
from controller.api.schemas.parameters import AuditList, BridgeList, NoQuery, Path
from controller.api.v1.sessions import Shower
from controller.status.values import BridgeStatus, State

bridges = resource("bridges", "Virtual switches that connect, or that ports are placed on.")
audit = resource("audit", "Every change: when, who, what.")
status = resource("status", "The whole system at one look.")


@bridges.get("", responses={200: BridgePage})
def list_bridges(query: BridgeList) -> Response:
    """List bridges"""
    shown = [_shown(bridge) for bridge in context().reconcile.bridges()]
    shown = [b for b in shown if query.name in (None, b.name) and query.state in (None, b.state)]
    items, following = part(shown, query, lambda bridge: bridge.id)
    return answer(BridgePage(items=items, next=following))


@bridges.get("/<ref>", responses={200: BridgeOut})
def show_bridge(path: Path, query: NoQuery) -> Response:
    """Show a bridge"""
    return answer(_shown(_find(path.ref, context())))


@bridges.delete("/<ref>", responses={204: None})
def forget_bridge(path: Path, query: NoQuery) -> Response:
    """Forget a bridge that is not connected and will not come back

    Sessions and numbers wait for it no longer. Forget none that still forwards packets: numbers
    that it uses may be given to other networks, and its packets would be taken for theirs.
    """
    parts = context()
    parts.reconcile.forget(_find(path.ref, parts).dpid, who())
    parts.reconcile.bring(BRING_S)
    return Response(status=HTTPStatus.NO_CONTENT)


@bridges.get("/<ref>/flows", responses={200: FlowsOut})
def show_flows(path: Path, query: NoQuery) -> Response:
    """Show the flows that a bridge should have"""
    parts = context()
    bridge = _find(path.ref, parts)
    flows = list(parts.reconcile.flows(bridge.dpid))
    return answer(FlowsOut(id=f"{bridge.dpid:016x}", bridge=bridge.name, flows=flows))


@audit.get("", responses={200: AuditPage})
def list_audit(query: AuditList) -> Response:
    """List changes, newest first"""
    before = None
    if query.marker is not None:
        if not (query.marker.isascii() and query.marker.isdigit() and len(query.marker) < 19):
            raise bad_request("bad-marker", f"marker {query.marker!r} is not a number", "marker")
        before = int(query.marker)
    given = query.model_dump(exclude={"limit", "marker"}, exclude_none=True)
    # one more than asked for tells whether there is a next part
    found = context().store.audit(given, before, query.limit + 1)
    items = [
        AuditOut(
            number=e.number,
            at=e.at.isoformat(),
            who=e.who,
            what=e.what,
            kind=e.kind,
            id=e.id,
            name=e.name,
            tenant=e.tenant,
            detail=dict(e.detail),
        )
        for e in found[: query.limit]
    ]
    following = str(items[-1].number) if len(found) > query.limit else None
    return answer(AuditPage(items=items, next=following))


@status.get("", responses={200: SystemOut})
def show_status(query: NoQuery) -> Response:
    """Show the whole system"""
    parts = context()
    inventory = parts.inventory()
    shower = Shower(parts)
    shown = [shower.show(record) for record in parts.store.sessions()]
    placed = [port for port in inventory.ports if parts.reconcile.place_of(port.id)]
    return answer(
        SystemOut(
            version=cloudtap_version(),
            problems=list(parts.reconcile.problems()),
            totals=TotalsOut(
                tenants=len(inventory.tenants),
                networks=len(inventory.networks),
                ports=len(inventory.ports),
                placed=len(placed),
                collectors=len(parts.store.collectors()),
                sessions=len(shown),
                active=sum(s.status.state == State.ACTIVE.value for s in shown),
            ),
            bridges=[_shown(bridge) for bridge in parts.reconcile.bridges()],
            sessions=shown,
        )
    )


def cloudtap_version() -> str:
    """The installed version."""
    try:
        return version("cloudtap")
    except PackageNotFoundError:
        return "not installed"


def _find(ref: str, parts: Context) -> BridgeStatus:
    """A bridge by its datapath id (16 hex digits), else by its name."""
    everything = parts.reconcile.bridges()
    found = [b for b in everything if f"{b.dpid:016x}" == ref.lower()]
    found = found or [b for b in everything if b.name == ref]
    if not found:
        raise not_found("bridge", ref)
    if len(found) > 1:
        ids = ", ".join(f"{b.dpid:016x}" for b in found)
        raise conflict("ambiguous-name", f"several bridges are called {ref!r}: use an id: {ids}")
    return found[0]


def _shown(bridge: BridgeStatus) -> BridgeOut:
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
    )
