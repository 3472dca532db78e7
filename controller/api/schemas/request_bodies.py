"""What bodies may say. Options that the data path cannot honour yet are refused by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from controller.api.schemas.parameters import (
    Body,
    DirectionWord,
    ModeWord,
    Name,
    Number,
    Ref,
    not_yet,
    refuse,
)
from flows.beacon.beacon import COUNTS, LENGTHS
from flows.errors import InvalidValue
from flows.model.session import PACKET_LENGTHS, RATES, check_name

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
OversizeWord = Literal["truncate", "skip"]
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
MODE = "`exclusive`: a packet of a port goes to the first that accepts it, lowest `number` first."
LENGTH = "Cut each copy to so many bytes of the frame; null cuts nothing."
OVERSIZE = "Copies too long for the path to a remote sensor: cut them, or skip and count them."
RATE = "Most copies on each bridge, as `kbps` or `pps`; what exceeds it is shed. Null: no cap."


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


class RateIn(Body):
    """A cap, in one of two units: thousands of bits, or packets, in a second."""

    kbps: int | None = None
    pps: int | None = None

    @model_validator(mode="after")
    def _one_unit(self) -> RateIn:
        given = {unit: n for unit, n in (("kbps", self.kbps), ("pps", self.pps)) if n is not None}
        if len(given) != 1:
            raise refuse("max_rate has one of `kbps` and `pps`, not both or none")
        for unit, number in given.items():
            if number not in RATES:
                allowed = f"{RATES.start}..{RATES.stop - 1}"
                raise refuse(
                    f"a rate of {number} {unit} is outside {allowed}; to copy nothing, switch the "
                    "session off",
                    unit,
                )
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
    mode: ModeWord = Field("copy", description=MODE)
    packet_length: Length | None = Field(None, description=LENGTH)
    oversize: OversizeWord = Field("truncate", description=OVERSIZE)
    max_rate: RateIn | None = Field(None, description=RATE)
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
    mode: ModeWord | None = Field(None, description=MODE)
    packet_length: Length | None = Field(None, description=LENGTH)
    oversize: OversizeWord | None = Field(None, description=OVERSIZE)
    max_rate: RateIn | None = Field(None, description=RATE)
    expires_at: Time | None = Field(None, description=f"{EXPIRES} Null: never.")
    max_packets: Count | None = Field(None, description=f"{MAX_PACKETS} Null: no limit.")
    max_bytes: Count | None = Field(None, description=f"{MAX_BYTES} Null: no limit.")

    @model_validator(mode="before")
    @classmethod
    def _no_nulls(cls, data: Any) -> Any:
        may_be_null = {"packet_length", "max_rate", "expires_at", "max_packets", "max_bytes"}
        if isinstance(data, dict):
            _check_session_options(data)
            refuse_nulls(data, cls.model_fields.keys() - may_be_null)
            if "tenant" in data:
                raise refuse("a session cannot move to another tenant: create a new one", "tenant")
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
            refuse_nulls(data, cls.model_fields.keys())
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


def refuse_nulls(data: dict[str, Any], keys: Set[str]) -> None:
    """Refuse null where leaving out means to keep what is."""
    for key in data:
        if key in keys and data[key] is None:
            raise refuse(f"{key} cannot be null: leave it out to keep it", key)


def _check_session_options(data: Any) -> Any:
    if not isinstance(data, dict):
        return data
    if "tap_point" in data:
        raise not_yet(
            "tap_point",
            f"tap_point {data['tap_point']!r}",
            "leave it out; egress is copied before policy, ingress after it",
        )
    return data
