"""/v1/status: the whole system in one answer."""

from __future__ import annotations

from flask import Response

from controller.api.context import answer, cloudtap_version, context, resource
from controller.api.schemas import NoQuery, SystemOut, TotalsOut, UndeclaredOut, UnplacedOut
from controller.api.session_output import SessionPresenter
from controller.api.v1.bridges import show
from controller.status import State

LEFT_OUT_MAX = 20
"""How many ports without a place, and interfaces without a port, the status names."""

status = resource("status", "The whole system at one look.")


@status.get("", responses={200: SystemOut})
def show_status(query: NoQuery) -> Response:
    """Show the whole system"""
    parts = context()
    inventory = parts.inventory()
    presenter = SessionPresenter(parts)
    sessions = list(presenter.show_all(parts.store.sessions.all()))
    placed = parts.inspector.places_of(port.id for port in inventory.ports)
    unplaced = [port for port in inventory.ports if port.id not in placed]
    undeclared = parts.inspector.undeclared()
    return answer(
        SystemOut(
            version=cloudtap_version(),
            problems=list(parts.inspector.problems()),
            totals=TotalsOut(
                tenants=len(inventory.tenants),
                networks=len(inventory.networks),
                ports=len(inventory.ports),
                placed=len(inventory.ports) - len(unplaced),
                undeclared=len(undeclared),
                collectors=len(parts.store.collectors.all()),
                sessions=len(sessions),
                active=sum(s.status.state == State.ACTIVE.value for s in sessions),
            ),
            unplaced=[
                UnplacedOut(id=port.id, name=port.name, tenant=port.tenant)
                for port in unplaced[:LEFT_OUT_MAX]
            ],
            undeclared=[
                UndeclaredOut(bridge=bridge, interface=interface)
                for bridge, interface in undeclared[:LEFT_OUT_MAX]
            ],
            bridges=[show(bridge) for bridge in parts.inspector.bridges()],
            sessions=sessions,
        )
    )
