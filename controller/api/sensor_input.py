"""Sensors in requests, and in words."""

from __future__ import annotations

from collections.abc import Mapping

from netaddr import IPAddress

from controller.api.schemas.collector_bodies import (
    CollectorPatch,
    SensorIn,
    probed_address,
    read_address,
    read_probe,
)
from controller.api.context import context, find_own
from controller.api.problems import unprocessable
from controller.inventory.file import Inventory
from controller.store import CollectorRecord
from flows.model.session import Collector, PortId, Sensor, TenantName
from flows.model.tunnel import KEY_WORDS


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
        if one.probe is not None:
            _check_place(probed_address(one.probe), f"{where}.probe")
        if one.address is not None:
            sensor, where = read_address(one.address), f"{where}.address"
            _check_place(sensor, where)
        else:
            ref, where = one.port or "", f"{where}.port"
            sensor = PortId(find_own("port", inventory.ports, ref, tenant, where).id)
        if sensor in found:
            what = one.address or one.port
            raise unprocessable("invalid-value", f"sensor {what!r} is named twice", where)
        found[sensor] = None if one.probe is None else read_probe(one.probe)
    return found


def _check_place(address: IPAddress, where: str) -> None:
    """Refuse an address to which the operator lets nothing be sent on behalf of tenants."""
    allowed = context().sensor_networks
    if allowed and not any(address in network for network in allowed):
        places = ", ".join(map(str, allowed))
        sentence = (
            f"address {address} is outside {places}: only the operator of the hosts can allow more "
            "([bridges] sensor_networks)"
        )
        raise unprocessable("invalid-value", sentence, where)


class SensorChange:
    """What a PATCH makes of the sensors of a collector; what it names was looked up before.

    Raises:
        ApiProblem: a tap port is not there, or a sensor is named twice.
    """

    def __init__(self, body: CollectorPatch, old: Collector, inventory: Inventory) -> None:
        self._collector = old
        self._all = None
        if body.sensors is not None:
            self._all = read_sensors(body.sensors, old.tenant, inventory)
        self._added = read_sensors(body.add_sensors or [], old.tenant, inventory)
        self._removed = body.remove_sensors or []
        self._names = {p.id: p.name for p in inventory.ports if p.tenant == old.tenant}

    def __call__(self, record: CollectorRecord) -> dict[Sensor, str | None]:
        """The new sensors in their order, each with its probe.

        Raises:
            ApiProblem: what should go is not there, or what should come is.
        """
        if self._all is not None:
            return self._all
        found = {sensor: record.probes.get(sensor) for sensor in record.collector.sensors}
        for index, one in enumerate(self._removed):
            del found[self._there(one, found, f"remove_sensors.{index}")]
        for index, (sensor, probe) in enumerate(self._added.items()):
            if sensor in found:
                name = self._collector.name
                words = f"collector {name!r} has sensor {self._named(sensor)!r} already"
                raise unprocessable("invalid-value", words, f"add_sensors.{index}")
            found[sensor] = probe
        return found

    def _there(self, one: SensorIn, found: Mapping[Sensor, str | None], where: str) -> Sensor:
        """The sensor that a body means; a tap port may be in no inventory any more."""
        wanted = one.port if one.address is None else str(read_address(one.address))
        for sensor in found:
            is_address = isinstance(sensor, IPAddress)
            if is_address == (one.port is None) and wanted in (str(sensor), self._named(sensor)):
                return sensor
        sentence = f"collector {self._collector.name!r} has no sensor {wanted!r}"
        raise unprocessable("invalid-value", sentence, where)

    def _named(self, sensor: Sensor) -> str:
        return str(sensor) if isinstance(sensor, IPAddress) else self._names.get(sensor, sensor)


def sensor_words(collector: Collector, sensor: Sensor, names: Mapping[PortId, str]) -> str:
    """A sensor for people: the name of its tap port, or like ``vxlan 192.0.2.9 vni 7001``."""
    if not isinstance(sensor, IPAddress):
        return names.get(sensor, sensor)
    word = KEY_WORDS[collector.delivery].replace("_", " ")
    return f"{collector.delivery.value} {sensor} {word} {collector.key}"
