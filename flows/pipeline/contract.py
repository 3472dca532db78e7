"""Checks compiled flows against the contract of their table."""

from __future__ import annotations

from collections.abc import Iterable

from flows.errors import InvalidFlow
from flows.openflow import (
    Action,
    CheckLarger,
    Clone,
    Flow,
    Learn,
    Load,
    Metered,
    MoveToVlan,
    Multipath,
    Resubmit,
    SetTunnelKey,
    SetTunnelRemote,
)
from flows.pipeline.tables import (
    BRIDGE_CAP,
    CAP,
    COUNT,
    CUT,
    FILTER,
    LEARN,
    LEARNED,
    REGISTER_FIELDS,
    RULE_PRIORITIES,
    SEND,
    START,
    TABLE_BY_NUMBER,
    TAG,
    Table,
)


def check_flows(flows: Iterable[Flow]) -> None:
    """Refuse flows of which one breaks the contract of its table; checks one flow of each shape.

    Of flows that differ in the priority, as the rules of a filter do, only that is checked.

    Raises:
        InvalidFlow: see check_flow.
    """
    checked: set[tuple[str, str]] = set()
    for flow in {flow.shape: flow for flow in flows}.values():
        kind = flow.pattern.kind, flow.steps.form
        if kind in checked:
            _table_of(flow)
        else:
            check_flow(flow)
            checked.add(kind)


def check_flow(flow: Flow) -> None:
    """Refuse a flow that breaks the contract of its table.

    Raises:
        InvalidFlow: it matches, sets, resubmits or does what its table may not.
    """
    table = _table_of(flow)
    for term in flow.match.terms:
        mask = term.mask
        if term.field.name in table.matches:
            continue
        for register in REGISTER_FIELDS:
            if register.field == term.field and register.name in table.matches:
                mask &= ~register.mask
        if not term.field.is_register or mask:
            raise InvalidFlow(f"table {table.name!r} may not match {term.field.name}: {flow}")
    _check_actions(table, flow, flow.actions)


def _table_of(flow: Flow) -> Table:
    """The table of a flow, which has its priority."""
    table = TABLE_BY_NUMBER.get(flow.table)
    if table is None:
        raise InvalidFlow(f"table {flow.table} is not ours: {flow}")
    is_rule = table is FILTER and flow.priority in RULE_PRIORITIES
    if flow.priority not in table.priorities.values() and not is_rule:
        raise InvalidFlow(f"table {table.name!r} has no priority {flow.priority}: {flow}")
    return table


def _check_actions(table: Table, flow: Flow, actions: tuple[Action, ...]) -> None:
    for action in actions:
        match action:
            case Load(target=target) | Multipath(target=target) | CheckLarger(target=target) if (
                target.name not in table.owns
            ):
                raise InvalidFlow(f"table {table.name!r} may not set {target.name!r}: {flow}")
            case Resubmit(table=number):
                if number not in TABLE_BY_NUMBER or TABLE_BY_NUMBER[number].name not in table.then:
                    raise InvalidFlow(f"table {table.name!r} may not go to {number}: {flow}")
            case Clone(actions=inner):
                _check_actions(table, flow, inner)
            case Learn(table=number) if number != LEARNED.number or table is not LEARN:
                raise InvalidFlow(f"table {table.name!r} may not learn: {flow}")
            case Metered() if table not in (START, CAP, BRIDGE_CAP, CUT, COUNT):
                raise InvalidFlow(f"table {table.name!r} may not use a meter: {flow}")
            case SetTunnelKey() | SetTunnelRemote() if table not in (SEND, CUT):
                raise InvalidFlow(f"table {table.name!r} sends into no tunnel: {flow}")
            case MoveToVlan(source=source) if source != TAG:
                raise InvalidFlow(f"only the link tag goes into a VLAN id: {flow}")
            case _:
                pass
