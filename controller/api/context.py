"""What every resource needs: the parts of the controller, the finding of things, parts of lists."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar, cast

from flask import Response, current_app, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from netaddr import IPNetwork
from pydantic import BaseModel

from controller.api import problems
from controller.api.schemas.parameters import ListQuery
from controller.inventory.file import Inventory
from controller.status.values import Reconciling
from controller.store import Store
from flows.model.session import TenantName
from flows.model.world import UNDERLAY_MTU

EXTENSION = "cloudtap"
"""Where a Flask application keeps its Context."""

BRING_S = 10.0
"""How long a change waits for the switches before it is answered, in seconds."""

_PROBLEM = {
    "description": "Not done; the document says why.",
    "content": {
        "application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemOut"}}
    },
}


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of the controller that the API talks to."""

    store: Store
    inventory: Callable[[], Inventory]
    reconcile: Reconciling
    now: Callable[[], datetime]
    underlay_mtu: int = UNDERLAY_MTU
    sensor_networks: tuple[IPNetwork, ...] = ()


class _Owned(Protocol):
    """Something with an id, a name and a tenant."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def tenant(self) -> str: ...


_O = TypeVar("_O", bound=_Owned)
_T = TypeVar("_T")


def context() -> Context:
    """The context of the application that answers now."""
    return cast(Context, current_app.extensions[EXTENSION])


def resource(name: str, description: str) -> APIBlueprint:
    """An empty resource /v1/<name>."""
    return APIBlueprint(
        name,
        __name__,
        url_prefix=f"/v1/{name}",
        abp_tags=[Tag(name=name, description=description)],
        abp_responses={422: dict(_PROBLEM), 404: dict(_PROBLEM)},
    )


def who() -> str:
    """Who asks, for the audit journal."""
    return f"api from {request.remote_addr or 'this machine'}"


def answer(model: BaseModel, status: int = 200) -> Response:
    """A model as a JSON answer."""
    text = json.dumps(model.model_dump(mode="json", by_alias=True))
    return Response(text, status, mimetype="application/json")


def tenant_of(given: str | None, inventory: Inventory) -> TenantName:
    """The tenant that a body means: the one it names, or the only one there is."""
    known = ", ".join(repr(str(tenant)) for tenant in inventory.tenants)
    if given is None:
        if len(inventory.tenants) == 1:
            return inventory.tenants[0]
        hint = f"say which one: {known}" if known else "the inventory declares none"
        raise problems.bad_request(
            "tenant-needed", f"there are {len(inventory.tenants)} tenants: {hint}", "tenant"
        )
    if given not in inventory.tenants:
        hint = f": the inventory declares {known}" if known else ": the inventory declares none"
        raise problems.not_found("tenant", given, "tenant", hint)
    return TenantName(given)


def find(
    kind: str, things: Iterable[_O], ref: str, tenant: str | None, where: str | None = None
) -> _O:
    """The one thing of this id, else of this name, in the tenant or, without one, anywhere."""
    inside = [thing for thing in things if tenant is None or thing.tenant == tenant]
    found = [thing for thing in inside if thing.id == ref]
    found = found or [thing for thing in inside if thing.name == ref]
    if len(found) == 1:
        return found[0]
    if not found:
        hint = "" if tenant is None else f" of tenant {tenant!r}"
        raise problems.not_found(kind, ref, where, hint)
    owners = ", ".join(repr(thing.tenant) for thing in found)
    raise problems.conflict(
        "ambiguous-name", f"{kind} name {ref!r} is used by tenants {owners}: add ?tenant=", where
    )


def find_own(kind: str, things: Sequence[_O], ref: str, tenant: TenantName, where: str) -> _O:
    """What a body of this tenant names: its own by id or name, or any other one by id.

    That of another tenant is given back too, for flows.tenancy to refuse it in its own words.
    """
    others = [thing for thing in things if thing.tenant != tenant and thing.id == ref]
    mine = [t for t in things if t.tenant == tenant and ref in (t.id, t.name)]
    if others and not mine:
        return others[0]
    return find(kind, mine, ref, tenant, where)


def part(
    items: Sequence[_T], query: ListQuery, key: Callable[[_T], str]
) -> tuple[list[_T], str | None]:
    """The part of a list that a request asks for, and the marker of the next part."""
    start = 0
    if query.marker is not None:
        places = [index for index, item in enumerate(items) if key(item) == query.marker]
        if not places:
            raise problems.bad_request(
                "marker-gone",
                f"marker {query.marker!r} is not in the list (any more): begin without marker",
                "marker",
            )
        start = places[0] + 1
    chosen = list(items[start : start + query.limit])
    is_last = start + query.limit >= len(items)
    return chosen, None if is_last or not chosen else key(chosen[-1])


def matches(wanted: dict[str, Any]) -> Callable[[BaseModel], bool]:
    """Whether a shown thing has these values (None: any)."""
    given = {name: value for name, value in wanted.items() if value is not None}

    def is_match(shown: BaseModel) -> bool:
        return all(getattr(shown, name) == value for name, value in given.items())

    return is_match
