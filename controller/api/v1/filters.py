"""/v1/filters: which packets of a source are copied."""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import Any

from flask import Response

from controller.api.schemas.responses import FilterLineOut, FilterOut, FilterPage, RuleOut
from controller.api.schemas.request_bodies import FilterIn, FilterPatch
from controller.api.context import (
    BRING_S,
    answer,
    context,
    find,
    find_own,
    part,
    resource,
    tenant_of,
    who,
)
from controller.api.idempotency import create_once
from controller.api.problems import conflict, not_found
from controller.api.schemas.parameters import FilterList, NoQuery, OneQuery, Path
from controller.syntax.filters import BadRule, flow_count, read_rules, show_rules
from controller.store import FilterRecord, OnceKey
from flows.errors import InvalidValue
from flows.model.filter import Filter, Rule
from flows.model.session import ALL, FilterId, TenantName

ALL_ID = "b4a9c1b0-52a5-5f0a-8d4c-2f1d9a6d0a11"
"""Id of the built-in filter `all`."""

FLOWS_MAX = 100_000
"""Flows that one filter may become on a switch."""

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
    shown = [_line_of_all(), *(_line(record) for record in context().store.filters.all())]
    shown = [f for f in shown if query.name in (None, f.name) and query.tenant in (None, f.tenant)]
    items, following = part(shown, query, lambda one: one.id)
    return answer(FilterPage(items=items, next=following))


@filters.post("", responses={201: FilterOut})
def create_filter(body: FilterIn, query: NoQuery) -> Response:
    """Create a filter"""
    parts = context()

    def make(once: OnceKey | None) -> str:
        tenant = tenant_of(body.tenant, parts.inventory())
        key = FilterId(str(uuid.uuid4()))
        ingress, egress = read_rules("ingress", body.ingress), read_rules("egress", body.egress)
        parts.store.filters.add(_checked(key, body.name, tenant, ingress, egress), who(), once)
        return key

    return create_once(make, _show)


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
    ingress = None if body.ingress is None else read_rules("ingress", body.ingress)
    egress = None if body.egress is None else read_rules("egress", body.egress)

    def change(old: Filter) -> Filter:
        return _checked(
            old.id,
            old.name if body.name is None else body.name,
            old.tenant,
            old.ingress if ingress is None else ingress,
            old.egress if egress is None else egress,
        )

    parts.store.filters.change(key, change, who())
    parts.reconcile.bring(BRING_S)
    return answer(_show(key))


@filters.delete("/<ref>", responses={204: None})
def delete_filter(path: Path, query: OneQuery) -> Response:
    """Delete a filter that no session uses"""
    parts = context()
    parts.store.filters.delete(_find(path.ref, query.tenant).id, who())
    parts.reconcile.bring(BRING_S)
    return Response(status=HTTPStatus.NO_CONTENT)


def find_filter(ref: str, tenant: TenantName) -> Filter | None:
    """The filter that a session of this tenant names; None for the built-in one."""
    if ref in (ALL, ALL_ID):
        return None
    everything = [record.filter for record in context().store.filters.all()]
    return find_own("filter", everything, ref, tenant, "filter")


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
    for direction, rules in (("ingress", ingress), ("egress", egress)):
        flows = sum(flow_count(rule.match) for rule in rules)
        if flows > FLOWS_MAX:
            raise BadRule(
                f"a switch needs {flows} flows for the {len(rules)} {direction} rules, and "
                f"{FLOWS_MAX} are possible: use fewer rules, or rounder port ranges",
                direction,
            )
    try:
        return Filter(key, name, tenant, ingress, egress)
    except InvalidValue as error:
        raise BadRule(str(error), "ingress" if len(ingress) > len(egress) else "egress") from error


def _show(key: str) -> FilterOut:
    for record in context().store.filters.all():
        if record.filter.id == key:
            return _shown(record)
    raise not_found("filter", key)


def _shown(record: FilterRecord) -> FilterOut:
    wanted = record.filter
    return FilterOut(
        id=wanted.id,
        name=wanted.name,
        tenant=wanted.tenant,
        built_in=False,
        ingress=[_rule(rule) for rule in show_rules(wanted.ingress)],
        egress=[_rule(rule) for rule in show_rules(wanted.egress)],
        created_at=record.created_at.isoformat(),
    )


def _rule(shown: dict[str, Any]) -> RuleOut:
    return RuleOut.model_construct(**shown)  # it was checked when it was read


def _line(record: FilterRecord) -> FilterLineOut:
    wanted = record.filter
    return FilterLineOut(
        id=wanted.id,
        name=wanted.name,
        tenant=wanted.tenant,
        built_in=False,
        ingress_rules=len(wanted.ingress),
        egress_rules=len(wanted.egress),
        created_at=record.created_at.isoformat(),
    )


def _line_of_all() -> FilterLineOut:
    fields = {key: getattr(_ALL, key) for key in ("id", "name", "tenant", "built_in", "created_at")}
    return FilterLineOut(**fields, ingress_rules=1, egress_rules=1)
