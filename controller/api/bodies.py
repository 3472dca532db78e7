"""What bodies may say. Options that the data path cannot honour yet are refused by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from controller.api.requests import Body, DirectionWord, Name, Number, Ref, not_yet, refuse
from flows.beacon import COUNTS, LENGTHS
from flows.errors import InvalidValue
from flows.model import PACKET_LENGTHS, TAGS, check_name

COUNT_MAX = (1 << 63) - 1
"""Largest limit of packets or bytes: what the database can hold."""

_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|\+00:00)")
_LISTS: Mapping[str, str] = {"port": "ports", "network": "networks", "label": "labels"}


def _read_time(value: Any) -> Any:
    if value is None or isinstance(value, datetime):
        return value
    if isinstance(value, str) and _TIME.fullmatch(value):
        try:
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
        except ValueError:
            pass
    raise refuse(f"{value!r} is no time: write it in UTC like '2030-01-31T12:00:00Z' (RFC 3339)")


Time = Annotated[
    datetime,
    BeforeValidator(_read_time),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
Length = Annotated[int, Field(ge=PACKET_LENGTHS.start, lt=PACKET_LENGTHS.stop)]
Count = Annotated[int, Field(ge=1, le=COUNT_MAX)]
Tag = Literal["auto"] | Annotated[int, Field(ge=TAGS.start, lt=TAGS.stop)]
Rules = Annotated[
    list[Any],
    Field(
        json_schema_extra={"items": {"type": "object"}},
        description="Written as in a RuleOut, in any order; the lowest number is asked first.",
    ),
]

EXPIRES = "UTC, in the future; then the session goes `stopped`."
MAX_PACKETS = "Copies after which the session goes `stopped`."
MAX_BYTES = "Bytes of copies after which the session goes `stopped`."
LENGTH = "Cut each copy to so many bytes of the frame; null cuts nothing."
TAG = "802.1Q tag of copies: `auto`: the network's, once the tap port serves several; null: none."


class SourceIn(Body):
    """What a session watches: the list that its kind names; `tenant` needs none."""

    kind: Literal["port", "network", "tenant", "label"] = "port"
    ports: list[Ref] | None = Field(None, description="With kind `port`.")
    networks: list[Ref] | None = Field(
        None, description="With kind `network`: all their ports, future ones too."
    )
    labels: dict[str, str] | None = Field(
        None, description="With kind `label`: ports that have all of them, future ones too."
    )

    @model_validator(mode="after")
    def _only_its_list(self) -> SourceIn:
        for kind, name in _LISTS.items():
            given = getattr(self, name)
            if kind == self.kind and not given:
                raise refuse(f"a source of kind {kind!r} needs `{name}`", name)
            if kind != self.kind and given is not None:
                raise refuse(f"a source of kind {self.kind!r} takes no `{name}`", name)
        for key, value in (self.labels or {}).items():
            try:
                check_name("label", key)
                check_name(f"the value of label {key!r}", value)
            except InvalidValue as error:
                raise refuse(str(error), "labels") from error
        return self


class SessionIn(Body):
    """A session to create."""

    name: Name
    tenant: Name | None = Field(None, description="May be left out while there is one tenant.")
    source: SourceIn
    collector: Ref
    direction: DirectionWord = "both"
    number: Number = 100
    enabled: bool = True
    filter: Ref = "all"
    mode: Literal["copy"] = "copy"
    packet_length: Length | None = Field(None, description=LENGTH)
    max_rate: None = None
    expires_at: Time | None = Field(None, description=EXPIRES)
    max_packets: Count | None = Field(None, description=MAX_PACKETS)
    max_bytes: Count | None = Field(None, description=MAX_BYTES)

    @model_validator(mode="before")
    @classmethod
    def _only_what_is_honoured(cls, data: Any) -> Any:
        return _check_session_options(data)


class SessionPatch(Body):
    """What to change of a session; what is left out stays.

    A stopped session runs again with `enabled: true` or with any limit, and counts anew.
    """

    name: Name | None = None
    source: SourceIn | None = None
    collector: Ref | None = None
    direction: DirectionWord | None = None
    number: Number | None = None
    enabled: bool | None = None
    filter: Ref | None = None
    packet_length: Length | None = Field(None, description=LENGTH)
    expires_at: Time | None = Field(None, description=f"{EXPIRES} Null: never.")
    max_packets: Count | None = Field(None, description=f"{MAX_PACKETS} Null: no limit.")
    max_bytes: Count | None = Field(None, description=f"{MAX_BYTES} Null: no limit.")

    @model_validator(mode="before")
    @classmethod
    def _no_nulls(cls, data: Any) -> Any:
        may_be_null = {"packet_length", "expires_at", "max_packets", "max_bytes"}
        if isinstance(data, dict):
            _check_session_options(data)
            _refuse_nulls(data, cls.model_fields.keys() - may_be_null)
            if "tenant" in data:
                raise refuse("a session cannot move to another tenant: create a new one", "tenant")
        return data


class SensorIn(Body):
    """One tap port that receives copies."""

    port: Ref

    @model_validator(mode="before")
    @classmethod
    def _only_ports(cls, data: Any) -> Any:
        if isinstance(data, dict) and "address" in data:
            raise not_yet("address", "a sensor with an address", "name a tap port")
        return data


class CollectorIn(Body):
    """A collector to create."""

    name: Name
    tenant: Name | None = Field(None, description="May be left out while there is one tenant.")
    delivery: Literal["port"] = "port"
    sensors: list[SensorIn] = Field(min_length=1, max_length=1)
    tenant_tag: Tag | None = Field("auto", description=TAG)

    @model_validator(mode="before")
    @classmethod
    def _only_what_is_honoured(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        delivery, sensors = data.get("delivery", "port"), data.get("sensors")
        if delivery != "port":
            raise not_yet("delivery", f"delivery {delivery!r}", "use 'port'")
        if isinstance(sensors, list) and len(sensors) > 1:
            raise not_yet("sensors", f"a collector of {len(sensors)} sensors", "give one")
        return _check_tag(data)


class CollectorPatch(Body):
    """What to change of a collector; what is left out stays."""

    name: Name | None = None
    tenant_tag: Tag | None = Field(None, description=TAG)

    @model_validator(mode="before")
    @classmethod
    def _no_nulls(cls, data: Any) -> Any:
        if isinstance(data, dict):
            _refuse_nulls(data, {"name"})
            for key in ("tenant", "delivery", "sensors"):
                if key in data:
                    raise refuse(f"{key} of a collector cannot change: create a new one", key)
            _check_tag(data)
        return data


class FilterIn(Body):
    """A filter to create."""

    name: Name
    tenant: Name | None = Field(None, description="May be left out while there is one tenant.")
    ingress: Rules = Field(default_factory=list)
    egress: Rules = Field(default_factory=list)


class FilterPatch(Body):
    """What to change of a filter; a list that is given replaces the old one as a whole."""

    name: Name | None = None
    ingress: Rules | None = None
    egress: Rules | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_nulls(cls, data: Any) -> Any:
        if isinstance(data, dict):
            _refuse_nulls(data, cls.model_fields.keys())
            if "tenant" in data:
                raise refuse("a filter cannot move to another tenant: create a new one", "tenant")
        return data


class VerifyIn(Body):
    """How many marked frames to send by each way of a session's copies, and how long ones."""

    count: Annotated[int, Field(ge=COUNTS.start, lt=COUNTS.stop)] = 100
    length: Annotated[int, Field(ge=LENGTHS.start, lt=LENGTHS.stop)] = Field(
        256, description="In bytes, Ethernet header included."
    )
    sensor: Ref | None = Field(None, description="Only to this one of the collector's sensors.")
    may_be_cut: bool = Field(
        False, description="They may be longer than what fits the path to the sensors."
    )


class ExplainIn(Body):
    """A packet, in words or as a whole frame."""

    port: Ref = Field(description="The port that sends it.")
    tenant: Name | None = Field(None, description="May be left out while there is one tenant.")
    packet: str | None = Field(
        None, description="Like `tcp,destination=10.0.0.2,destination_port=80`."
    )
    hex: str | None = Field(
        None,
        max_length=2 * 65536,
        description="A frame without its check sequence, in hexadecimal digits.",
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> ExplainIn:
        if (self.packet is None) == (self.hex is None):
            raise refuse("give the packet either as `packet` or as `hex`", "packet")
        return self


def _refuse_nulls(data: dict[str, Any], keys: Set[str]) -> None:
    for key in data:
        if key in keys and data[key] is None:
            raise refuse(f"{key} cannot be null: leave it out to keep it", key)


def _check_tag(data: dict[str, Any]) -> dict[str, Any]:
    tag = data.get("tenant_tag")
    is_number = isinstance(tag, int) and not isinstance(tag, bool)
    if tag not in (None, "auto") and not (is_number and tag in TAGS):
        raise refuse(
            f"tenant_tag {tag!r} is neither 'auto' nor null nor an 802.1Q id from {TAGS.start} "
            f"to {TAGS.stop - 1}",
            "tenant_tag",
        )
    return data


def _check_session_options(data: Any) -> Any:
    if not isinstance(data, dict):
        return data
    mode = data.get("mode", "copy")
    if mode != "copy":
        raise not_yet("mode", f"mode {mode!r}", "use 'copy'")
    if data.get("max_rate") is not None:
        raise not_yet("max_rate", "max_rate", "leave it out; copies are not capped")
    if "tap_point" in data:
        raise not_yet(
            "tap_point",
            f"tap_point {data['tap_point']!r}",
            "leave it out; egress is copied before policy, ingress after it",
        )
    return data
