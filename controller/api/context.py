"""What every resource needs: the parts of the controller, its request, its answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol, TypeVar, cast

from flask import Response, current_app, g, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from netaddr import IPNetwork
from pydantic import BaseModel

from controller.api import problems
from controller.api.schemas import ListQuery
from controller.inventory import Inventory, Pending
from controller.process import write_list
from controller.status import Inspecting, Reconciling
from controller.store import Store
from flows.errors import Refused
from flows.model import UNDERLAY_MTU, SessionId

EXTENSION = "cloudtap"
"""Key of the Context in ``Flask.extensions``."""

SYNC_TIMEOUT_S = 10.0
"""How long the answer to a change waits for the switches to confirm it, in seconds."""

LONG = 16
"""A list of an answer with more elements is written in small steps."""

_PROBLEM = {
    "description": "Not done; the document says why.",
    "content": {
        "application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemOut"}}
    },
}


class InventoryControl(Protocol):
    """The inventory file: what is wrong with it, and what waits for a word of the operator."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with the file now, a sentence for each problem."""
        ...

    @property
    def vanish_limit(self) -> float:
        """The share (0..1) of ports or links that may vanish before a file is pending."""
        ...

    @property
    def pending(self) -> Pending | None:
        """The file that is not used because too much is missing from it; or None."""
        ...

    def accept(self, digest: str) -> None:
        """Use the pending file with this digest.

        Raises:
            Refused: no file is pending, or another one.
        """
        ...

    def with_others(self, declared: Inventory) -> Inventory:
        """What would be in force if the file declared this."""
        ...


class NoInventoryControl(InventoryControl):
    """There is no file: the inventory is given."""

    problems: tuple[str, ...] = ()
    vanish_limit: float = 1.0
    pending: Pending | None = None

    def accept(self, digest: str) -> None:
        """Nothing is pending."""
        raise Refused("no inventory waits to be accepted")

    def with_others(self, declared: Inventory) -> Inventory:
        """There is nothing else."""
        return declared


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of the controller that the API calls."""

    store: Store
    inventory: Callable[[], Inventory]
    reconciler: Reconciling
    inspector: Inspecting
    now: Callable[[], datetime]
    underlay_mtu: int = UNDERLAY_MTU
    sensor_networks: tuple[IPNetwork, ...] = ()
    inventory_control: InventoryControl = field(default_factory=NoInventoryControl)


_T = TypeVar("_T")


def context() -> Context:
    """The context of the application that serves the current request."""
    return cast(Context, current_app.extensions[EXTENSION])


def note_moment() -> None:
    """Note the world before what the current request changes, for ``bring_about``."""
    g.moment = context().reconciler.moment()


def bring_about(ending: SessionId | None = None) -> bool:
    """Bring what the current request has changed to the switches; see Reconciling.sync."""
    return context().reconciler.sync(SYNC_TIMEOUT_S, g.get("moment"), ending)


def resource(name: str, description: str) -> APIBlueprint:
    """An empty resource /v1/<name>."""
    return APIBlueprint(
        name,
        __name__,
        url_prefix=f"/v1/{name}",
        abp_tags=[Tag(name=name, description=description)],
        abp_responses={422: dict(_PROBLEM), 404: dict(_PROBLEM)},
    )


def actor() -> str:
    """Who sent the current request, for audit entries."""
    return f"api from {request.remote_addr or 'this machine'}"


def answer(model: BaseModel, status: int = HTTPStatus.OK) -> Response:
    """A model as a JSON answer; one with long lists is written in small steps."""
    return Response(_text_of(model), status, mimetype="application/json")


def _text_of(model: BaseModel) -> str:
    lists: dict[str, list[Any]] = {
        key: value
        for key, value in model
        if isinstance(value, list) and len(value) > LONG and isinstance(value[0], BaseModel)
    }
    if not lists:
        return json.dumps(_values_of(model))
    parts = _values_of(model.model_copy(update={key: [] for key in lists}))
    texts = {key: json.dumps(value) for key, value in parts.items()}
    for key, value in lists.items():
        name = type(model).model_fields[key].serialization_alias or key
        texts[name] = write_list(map(_values_of, value))
    return f"{{{', '.join(f'{json.dumps(key)}: {text}' for key, text in texts.items())}}}"


def _values_of(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json", by_alias=True)


def no_content() -> Response:
    """The empty answer to a deletion that is complete."""
    return Response(status=HTTPStatus.NO_CONTENT)


def page(
    items: Sequence[_T], query: ListQuery, key: Callable[[_T], str]
) -> tuple[list[_T], str | None]:
    """The page of a list that a request asks for, and the marker of the next page.

    Raises:
        ApiProblem: the marker is not in the list.
    """
    start = 0
    if query.marker is not None:
        found = [index for index, item in enumerate(items) if key(item) == query.marker]
        if not found:
            raise problems.bad_request(
                "marker-gone",
                f"marker {query.marker!r} is not in the list (any more): begin without marker",
                "marker",
            )
        start = found[0] + 1
    chosen = list(items[start : start + query.limit])
    is_last = start + query.limit >= len(items)
    return chosen, None if is_last or not chosen else key(chosen[-1])


def cloudtap_version() -> str:
    """The installed version."""
    try:
        return version("cloudtap")
    except PackageNotFoundError:
        return "not installed"
