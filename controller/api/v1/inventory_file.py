"""/v1/inventory: the inventory file, and the operator's word for a file that lacks much."""

from __future__ import annotations

from flask import Response

from controller.api.context import actor, answer, bring_about, context, resource
from controller.api.schemas import AcceptIn, InventoryOut, NoQuery, PendingOut
from controller.inventory import Pending

MISSING_SHOWN = 1000
"""So many of the missing ports are named."""

inventory = resource("inventory", "The inventory file, and whether it is used.")


@inventory.get("", responses={200: InventoryOut})
def show_inventory(query: NoQuery) -> Response:
    """Show what is declared, and whether a changed file waits to be accepted"""
    return answer(_shown())


@inventory.post("/accept", responses={200: InventoryOut})
def accept_inventory(body: AcceptIn) -> Response:
    """Use a changed file although much of what runs is missing from it"""
    parts = context()
    pending = parts.inventory_control.pending
    if pending is not None and pending.digest == body.digest:
        parts.store.audit.note_inventory(body.digest, actor(), {"missing": pending.sentence})
    parts.inventory_control.accept(body.digest)
    bring_about()
    return answer(_shown())


def _shown() -> InventoryOut:
    parts = context()
    declared = parts.inventory()
    return InventoryOut(
        tenants=len(declared.tenants),
        networks=len(declared.networks),
        ports=len(declared.ports),
        links=len(declared.links),
        problems=list(parts.inventory_control.problems),
        pending=_pending(parts.inventory_control.pending),
    )


def _pending(pending: Pending | None) -> PendingOut | None:
    if pending is None:
        return None
    return PendingOut(
        digest=pending.digest,
        summary=pending.sentence,
        missing=list(pending.missing[:MISSING_SHOWN]),
        missing_count=len(pending.missing),
    )
