"""/v1/collectors: where copies go."""

from __future__ import annotations

import dataclasses
import uuid
from http import HTTPStatus
from typing import Literal

from flask import Response

from controller.api.answers import CollectorOut, CollectorPage, SensorOut
from controller.api.bodies import CollectorIn, CollectorPatch
from controller.api.context import (
    BRING_S,
    answer,
    context,
    find,
    find_own,
    part,
    resource,
    tenant_of,
    who,
)
from controller.api.once import create_once
from controller.api.problems import not_found
from controller.api.requests import CollectorList, NoQuery, OneQuery, Path
from controller.inventory import Inventory
from controller.store import CollectorRecord, OnceKey
from flows.model import Collector, CollectorId, TagMode
from flows.tenancy import check_collector

collectors = resource("collectors", "Where copies go.")


@collectors.get("", responses={200: CollectorPage})
def list_collectors(query: CollectorList) -> Response:
    """List collectors"""
    parts = context()
    records = [
        record
        for record in parts.store.collectors()
        if query.tenant in (None, record.collector.tenant)
        and query.name in (None, record.collector.name)
    ]
    chosen, following = part(records, query, lambda record: record.collector.id)
    inventory = parts.inventory()
    items = [_shown(record, inventory) for record in chosen]
    return answer(CollectorPage(items=items, next=following))


@collectors.post("", responses={201: CollectorOut})
def create_collector(body: CollectorIn, query: NoQuery) -> Response:
    """Create a collector"""
    parts = context()

    def make(once: OnceKey | None) -> str:
        inventory = parts.inventory()
        tenant = tenant_of(body.tenant, inventory)
        ref = body.sensors[0].port
        sensor = find_own("port", inventory.ports, ref, tenant, "sensors.0.port")
        key = CollectorId(str(uuid.uuid4()))
        collector = Collector(key, body.name, tenant, (sensor.id,), _tag(body.tenant_tag))
        check_collector(collector, {sensor.id: sensor})
        parts.store.add_collector(collector, who(), once)
        return key

    return create_once(make, _show)


@collectors.get("/<ref>", responses={200: CollectorOut})
def show_collector(path: Path, query: OneQuery) -> Response:
    """Show a collector"""
    return answer(_show(find_collector(path.ref, query.tenant).id))


@collectors.patch("/<ref>", responses={200: CollectorOut})
def change_collector(path: Path, query: OneQuery, body: CollectorPatch) -> Response:
    """Change the name or the tag of a collector"""
    parts = context()

    def change(old: Collector) -> Collector:
        name = old.name if body.name is None else body.name
        given = "tenant_tag" in body.model_fields_set
        tag = _tag(body.tenant_tag) if given else old.tenant_tag
        return dataclasses.replace(old, name=name, tenant_tag=tag)

    key = find_collector(path.ref, query.tenant).id
    parts.store.change_collector(key, change, who())
    parts.reconcile.bring(BRING_S)
    return answer(_show(key))


@collectors.delete("/<ref>", responses={204: None})
def delete_collector(path: Path, query: OneQuery) -> Response:
    """Delete a collector that no session uses"""
    parts = context()
    parts.store.delete_collector(find_collector(path.ref, query.tenant).id, who())
    return Response(status=HTTPStatus.NO_CONTENT)


def find_collector(ref: str, tenant: str | None) -> Collector:
    """The one collector of this id or name."""
    everything = [record.collector for record in context().store.collectors()]
    return find("collector", everything, ref, tenant)


def _show(collector: str) -> CollectorOut:
    parts = context()
    for record in parts.store.collectors():
        if record.collector.id == collector:
            return _shown(record, parts.inventory())
    raise not_found("collector", collector)


def _shown(record: CollectorRecord, inventory: Inventory) -> CollectorOut:
    collector = record.collector
    name_by_id = {port.id: port.name for port in inventory.ports if port.id in collector.sensors}
    return CollectorOut(
        id=collector.id,
        name=collector.name,
        tenant=collector.tenant,
        sensors=[
            SensorOut(port=name_by_id.get(sensor, sensor), port_id=sensor)
            for sensor in collector.tap_ports
        ],
        tenant_tag=_shown_tag(collector.tenant_tag),
        created_at=record.created_at.isoformat(),
    )


def _tag(given: Literal["auto"] | int | None) -> TagMode | int:
    match given:
        case None:
            return TagMode.NONE
        case int():
            return given
        case _:
            return TagMode.AUTO


def _shown_tag(tag: TagMode | int) -> Literal["auto"] | int | None:
    match tag:
        case TagMode.NONE:
            return None
        case TagMode.AUTO:
            return "auto"
        case number:
            return number
