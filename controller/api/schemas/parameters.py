"""Parameters of URLs: which object, which page of a list, which filters."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from controller.api.schemas.fields import DirectionWord, ModeWord, StateWord
from controller.store import AuditedAction, AuditedKind


class Query(BaseModel):
    """Parameters of a URL: unknown ones are refused."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The schema, cached: the framework asks for it in every request, a tenth of its work."""
        if args or kwargs:
            return super().model_json_schema(*args, **kwargs)
        return _plain_schema(cls)


class OneQuery(Query):
    """Which tenant a name belongs to."""

    tenant: str | None = Field(None, description="Needed when a name is used by several tenants.")


class TryQuery(OneQuery):
    """Which tenant a name belongs to, and whether it is a dry run."""

    dry_run: bool = Field(False, description="Say what would be refused; change nothing.")


class CreateQuery(Query):
    """Whether it is a dry run."""

    dry_run: bool = Field(False, description="Say what would be refused; change nothing.")


class NoQuery(Query):
    """No parameters at all."""


class ListQuery(Query):
    """Which page of a list."""

    limit: int = Field(100, ge=1, le=1000)
    marker: str | None = Field(None, description="`next` of the answer before.")


class TenantList(ListQuery):
    """Tenants."""

    name: str | None = None


class NamedList(ListQuery):
    """Objects of a tenant with these values."""

    tenant: str | None = None
    name: str | None = None

    def selects(self, tenant: str | None, name: str) -> bool:
        """Whether the list includes an object of this tenant and name."""
        return self.tenant in (None, tenant) and self.name in (None, name)


class NetworkList(NamedList):
    """Networks with these values."""


class PortList(NamedList):
    """Ports with these values."""

    network: str | None = None
    kind: Literal["vm", "tap"] | None = None
    bridge: str | None = Field(None, description="A name, `NAME@HOST`, or a datapath id.")


class CollectorList(NamedList):
    """Collectors with these values."""


class FilterList(NamedList):
    """Filters with these values."""


class SessionList(NamedList):
    """Sessions with these values."""

    state: StateWord | None = None
    collector: str | None = None
    filter: str | None = None
    direction: DirectionWord | None = None
    mode: ModeWord | None = None
    enabled: bool | None = None
    port: str | None = Field(None, description="A port that they watch, whatever their source.")


class BridgeList(ListQuery):
    """Bridges with these values."""

    name: str | None = Field(None, description="A name, `NAME@HOST`, or a datapath id.")
    state: StateWord | None = None


class AuditList(ListQuery):
    """Audit entries with these values."""

    tenant: str | None = None
    kind: AuditedKind | None = None
    id: str | None = None
    name: str | None = None
    what: AuditedAction | None = None
    who: str | None = None


class Path(BaseModel):
    """The one object that a URL names."""

    ref: str = Field(description="An id or a name.")


@cache
def _plain_schema(query: type[Query]) -> dict[str, Any]:
    return super(Query, query).model_json_schema()
