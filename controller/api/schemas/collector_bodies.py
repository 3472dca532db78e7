"""Request bodies of collectors and their sensors."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from netaddr import AddrFormatError, IPAddress
from pydantic import Field, model_validator

from controller.api.schemas.fields import Body, Name, Ref, check_no_nulls, invalid
from flows.errors import InvalidValue
from flows.model import KEY_WORDS, PATH_MTUS, SENSORS_MAX, TUNNEL_KEYS, Delivery, check_new_address
from flows.openflow import VLAN_IDS

DeliveryWord = Literal["port", "vxlan", "gre", "erspan2", "erspan3", "geneve"]
BalanceWord = Literal["connection", "hosts"]
Tag = Literal["auto"] | Annotated[int, Field(ge=VLAN_IDS.start, lt=VLAN_IDS.stop)]

TAG_TEXT = "802.1Q tag of copies: `auto`: the network's, once a sensor serves several; null: none."
BALANCE_TEXT = (
    "What picks the sensor of a packet if there are several: `connection`: addresses, protocol and "
    "ports; `hosts`: addresses alone, so that fragments stay together."
)
MTU_TEXT = (
    "Bytes of the longest IP packet on the path to remote sensors, if the hosts can send longer."
)
SENSORS_TEXT = (
    f"1 to {SENSORS_MAX}, all tap ports or all addresses; each packet goes to one of them."
)

_PROBE = re.compile(r"tcp://(?:\[(?P<six>[^\]]+)\]|(?P<four>[^:\[\]]+)):(?P<port>[0-9]{1,5})")
_KEY_WORDS = tuple(dict.fromkeys(KEY_WORDS.values()))


class SensorIn(Body):
    """One receiving place: a tap port of the tenant, or the address of a remote sensor."""

    port: Ref | None = None
    address: str | None = Field(None, description="IPv4 or IPv6.")
    probe: str | None = Field(
        None, description="`tcp://ADDRESS:PORT` that answers while the sensor is well."
    )

    @model_validator(mode="after")
    def _one_place(self) -> SensorIn:
        if (self.port is None) == (self.address is None):
            raise invalid("a sensor is either a `port` or an `address`")
        if self.address is not None:
            read_address(self.address)
        if self.probe is not None:
            read_probe(self.probe)
        return self


class CollectorIn(Body):
    """A collector to create."""

    name: Name
    tenant: Name | None = Field(None, description="May be left out while there is one tenant.")
    delivery: DeliveryWord = "port"
    sensors: list[SensorIn] = Field(min_length=1, max_length=SENSORS_MAX, description=SENSORS_TEXT)
    vni: int | None = Field(None, description="Of vxlan and geneve; chosen if left out.")
    key: int | None = Field(None, description="Of gre; chosen if left out.")
    session_id: int | None = Field(None, description="Of erspan2 and erspan3; chosen if left out.")
    tenant_tag: Tag | None = Field("auto", description=TAG_TEXT)
    balance: BalanceWord = Field("connection", description=BALANCE_TEXT)
    path_mtu: int | None = Field(None, description=MTU_TEXT)

    @model_validator(mode="before")
    @classmethod
    def _check_raw(cls, data: Any) -> Any:
        if isinstance(data, dict):
            _check_tag(data)
            _check_count(data)
        return data

    @model_validator(mode="after")
    def _fits_its_delivery(self) -> CollectorIn:
        delivery = Delivery(self.delivery)
        if found := misfit(delivery, self.sensors, self.path_mtu):
            raise invalid(*found)
        for word in _KEY_WORDS:
            number = getattr(self, word)
            if number is not None:
                _check_key(word, number, delivery)
        return self

    @property
    def chosen_key(self) -> int | None:
        """The tunnel key: `vni`, `key` or `session_id`, as the delivery calls it."""
        word = KEY_WORDS.get(Delivery(self.delivery))
        return None if word is None else getattr(self, word)


class CollectorPatch(Body):
    """What to change of a collector; what is left out stays."""

    name: Name | None = None
    sensors: list[SensorIn] | None = Field(
        None, max_length=SENSORS_MAX, description=f"The whole new list. {SENSORS_TEXT}"
    )
    add_sensors: list[SensorIn] | None = Field(
        None, max_length=SENSORS_MAX, description="Behind those that there are."
    )
    remove_sensors: list[SensorIn] | None = Field(
        None, max_length=SENSORS_MAX, description="One sensor must stay."
    )
    tenant_tag: Tag | None = Field(None, description=TAG_TEXT)
    balance: BalanceWord | None = Field(None, description=BALANCE_TEXT)
    path_mtu: int | None = Field(None, description=f"{MTU_TEXT} Null: what the hosts have.")

    @model_validator(mode="before")
    @classmethod
    def _no_nulls(cls, data: Any) -> Any:
        if isinstance(data, dict):
            lists = {"sensors", "add_sensors", "remove_sensors"}
            check_no_nulls(data, {"name", "balance", *lists})
            for key in ("tenant", "delivery", *_KEY_WORDS):
                if key in data:
                    raise invalid(f"{key} of a collector cannot change: create a new one", key)
            if "sensors" in data and len(lists & data.keys()) > 1:
                raise invalid(
                    "give the whole list of sensors, or what to add and remove", "sensors"
                )
            _check_tag(data)
            _check_count(data)
        return data


def read_address(text: str) -> IPAddress:
    """The address of a remote sensor."""
    try:
        address = IPAddress(text)
    except (AddrFormatError, ValueError) as error:
        raise invalid(
            f"{text!r} is not an IPv4 or IPv6 address: write it like 192.0.2.9 or 2001:db8::9",
            "address",
        ) from error
    _check_address("a sensor with address", address, "address")
    return address


def read_probe(text: str) -> str:
    """A probe in its normal form, as it is stored."""
    address, port = _parts_of_probe(text)
    host = f"[{address}]" if address.version == 6 else str(address)
    return f"tcp://{host}:{port}"


def probed_address(text: str) -> IPAddress:
    """The address that a probe connects to."""
    return _parts_of_probe(text)[0]


def _parts_of_probe(text: str) -> tuple[IPAddress, int]:
    found = _PROBE.fullmatch(text)
    try:
        if found is None or not 1 <= int(found["port"]) <= 65535:
            raise ValueError
        address = IPAddress(found["six"] or found["four"], 6 if found["six"] else 4)
    except (AddrFormatError, ValueError) as error:
        raise invalid(
            f"probe {text!r} is not understood: write tcp://192.0.2.9:22 or tcp://[2001:db8::9]:22",
            "probe",
        ) from error
    _check_address("a probe of", address, "probe")
    return address, int(found["port"])


def misfit(
    delivery: Delivery, sensors: list[SensorIn], path_mtu: int | None
) -> tuple[str, str] | None:
    """Why sensors or a path MTU do not fit a delivery, and the field at fault; None if they fit."""
    kinds = {"port" if sensor.port is not None else "address" for sensor in sensors}
    if len(kinds) > 1:
        both = "the sensors of one collector are tap ports or addresses, not both"
        return f"{both}: create two collectors", "sensors"
    if delivery is Delivery.PORT:
        if "address" in kinds:
            tunnels = ", ".join(each.value for each in TUNNEL_KEYS)
            what = "delivery 'port' goes to tap ports, not to addresses"
            return f"{what}: for an address choose one of {tunnels}", "delivery"
        if path_mtu is not None:
            what = "path_mtu is for tunnels: a tap port carries what production carries"
            return what, "path_mtu"
    elif "port" in kinds:
        what = f"delivery {delivery.value!r} goes to addresses, not to tap ports"
        return f"{what}: give an `address`, or choose delivery 'port'", "sensors"
    if path_mtu is not None and path_mtu not in PATH_MTUS:
        allowed = f"{PATH_MTUS.start}..{PATH_MTUS.stop - 1}"
        return f"path_mtu {path_mtu} is outside {allowed} bytes", "path_mtu"
    return None


def _check_address(what: str, address: IPAddress, field: str) -> None:
    try:
        check_new_address(what, address)
    except InvalidValue as error:
        raise invalid(str(error), field) from error


def _check_key(word: str, number: int, delivery: Delivery) -> None:
    own = KEY_WORDS.get(delivery)
    if own is None:
        raise invalid(f"delivery 'port' has no {word}: copies arrive as plain frames", word)
    if word != own:
        raise invalid(f"delivery {delivery.value!r} has no {word}: say `{own}`", word)
    keys = TUNNEL_KEYS[delivery]
    if number not in keys:
        raise invalid(
            f"{word} {number} of delivery {delivery.value!r} is outside "
            f"{keys.start}..{keys.stop - 1}",
            word,
        )


def _check_count(data: dict[str, Any]) -> None:
    sensors = data.get("sensors")
    if isinstance(sensors, list) and not 1 <= len(sensors) <= SENSORS_MAX:
        raise invalid(f"{len(sensors)} sensors do not do: give 1 to {SENSORS_MAX}", "sensors")


def _check_tag(data: dict[str, Any]) -> None:
    tag = data.get("tenant_tag")
    is_number = isinstance(tag, int) and not isinstance(tag, bool)
    if tag not in (None, "auto") and not (is_number and tag in VLAN_IDS):
        raise invalid(
            f"tenant_tag {tag!r} is neither 'auto' nor null nor an 802.1Q id from {VLAN_IDS.start} "
            f"to {VLAN_IDS.stop - 1}",
            "tenant_tag",
        )
