"""/v1/filters: rules that select which packets of a source are copied."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Sequence

from flask import Response

from controller.api.context import (
    actor,
    answer,
    bring_about,
    context,
    no_content,
    page,
    resource,
)
from controller.api.idempotency import create_once
from controller.api.lookup import ALL_ID, check_name, check_tenant, existing, find, tenant_of
from controller.api.problems import conflict
from controller.api.schemas import (
    FilterIn,
    FilterLineOut,
    FilterList,
    FilterOut,
    FilterPage,
    FilterPatch,
    NoQuery,
    OneQuery,
    Path,
    RuleOut,
)
from controller.process import Yielder
from controller.store import FilterRecord, IdempotencyKey
from controller.syntax import BadRule, check_readable, read_rules, show_rules
from flows.errors import InvalidValue
from flows.model import ALL, Filter, FilterId, Rule, TenantName

filters = resource("filters", "Which packets of a source are copied.")

_EVERYTHING = RuleOut(number=1, action="accept", match={})
_ALL = FilterOut(
    id=ALL_ID,
    name=ALL,
    tenant=None,
    built_in=True,
    ingress=[_EVERYTHING],
    egress=[_EVERYTHING],
    created_at=None,
)


@filters.get("", responses={200: FilterPage})
def list_filters(query: FilterList) -> Response:
    """List filters, without their rules"""
    parts = context()
    stored = parts.store.filters.all()
    check_tenant(query.tenant, parts.inventory(), (record.filter for record in stored))
    lines = [_line_of_all(), *(_line(record) for record in stored)]
    check_name("filter", query.name, query.tenant, lines)
    lines = [line for line in lines if query.selects(line.tenant, line.name)]
    items, following = page(lines, query, lambda line: line.id)
    return answer(FilterPage(items=items, next=following))


@filters.post("", responses={201: FilterOut})
def create_filter(body: FilterIn, query: NoQuery) -> Response:
    """Create a filter"""
    parts = context()

    def create(key: IdempotencyKey | None) -> str:
        tenant = tenant_of(body.tenant, parts.inventory())
        ingress, egress = _read("ingress", body.ingress), _read("egress", body.egress)
        new = _checked(FilterId(str(uuid.uuid4())), body.name, tenant, ingress, egress)
        parts.store.filters.add(new, actor(), key)
        return new.id

    return create_once(create, _show)


@filters.get("/<ref>", responses={200: FilterOut})
def show_filter(path: Path, query: OneQuery) -> Response:
    """Show a filter with its rules, the lowest number first"""
    if path.ref in (ALL, ALL_ID):
        return answer(_ALL)
    return answer(_show(_find(path.ref, query.tenant).id))


@filters.patch("/<ref>", responses={200: FilterOut})
def change_filter(path: Path, query: OneQuery, body: FilterPatch) -> Response:
    """Change a filter in place, for all sessions that use it"""
    parts = context()
    key = _find(path.ref, query.tenant).id
    ingress = None if body.ingress is None else _read("ingress", body.ingress)
    egress = None if body.egress is None else _read("egress", body.egress)

    def change(record: FilterRecord) -> FilterRecord:
        old = record.filter
        new = _checked(
            old.id,
            old.name if body.name is None else body.name,
            old.tenant,
            old.ingress if ingress is None else ingress,
            old.egress if egress is None else egress,
        )
        return dataclasses.replace(record, filter=new)

    parts.store.filters.change(key, change, actor())
    bring_about()
    return answer(_show(key))


@filters.delete("/<ref>", responses={204: None})
def delete_filter(path: Path, query: OneQuery) -> Response:
    """Delete a filter that no session uses"""
    parts = context()
    parts.store.filters.delete(_find(path.ref, query.tenant).id, actor())
    bring_about()
    return no_content()


def _read(direction: str, given: object) -> tuple[Rule, ...]:
    rules = read_rules(direction, given)
    check_readable(direction, rules)
    return rules


def _find(ref: str, tenant: str | None) -> Filter:
    if ref in (ALL, ALL_ID):
        raise conflict("built-in", "the filter 'all' is built in: it can neither change nor go")
    return find("filter", [r.filter for r in context().store.filters.all()], ref, tenant)


def _checked(
    key: FilterId,
    name: str,
    tenant: TenantName,
    ingress: tuple[Rule, ...],
    egress: tuple[Rule, ...],
) -> Filter:
    try:
        return Filter(key, name, tenant, ingress, egress)
    except InvalidValue as error:
        raise BadRule(str(error), "ingress" if len(ingress) > len(egress) else "egress") from error


def _show(key: str) -> FilterOut:
    record = existing("filter", key, context().store.filters.find(key))
    found = record.filter
    return FilterOut(
        id=found.id,
        name=found.name,
        tenant=found.tenant,
        built_in=False,
        ingress=_rules(found.ingress),
        egress=_rules(found.egress),
        created_at=record.created_at.isoformat(),
    )


def _rules(rules: Sequence[Rule]) -> list[RuleOut]:
    yielder, shown = Yielder(), list[RuleOut]()
    for values in show_rules(rules):
        yielder.pause()
        shown.append(RuleOut.model_construct(**values))  # they were checked when they were read
    return shown


def _line(record: FilterRecord) -> FilterLineOut:
    found = record.filter
    return FilterLineOut(
        id=found.id,
        name=found.name,
        tenant=found.tenant,
        built_in=False,
        ingress_rules=len(found.ingress),
        egress_rules=len(found.egress),
        created_at=record.created_at.isoformat(),
    )


def _line_of_all() -> FilterLineOut:
    fields = {key: getattr(_ALL, key) for key in ("id", "name", "tenant", "built_in", "created_at")}
    return FilterLineOut(**fields, ingress_rules=1, egress_rules=1)
