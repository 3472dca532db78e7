"""What requests may say. Options that the data path cannot honour yet are refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from flows.errors import InvalidValue
from flows.model import NAME, SESSION_NUMBERS, check_name

FILTER_ALL_ID = "b4a9c1b0-52a5-5f0a-8d4c-2f1d9a6d0a11"
"""Id of the built-in filter `all`."""

_NULL_ONLY: Mapping[str, str] = {
    "packet_length": "copies are whole",
    "max_rate": "copies are not capped",
    "expires_at": "delete the session when it is no longer wanted",
    "max_packets": "delete the session when it is no longer wanted",
    "max_bytes": "delete the session when it is no longer wanted",
}


def refuse(sentence: str, field: str | None = None) -> PydanticCustomError:
    """A value that can never be right."""
    return PydanticCustomError("refused", "{sentence}", {"sentence": sentence, "field": field})


def not_yet(field: str, what: str, hint: str) -> PydanticCustomError:
    """An option of the contract that is not honoured yet."""
    sentence = f"{what} is not supported yet: {hint}"
    return PydanticCustomError("unsupported", "{sentence}", {"sentence": sentence, "field": field})


def _check_name(value: str) -> str:
    try:
        check_name("the name", value)
    except InvalidValue as error:
        raise refuse(str(error)) from error
    return value


Name = Annotated[
    str, AfterValidator(_check_name), Field(json_schema_extra={"pattern": NAME.pattern})
]
Ref = Annotated[str, Field(description="An id, or a name of the tenant.")]
DirectionWord = Literal["ingress", "egress", "both"]
Number = Annotated[int, Field(ge=SESSION_NUMBERS.start, lt=SESSION_NUMBERS.stop)]


class Body(BaseModel):
    """A JSON body: unknown fields are refused, and nothing is converted."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)


class SourceIn(Body):
    """What a session watches."""

    kind: Literal["port"] = "port"
    ports: list[Ref] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _only_ports(cls, data: Any) -> Any:
        kind = data.get("kind", "port") if isinstance(data, dict) else "port"
        if kind != "port":
            raise not_yet("kind", f"source kind {kind!r}", "name the ports, with kind 'port'")
        return data


class SessionIn(Body):
    """A session to create."""

    name: Name
    tenant: Name | None = Field(None, description="May be left out while there is one tenant.")
    source: SourceIn
    collector: Ref
    direction: DirectionWord = "both"
    number: Number = 100
    enabled: bool = True
    filter: str = Field("all", description="Only `all` yet.")
    mode: Literal["copy"] = "copy"
    packet_length: None = None
    max_rate: None = None
    expires_at: None = None
    max_packets: None = None
    max_bytes: None = None

    @model_validator(mode="before")
    @classmethod
    def _only_what_is_honoured(cls, data: Any) -> Any:
        return _check_session_options(data)


class SessionPatch(Body):
    """What to change of a session; what is left out stays."""

    name: Name | None = None
    source: SourceIn | None = None
    collector: Ref | None = None
    direction: DirectionWord | None = None
    number: Number | None = None
    enabled: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_nulls(cls, data: Any) -> Any:
        if isinstance(data, dict):
            _check_session_options(data)
            for key in cls.model_fields:
                if key in data and data[key] is None:
                    raise refuse(f"{key} cannot be null: leave it out to keep it", key)
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
    tenant_tag: None = None

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
        if data.get("tenant_tag") is not None:
            raise not_yet("tenant_tag", f"tenant_tag {data['tenant_tag']!r}", "leave it out")
        return data


class Query(BaseModel):
    """Parameters of a URL: unknown ones are refused."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


class OneQuery(Query):
    """Where to look for a name."""

    tenant: str | None = Field(None, description="Needed when a name is used by several tenants.")


class TryQuery(OneQuery):
    """Where to look for a name, and whether only to try."""

    dry_run: bool = Field(False, description="Say what would be refused; change nothing.")


class CreateQuery(Query):
    """Whether only to try."""

    dry_run: bool = Field(False, description="Say what would be refused; change nothing.")


class NoQuery(Query):
    """No parameters at all."""


class ListQuery(Query):
    """Which part of a list."""

    limit: int = Field(100, ge=1, le=1000)
    marker: str | None = Field(None, description="`next` of the answer before.")


class TenantList(ListQuery):
    """Tenants."""

    name: str | None = None


class NetworkList(ListQuery):
    """Networks with these values."""

    tenant: str | None = None
    name: str | None = None


class PortList(NetworkList):
    """Ports with these values."""

    network: str | None = None
    kind: Literal["vm", "tap"] | None = None
    bridge: str | None = None


class CollectorList(NetworkList):
    """Collectors with these values."""


class SessionList(NetworkList):
    """Sessions with these values."""

    state: str | None = None
    collector: str | None = None
    direction: DirectionWord | None = None
    enabled: bool | None = None
    port: str | None = None


class BridgeList(ListQuery):
    """Bridges with these values."""

    name: str | None = None
    state: str | None = None


class AuditList(ListQuery):
    """Changes with these values."""

    tenant: str | None = None
    kind: str | None = None
    id: str | None = None
    name: str | None = None
    what: str | None = None
    who: str | None = None


class Path(BaseModel):
    """The one thing that a URL names."""

    ref: str = Field(description="An id or a name.")


def _check_session_options(data: Any) -> Any:
    if not isinstance(data, dict):
        return data
    chosen, mode = data.get("filter", "all"), data.get("mode", "copy")
    if chosen not in ("all", FILTER_ALL_ID):
        raise not_yet("filter", f"filter {chosen!r}", "use the built-in 'all'")
    if mode != "copy":
        raise not_yet("mode", f"mode {mode!r}", "use 'copy'")
    for option, why in _NULL_ONLY.items():
        if data.get(option) is not None:
            raise not_yet(option, option, f"leave it out; {why}")
    return data
