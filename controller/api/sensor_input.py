"""Sensors of a collector, from the body of a request, and as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from netaddr import IPAddress

from controller.api.context import context
from controller.api.lookup import find_own
from controller.api.problems import unprocessable
from controller.api.schemas import (
    CollectorPatch,
    SensorIn,
    probed_address,
    read_address,
    read_probe,
)
from controller.inventory import Inventory
from controller.store import CollectorRecord
from flows.model import KEY_WORDS, Collector, PortId, Sensor, TenantName


def read_sensors(
    given: list[SensorIn], tenant: TenantName, inventory: Inventory
) -> dict[Sensor, str | None]:
    """The sensors that a body names, in its order, each with its probe.

    Raises:
        ApiProblem: a tap port does not exist, or a sensor is named twice.
    """
    found: dict[Sensor, str | None] = {}
    for index, one in enumerate(given):
        where = f"sensors.{index}"
        sensor: Sensor
        if one.probe is not None:
            _check_may_probe(probed_address(one.probe), f"{where}.probe")
        if one.address is not None:
            sensor, where = read_address(one.address), f"{where}.address"
            _check_allowed(sensor, where)
        else:
            ref, where = one.port or "", f"{where}.port"
            sensor = PortId(find_own("port", inventory.ports, ref, tenant, where).id)
        if sensor in found:
            what = one.address or one.port
            raise unprocessable("invalid-value", f"sensor {what!r} is named twice", where)
        found[sensor] = None if one.probe is None else read_probe(one.probe)
    return found


def _check_allowed(address: IPAddress, where: str) -> None:
    """Check that an address is in the networks that the operator allows tenants to send to."""
    allowed = context().sensor_networks
    if allowed and not any(address in network for network in allowed):
        places = ", ".join(map(str, allowed))
        sentence = (
            f"address {address} is outside {places}: only the operator of the hosts can allow more "
            "([bridges] sensor_networks)"
        )
        raise unprocessable("invalid-value", sentence, where)


def _check_may_probe(address: IPAddress, where: str) -> None:
    """Check that the operator allows tenants to have an address probed: by default none.

    A probe tells its owner which ports of an address are open, as seen from the controller.
    """
    if not context().sensor_networks:
        sentence = (
            f"address {address} may not be probed, because the operator of the hosts has named no "
            "networks of sensors ([bridges] sensor_networks)"
        )
        raise unprocessable("invalid-value", sentence, where)
    _check_allowed(address, where)


def probe_notes(probes: Mapping[Sensor, str]) -> Iterator[str]:
    """The probes that are not made, because their addresses are not allowed (any more)."""
    allowed = context().sensor_networks
    for probe in dict.fromkeys(probes.values()):
        if not any(probed_address(probe) in network for network in allowed):
            yield (
                f"probe {probe} is not made: its address is in no network that the operator allows "
                "([bridges] sensor_networks), so whether this sensor works is not known"
            )


class SensorChange:
    """The sensors of a collector after a PATCH; the constructor looks up the tap ports.

    Raises:
        ApiProblem: a tap port does not exist, or a sensor is named twice.
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
            ApiProblem: a sensor to remove is not in the collector, or one to add is.
        """
        if self._all is not None:
            return self._all
        found = {sensor: record.probes.get(sensor) for sensor in record.collector.sensors}
        for index, one in enumerate(self._removed):
            del found[self._member(one, found, f"remove_sensors.{index}")]
        for index, (sensor, probe) in enumerate(self._added.items()):
            if sensor in found:
                name = self._collector.name
                words = f"collector {name!r} has sensor {self._name_of(sensor)!r} already"
                raise unprocessable("invalid-value", words, f"add_sensors.{index}")
            found[sensor] = probe
        return found

    def _member(self, one: SensorIn, found: Mapping[Sensor, str | None], where: str) -> Sensor:
        """The sensor of the collector that a body names; a tap port may have left the inventory."""
        wanted = one.port if one.address is None else str(read_address(one.address))
        for sensor in found:
            is_address = isinstance(sensor, IPAddress)
            if is_address == (one.port is None) and wanted in (str(sensor), self._name_of(sensor)):
                return sensor
        sentence = f"collector {self._collector.name!r} has no sensor {wanted!r}"
        raise unprocessable("invalid-value", sentence, where)

    def _name_of(self, sensor: Sensor) -> str:
        return str(sensor) if isinstance(sensor, IPAddress) else self._names.get(sensor, sensor)


def sensor_words(collector: Collector, sensor: Sensor, names: Mapping[PortId, str]) -> str:
    """A sensor as text: the name of its tap port, or like ``vxlan 192.0.2.9 vni 7001``."""
    if not isinstance(sensor, IPAddress):
        return names.get(sensor, sensor)
    word = KEY_WORDS[collector.delivery].replace("_", " ")
    return f"{collector.delivery.value} {sensor} {word} {collector.key}"
