"""What every request is made of: strict bodies, names, parameters of URLs."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from flows.errors import InvalidValue
from flows.model.session import NAME, SESSION_NUMBERS, check_name


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
ModeWord = Literal["copy", "exclusive"]
Number = Annotated[int, Field(ge=SESSION_NUMBERS.start, lt=SESSION_NUMBERS.stop)]


class Body(BaseModel):
    """A JSON body: unknown fields are refused, and nothing is converted."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)


class Query(BaseModel):
    """Parameters of a URL: unknown ones are refused."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Made once: the web framework asks for it with every request, a tenth of its work."""
        if args or kwargs:
            return super().model_json_schema(*args, **kwargs)
        return _plain_schema(cls)


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


class FilterList(NetworkList):
    """Filters with these values."""


class SessionList(NetworkList):
    """Sessions with these values."""

    state: str | None = None
    collector: str | None = None
    filter: str | None = None
    direction: DirectionWord | None = None
    mode: ModeWord | None = None
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


@cache
def _plain_schema(query: type[Query]) -> dict[str, Any]:
    return super(Query, query).model_json_schema()
