"""/v1/collectors: where copies go."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Literal

from flask import Response
from netaddr import IPAddress

from controller.api.schemas.responses import CollectorOut, CollectorPage, SensorOut
from controller.api.schemas.collector_bodies import CollectorIn, CollectorPatch, misfit
from controller.api.context import (
    BRING_S,
    Context,
    answer,
    context,
    find,
    part,
    resource,
    tenant_of,
    who,
)
from controller.api.idempotency import create_once
from controller.api.problems import not_found, unprocessable
from controller.api.schemas.parameters import CollectorList, NoQuery, OneQuery, Path
from controller.api.sensor_input import SensorChange, read_sensors, sensor_words
from controller.inventory.file import Inventory
from controller.store import CollectorRecord, OnceKey
from flows.model.session import Balance, Collector, CollectorId, Delivery, PortId, Sensor, TagMode
from flows.model.tenancy import check_collector
from flows.model.tunnel import KEY_WORDS, free_key

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
        delivery = Delivery(body.delivery)
        sensors = read_sensors(body.sensors, tenant, inventory)
        _refuse_raised_mtu(body.path_mtu, parts)

        def complete(others: Sequence[Collector]) -> Collector:
            key = body.chosen_key
            if key is None and delivery is not Delivery.PORT:
                key = free_key(delivery, others)
            collector = Collector(
                id=CollectorId(str(uuid.uuid4())),
                name=body.name,
                tenant=tenant,
                sensors=tuple(sensors),
                tenant_tag=_tag(body.tenant_tag),
                delivery=delivery,
                key=key,
                balance=Balance(body.balance),
                path_mtu=body.path_mtu,
            )
            check_collector(collector, {port.id: port for port in inventory.ports})
            return collector

        return parts.store.make_collector(complete, who(), once, _only_probed(sensors)).id

    return create_once(make, _show)


@collectors.get("/<ref>", responses={200: CollectorOut})
def show_collector(path: Path, query: OneQuery) -> Response:
    """Show a collector"""
    return answer(_show(find_collector(path.ref, query.tenant).id))


@collectors.patch("/<ref>", responses={200: CollectorOut})
def change_collector(path: Path, query: OneQuery, body: CollectorPatch) -> Response:
    """Change a collector; its sessions go on meanwhile"""
    parts = context()
    old = find_collector(path.ref, query.tenant)
    inventory = parts.inventory()
    new_sensors = [*(body.sensors or ()), *(body.add_sensors or ())]
    if found := misfit(old.delivery, new_sensors, body.path_mtu):
        raise unprocessable("invalid-value", *found)
    _refuse_raised_mtu(body.path_mtu, parts)
    sensors_of = SensorChange(body, old, inventory)
    given = body.model_fields_set & {"name", "tenant_tag", "balance", "path_mtu"}
    values: dict[str, Any] = {key: getattr(body, key) for key in given}
    if "tenant_tag" in values:
        values["tenant_tag"] = _tag(body.tenant_tag)
    if "balance" in values:
        values["balance"] = Balance(values["balance"])

    def change(record: CollectorRecord) -> CollectorRecord:
        sensors = sensors_of(record)
        collector = dataclasses.replace(record.collector, sensors=tuple(sensors), **values)
        check_collector(collector, {port.id: port for port in inventory.ports})
        return dataclasses.replace(record, collector=collector, probes=_only_probed(sensors))

    parts.store.change_collector(old.id, change, who())
    parts.reconcile.bring(BRING_S)
    return answer(_show(old.id))


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
    names = {port.id: port.name for port in inventory.ports if port.id in collector.tap_ports}
    keys: dict[str, int | None] = dict.fromkeys(KEY_WORDS.values())
    if collector.delivery in KEY_WORDS:
        keys[KEY_WORDS[collector.delivery]] = collector.key
    return CollectorOut(
        id=collector.id,
        name=collector.name,
        tenant=collector.tenant,
        delivery=collector.delivery.value,
        sensors=[_shown_sensor(sensor, record, names) for sensor in collector.sensors],
        **keys,
        tenant_tag=_shown_tag(collector.tenant_tag),
        balance=collector.balance.value,
        path_mtu=collector.path_mtu,
        created_at=record.created_at.isoformat(),
    )


def _shown_sensor(
    sensor: Sensor, record: CollectorRecord, names: Mapping[PortId, str]
) -> SensorOut:
    port = None if isinstance(sensor, IPAddress) else sensor
    return SensorOut(
        port=None if port is None else names.get(port, port),
        port_id=port,
        address=str(sensor) if port is None else None,
        probe=record.probes.get(sensor),
        words=sensor_words(record.collector, sensor, names),
    )


def _refuse_raised_mtu(path_mtu: int | None, parts: Context) -> None:
    """A tenant may say that its path carries less, never that it carries more."""
    if path_mtu is not None and path_mtu > parts.underlay_mtu:
        raise unprocessable(
            "invalid-value",
            f"path_mtu {path_mtu} is more than the {parts.underlay_mtu} bytes that the network of "
            "the hosts carries: only its operator can raise that ([bridges] underlay_mtu)",
            "path_mtu",
        )


def _only_probed(sensors: Mapping[Sensor, str | None]) -> dict[Sensor, str]:
    return {sensor: probe for sensor, probe in sensors.items() if probe is not None}


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
