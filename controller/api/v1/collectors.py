"""/v1/collectors: the sensors that copies are delivered to, and how."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

from flask import Response
from netaddr import IPAddress

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
from controller.api.idempotency import create_once
from controller.api.lookup import check_name, check_tenant, existing, find, tenant_of
from controller.api.problems import unprocessable
from controller.api.schemas import (
    CollectorIn,
    CollectorList,
    CollectorOut,
    CollectorPage,
    CollectorPatch,
    NoQuery,
    OneQuery,
    Path,
    SensorOut,
    misfit,
)
from controller.api.sensor_input import SensorChange, probe_notes, read_sensors, sensor_words
from controller.inventory import Inventory
from controller.store import CollectorRecord, IdempotencyKey
from flows.model import (
    KEY_WORDS,
    Balance,
    Collector,
    CollectorId,
    Delivery,
    KeyUse,
    PortId,
    Sensor,
    TagMode,
    check_collector,
    free_key,
)

collectors = resource("collectors", "Where copies go.")


@collectors.get("", responses={200: CollectorPage})
def list_collectors(query: CollectorList) -> Response:
    """List collectors"""
    parts = context()
    stored = parts.store.collectors.all()
    check_tenant(query.tenant, parts.inventory(), (record.collector for record in stored))
    check_name("collector", query.name, query.tenant, (record.collector for record in stored))
    records = [r for r in stored if query.selects(r.collector.tenant, r.collector.name)]
    chosen, following = page(records, query, lambda record: record.collector.id)
    inventory = parts.inventory()
    items = [_shown(record, inventory) for record in chosen]
    return answer(CollectorPage(items=items, next=following))


@collectors.post("", responses={201: CollectorOut})
def create_collector(body: CollectorIn, query: NoQuery) -> Response:
    """Create a collector"""
    parts = context()

    def create(key: IdempotencyKey | None) -> str:
        inventory = parts.inventory()
        tenant = tenant_of(body.tenant, inventory)
        delivery = Delivery(body.delivery)
        sensors = read_sensors(body.sensors, tenant, inventory)
        _refuse_raised_mtu(body.path_mtu, parts)

        def build(others: Sequence[Collector], held: Sequence[KeyUse]) -> Collector:
            tunnel_key = body.chosen_key
            if tunnel_key is None and delivery is not Delivery.PORT:
                tunnel_key = free_key(delivery, others, tenant, held, parts.store.tenants)
            collector = Collector(
                id=CollectorId(str(uuid.uuid4())),
                name=body.name,
                tenant=tenant,
                sensors=tuple(sensors),
                tenant_tag=_tag(body.tenant_tag),
                delivery=delivery,
                key=tunnel_key,
                balance=Balance(body.balance),
                path_mtu=body.path_mtu,
            )
            check_collector(collector, {port.id: port for port in inventory.ports})
            return collector

        return parts.store.collectors.add_built(build, actor(), key, _only_probed(sensors)).id

    return create_once(create, _show)


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

    with _tunnels_made(old, change, parts):
        parts.store.collectors.change(old.id, change, actor())
        bring_about()
    return answer(_show(old.id))


@collectors.delete("/<ref>", responses={204: None})
def delete_collector(path: Path, query: OneQuery) -> Response:
    """Delete a collector that no session uses"""
    parts = context()
    parts.store.collectors.delete(find_collector(path.ref, query.tenant).id, actor())
    bring_about()  # what it had is free for others once bridges have confirmed a world without it
    return no_content()


def _tunnels_made(
    old: Collector, change: Callable[[CollectorRecord], CollectorRecord], parts: Context
) -> AbstractContextManager[None]:
    """Inside, bridges have the tunnel ports for addresses of another family, if copies need them.

    Raises:
        ApiProblem: the change is refused.
    """
    record = parts.store.collectors.find(old.id)
    if record is None or not old.is_tunnelled:
        return nullcontext()
    new = change(record).collector
    if {a.version for a in new.addresses} <= {a.version for a in old.addresses}:
        return nullcontext()
    sessions = (each.session for each in parts.store.sessions.all())
    if not any(each.enabled and each.collector == old.id for each in sessions):
        return nullcontext()
    return parts.reconciler.expecting(new)


def find_collector(ref: str, tenant: str | None) -> Collector:
    """The one collector of this id or name."""
    stored = [record.collector for record in context().store.collectors.all()]
    return find("collector", stored, ref, tenant)


def _show(key: str) -> CollectorOut:
    parts = context()
    record = existing("collector", key, parts.store.collectors.find(key))
    return _shown(record, parts.inventory())


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
        notes=[
            *context().inspector.sensor_notes(collector),
            *probe_notes(record.probes),
        ],
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
    """Refuse a path MTU above that of the underlay: a tenant can only lower it."""
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
