"""Sensors in requests, and in words."""

from __future__ import annotations

from collections.abc import Mapping

from netaddr import IPAddress

from controller.api.collector_bodies import SensorIn, read_address, read_probe
from controller.api.context import find_own
from controller.api.problems import unprocessable
from controller.inventory import Inventory
from flows.model import Collector, PortId, Sensor, TenantName
from flows.tunnel import KEY_WORDS


def read_sensors(
    given: list[SensorIn], tenant: TenantName, inventory: Inventory
) -> dict[Sensor, str | None]:
    """The sensors that a body names, in its order, each with its probe.

    Raises:
        ApiProblem: a tap port is not there, or a sensor is named twice.
    """
    found: dict[Sensor, str | None] = {}
    for index, one in enumerate(given):
        where = f"sensors.{index}"
        sensor: Sensor
        if one.address is not None:
            sensor, where = read_address(one.address), f"{where}.address"
        else:
            ref, where = one.port or "", f"{where}.port"
            sensor = PortId(find_own("port", inventory.ports, ref, tenant, where).id)
        if sensor in found:
            what = one.address or one.port
            raise unprocessable("invalid-value", f"sensor {what!r} is named twice", where)
        found[sensor] = None if one.probe is None else read_probe(one.probe)
    return found


def sensor_words(collector: Collector, sensor: Sensor, names: Mapping[PortId, str]) -> str:
    """A sensor for people: the name of its tap port, or like ``vxlan 192.0.2.9 vni 7001``."""
    if not isinstance(sensor, IPAddress):
        return names.get(sensor, sensor)
    word = KEY_WORDS[collector.delivery].replace("_", " ")
    return f"{collector.delivery.value} {sensor} {word} {collector.key}"
