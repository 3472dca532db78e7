"""Request bodies of sessions, filters, verify and explain; unsupported options are refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from controller.api.schemas.fields import (
    Body,
    DirectionWord,
    ModeWord,
    Name,
    Number,
    Ref,
    check_no_nulls,
    invalid,
    unsupported,
)
from flows.beacon import COUNTS, LENGTHS
from flows.errors import InvalidValue
from flows.model import PACKET_LENGTHS, RATES, check_name

COUNT_MAX = (1 << 63) - 1
"""Largest limit of packets or bytes: what the database can hold."""

SOURCES_MAX = 1000
"""Most ports or networks that a source lists; a label or a network has any number of ports."""
PACKET_TEXT_MAX = 2000
"""Longest packet in words, in characters."""
PART_CHARACTERS_MAX, PARTS_MAX = 128 * 1024, 4096
"""Longest part of the text of an inventory, in characters, and most parts of one."""

_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|\+00:00)", re.ASCII)
_LISTS: Mapping[str, str] = {"port": "ports", "network": "networks", "label": "labels"}


def _read_time(value: Any) -> Any:
    if value is None or isinstance(value, datetime):
        return value
    if isinstance(value, str) and _TIME.fullmatch(value):
        try:
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
        except ValueError:
            pass
    raise invalid(f"{value!r} is no time: write it in UTC like '2030-01-31T12:00:00Z' (RFC 3339)")


Time = Annotated[
    datetime,
    BeforeValidator(_read_time),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
Length = Annotated[int, Field(ge=PACKET_LENGTHS.start, lt=PACKET_LENGTHS.stop)]
Count = Annotated[int, Field(ge=1, le=COUNT_MAX)]
OversizeWord = Literal["truncate", "skip"]
RuleList = Annotated[
    list[Any],
    Field(
        json_schema_extra={"items": {"type": "object"}},
        description="Written as in a RuleOut, in any order; the lowest number is evaluated first.",
    ),
]

EXPIRES_TEXT = "UTC, in the future; then the session goes `stopped`."
MAX_PACKETS_TEXT = (
    "Copies after which the session goes `stopped`; a super-frame of the kernel datapath is one."
)
MAX_BYTES_TEXT = "Bytes of copies after which the session goes `stopped`."
MODE_TEXT = (
    "`exclusive`: a packet of a port goes to the first that accepts it, lowest `number` first."
)
LENGTH_TEXT = "Cut each copy to so many bytes of the frame; null cuts nothing."
OVERSIZE_TEXT = "Copies too long for the path to a remote sensor: cut them, or skip and count them."
RATE_TEXT = (
    "Most copies on each bridge, as `kbps` or `pps`; what exceeds it is shed. Null: no cap. A "
    "super-frame of the kernel datapath is one packet."
)


class SourceIn(Body):
    """What a session watches: the list that `kind` names; kind `tenant` has none."""

    kind: Literal["port", "network", "tenant", "label"] = "port"
    ports: list[Ref] | None = Field(None, max_length=SOURCES_MAX, description="With kind `port`.")
    networks: list[Ref] | None = Field(
        None,
        max_length=SOURCES_MAX,
        description="With kind `network`: all their ports, future ones too.",
    )
    labels: dict[str, str] | None = Field(
        None, description="With kind `label`: ports that have all of them, future ones too."
    )

    @model_validator(mode="after")
    def _only_its_list(self) -> SourceIn:
        for kind, name in _LISTS.items():
            given = getattr(self, name)
            if kind == self.kind and not given:
                raise invalid(f"a source of kind {kind!r} needs `{name}`", name)
            if kind != self.kind and given is not None:
                raise invalid(f"a source of kind {self.kind!r} takes no `{name}`", name)
        for key, value in (self.labels or {}).items():
            try:
                check_name("label", key)
                check_name(f"the value of label {key!r}", value)
            except InvalidValue as error:
                raise invalid(str(error), "labels") from error
        return self


class RateIn(Body):
    """A rate cap in one of two units: thousands of bits, or packets, per second."""

    kbps: int | None = None
    pps: int | None = None

    @model_validator(mode="after")
    def _one_unit(self) -> RateIn:
        given = {unit: n for unit, n in (("kbps", self.kbps), ("pps", self.pps)) if n is not None}
        if len(given) != 1:
            raise invalid("max_rate has one of `kbps` and `pps`, not both or none")
        for unit, number in given.items():
            if number not in RATES:
                allowed = f"{RATES.start}..{RATES.stop - 1}"
                raise invalid(
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
    mode: ModeWord = Field("copy", description=MODE_TEXT)
    packet_length: Length | None = Field(None, description=LENGTH_TEXT)
    oversize: OversizeWord = Field("truncate", description=OVERSIZE_TEXT)
    max_rate: RateIn | None = Field(None, description=RATE_TEXT)
    expires_at: Time | None = Field(None, description=EXPIRES_TEXT)
    max_packets: Count | None = Field(None, description=MAX_PACKETS_TEXT)
    max_bytes: Count | None = Field(None, description=MAX_BYTES_TEXT)

    @model_validator(mode="before")
    @classmethod
    def _check_supported(cls, data: Any) -> Any:
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
    mode: ModeWord | None = Field(None, description=MODE_TEXT)
    packet_length: Length | None = Field(None, description=LENGTH_TEXT)
    oversize: OversizeWord | None = Field(None, description=OVERSIZE_TEXT)
    max_rate: RateIn | None = Field(None, description=RATE_TEXT)
    expires_at: Time | None = Field(None, description=f"{EXPIRES_TEXT} Null: never.")
    max_packets: Count | None = Field(None, description=f"{MAX_PACKETS_TEXT} Null: no limit.")
    max_bytes: Count | None = Field(None, description=f"{MAX_BYTES_TEXT} Null: no limit.")

    @model_validator(mode="before")
    @classmethod
    def _no_nulls(cls, data: Any) -> Any:
        may_be_null = {"packet_length", "max_rate", "expires_at", "max_packets", "max_bytes"}
        if isinstance(data, dict):
            _check_session_options(data)
            check_no_nulls(data, cls.model_fields.keys() - may_be_null)
            if "tenant" in data:
                raise invalid("a session cannot move to another tenant: create a new one", "tenant")
        return data


class FilterIn(Body):
    """A filter to create."""

    name: Name
    tenant: Name | None = Field(None, description="May be left out while there is one tenant.")
    ingress: RuleList = Field(default_factory=list)
    egress: RuleList = Field(default_factory=list)


class FilterPatch(Body):
    """What to change of a filter; a list that is given replaces the old one as a whole."""

    name: Name | None = None
    ingress: RuleList | None = None
    egress: RuleList | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_nulls(cls, data: Any) -> Any:
        if isinstance(data, dict):
            check_no_nulls(data, cls.model_fields.keys())
            if "tenant" in data:
                raise invalid("a filter cannot move to another tenant: create a new one", "tenant")
        return data


class VerifyIn(Body):
    """How many marked frames to send along each path of a session's copies, and of which length."""

    count: Annotated[int, Field(ge=COUNTS.start, lt=COUNTS.stop)] = 100
    length: Annotated[int, Field(ge=LENGTHS.start, lt=LENGTHS.stop)] = Field(
        256, description="In bytes, Ethernet header included."
    )
    sensor: Ref | None = Field(None, description="Only to this one of the collector's sensors.")
    may_be_cut: bool = Field(
        False, description="They may be longer than fits the path to the sensors."
    )


class AcceptIn(Body):
    """Which content of the inventory file is meant."""

    digest: str = Field(max_length=64, description="`pending.digest` of `GET /v1/inventory`.")


class InventoryPartIn(Body):
    """A part of the text of an inventory file."""

    text: str = Field(max_length=PART_CHARACTERS_MAX)


class InventoryTextIn(Body):
    """The text of an inventory file, in parts: no text of a body may be as long as a file."""

    parts: list[InventoryPartIn] = Field(max_length=PARTS_MAX)


class ExplainIn(Body):
    """A packet, as text or as a whole frame."""

    port: Ref = Field(description="The port that sends it.")
    tenant: Name | None = Field(None, description="May be left out while there is one tenant.")
    packet: str | None = Field(
        None,
        max_length=PACKET_TEXT_MAX,
        description="Like `tcp,destination=10.0.0.2,destination_port=80`.",
    )
    hex: str | None = Field(
        None,
        max_length=2 * 65536,
        description="A frame without its check sequence, in hexadecimal digits.",
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> ExplainIn:
        if (self.packet is None) == (self.hex is None):
            raise invalid("give the packet either as `packet` or as `hex`", "packet")
        return self


def _check_session_options(data: Any) -> Any:
    if not isinstance(data, dict):
        return data
    if "tap_point" in data:
        raise unsupported(
            "tap_point",
            f"tap_point {data['tap_point']!r}",
            "leave it out; egress is copied before policy, ingress after it",
        )
    return data
