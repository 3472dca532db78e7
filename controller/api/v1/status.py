"""/v1/status: the whole system in one answer."""

from __future__ import annotations

from flask import Response

from controller.api.context import answer, cloudtap_version, context, resource
from controller.api.schemas import (
    NoQuery,
    SystemOut,
    TotalsOut,
    UndeclaredOut,
    UnopenedOut,
    UnplacedOut,
)
from controller.api.session_output import SessionPresenter
from controller.api.v1.bridges import show
from controller.inventory import InterfaceName, Inventory, port_line
from controller.status import State, UndeclaredInterface

LEFT_OUT_MAX = 20
"""How many ports without a place, interfaces without a port, and broken ones the status names."""

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
    why = parts.inspector.looked_for(port.id for port in unplaced[:LEFT_OUT_MAX])
    left_out = parts.inspector.left_out(LEFT_OUT_MAX)
    return answer(
        SystemOut(
            version=cloudtap_version(),
            problems=list(parts.inspector.problems()),
            totals=TotalsOut(
                tenants=len(inventory.tenants),
                networks=len(inventory.networks),
                ports=len(inventory.ports),
                placed=len(inventory.ports) - len(unplaced),
                undeclared=left_out.undeclared_count,
                unopened=left_out.unopened_count,
                collectors=len(parts.store.collectors.all()),
                sessions=len(sessions),
                active=sum(s.status.state == State.ACTIVE.value for s in sessions),
            ),
            unplaced=[
                UnplacedOut(
                    id=port.id, name=port.name, tenant=port.tenant, reason=why.get(port.id, "")
                )
                for port in unplaced[:LEFT_OUT_MAX]
            ],
            undeclared=[_undeclared(one, inventory) for one in left_out.undeclared],
            unopened=[
                UnopenedOut(bridge=one.bridge, interface=one.interface, error=one.error)
                for one in left_out.unopened
            ],
            bridges=[show(bridge) for bridge in parts.inspector.bridges()],
            sessions=sessions,
        )
    )


def _undeclared(one: UndeclaredInterface, inventory: Inventory) -> UndeclaredOut:
    place = InterfaceName(one.reference, one.interface)
    line = port_line(inventory, place, one.iface_id, one.mac)
    return UndeclaredOut(bridge=one.bridge, interface=one.interface, line=line)
