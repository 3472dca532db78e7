"""/v1/inventory: the inventory file, and the operator's word for a file that lacks much."""

from __future__ import annotations

from flask import Response

from controller.api.context import actor, answer, bring_about, context, resource
from controller.api.problems import unprocessable
from controller.api.schemas import (
    AcceptIn,
    InventoryDiffOut,
    InventoryOut,
    InventoryTextIn,
    NoQuery,
    PendingOut,
)
from controller.inventory import (
    InventoryError,
    Pending,
    Wanted,
    as_values,
    inventory_diff,
    parse,
)
from flows.model import PortId

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


@inventory.post("/diff", responses={200: InventoryDiffOut})
def show_inventory_diff(body: InventoryTextIn) -> Response:
    """Show what would change if a file took the place of the inventory; it changes nothing"""
    parts = context()
    text = "".join(part.text for part in body.parts)
    try:
        after = parse(text.encode(), "the inventory")
    except InventoryError as error:
        raise unprocessable("invalid-value", str(error), "parts") from error
    before = parts.inventory()
    placed = parts.inspector.places_of(port.id for port in before.ports)
    wanted = Wanted(
        [each.session for each in parts.store.sessions.all() if not each.is_deleting],
        {each.collector.id: each.collector for each in parts.store.collectors.all()},
    )
    diff = inventory_diff(
        before,
        parts.inventory_control.with_others(after),
        running=frozenset(map(PortId, placed)),
        vanish_limit=parts.inventory_control.vanish_limit,
        wanted=wanted,
    )
    return answer(InventoryDiffOut.model_validate(as_values(diff, MISSING_SHOWN)))


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
