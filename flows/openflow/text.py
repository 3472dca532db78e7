"""Parses the canonical text of flows and actions (ovs-ofctl syntax) into values."""

from __future__ import annotations

import re
from collections.abc import Iterator

from netaddr import AddrFormatError, IPAddress

from flows.errors import InvalidFlow
from flows.openflow.action import (
    Action,
    CheckLarger,
    Clone,
    ForgetInPort,
    HashOf,
    Learn,
    Load,
    Metered,
    MoveToVlan,
    Multipath,
    Output,
    PopMpls,
    PopVlan,
    PushMpls,
    PushVlan,
    Resubmit,
    SetMark,
    SetTunnelKey,
    SetTunnelRemote,
    SetVlan,
    SetVlanPriority,
)
from flows.openflow.cookie import Cookie, object_of
from flows.openflow.field import FIELD_BY_NAME, FRAGMENT_NAMES, IP_FRAG, RegField, Term
from flows.openflow.flow import Flow
from flows.openflow.pattern import Match
from flows.openflow.protocol import VLAN_ID_MASK

_REGISTER = r"NXM_NX_REG(\d+)\[(\d+)\.\.(\d+)\]"
_TRUNCATED = re.compile(r"output\(port=(\d+),max_len=(\d+)\)")
_LOAD = re.compile(rf"load:(0x[0-9a-f]+)->{_REGISTER}")
_MOVE = re.compile(rf"move:{_REGISTER}->NXM_OF_VLAN_TCI\[0\.\.11\]")
_SET = re.compile(r"set_field:(\d+)->(vlan_vid|vlan_pcp)")
_KEY = re.compile(r"set_field:(0x[0-9a-f]+)->tun_id")
_MARK = re.compile(r"set_field:(0x[0-9a-f]+|0)->pkt_mark")
_REMOTE = re.compile(r"set_field:([0-9a-f.:]+)->(?:tun_dst|tun_ipv6_dst)")
_MULTIPATH = re.compile(rf"multipath\(([a-z0-9_+]+),0,modulo_n,(\d+),0,{_REGISTER}\)")
_LARGER = re.compile(r"check_pkt_larger\((\d+)\)->NXM_NX_REG(\d+)\[(\d+)\]")
_LEARN = re.compile(
    r"learn\(table=(\d+),idle_timeout=(\d+),priority=(\d+),delete_learned,cookie=(0x[0-9a-f]+),"
    rf"limit=(\d+),{_REGISTER},NXM_OF_ETH_DST\[\]=NXM_OF_ETH_SRC\[\],"
    rf"load:NXM_OF_IN_PORT\[\]->{_REGISTER}\)"
)

FRAGMENT_BY_NAME = {name: bits for bits, name in FRAGMENT_NAMES.items()}


def parse_flow(text: str, why: str = "read from text") -> Flow:
    """Parse the text that ``str(flow)`` makes; ``why`` is not part of it.

    Raises:
        InvalidFlow: the text is not in the canonical form.
    """
    head, separator, tail = text.partition(",actions=")
    if not separator:
        raise InvalidFlow(f"flow without actions: {text!r}")
    parts = dict(part.partition("=")[::2] for part in head.split(","))
    try:
        cookie, table, priority = (int(parts.pop(k), 0) for k in ("cookie", "table", "priority"))
        match = Match.of(*(_term(name, value) for name, value in parts.items()))
    except (KeyError, ValueError, AddrFormatError) as problem:
        raise InvalidFlow(f"flow {text!r}: {problem}") from problem
    flow = Flow(table, priority, match, parse_actions(tail), object_of(cookie), why)
    if f"cookie={cookie:#x},{str(flow).partition(',')[2]}" != text:
        raise InvalidFlow(f"flow {text!r} is not in the canonical form {str(flow)!r}")
    return flow


def parse_actions(text: str) -> tuple[Action, ...]:
    """Parse the text that ``show_actions`` makes.

    Raises:
        InvalidFlow: an action is not one of ours.
    """
    try:
        return () if text == "drop" else tuple(_action(part) for part in _split(text))
    except (ValueError, AddrFormatError) as problem:
        raise InvalidFlow(f"actions {text!r}: {problem}") from problem


def _term(name: str, text: str) -> Term:
    field = FIELD_BY_NAME[name]
    if field is IP_FRAG and text in FRAGMENT_BY_NAME:
        return field.masked(*FRAGMENT_BY_NAME[text])
    value, _, mask = text.partition("/")
    return Term(field, field.read(value), field.read(mask) if mask else field.full)


def _split(text: str) -> Iterator[str]:
    depth = start = 0
    for at, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            yield text[start:at]
            start = at + 1
    yield text[start:]


def _register(reg: str, low: str, high: str) -> RegField:
    return RegField("", int(reg), int(low), int(high))


def _action(text: str) -> Action:
    if text.startswith("output:"):
        return Output(int(text[7:]))
    if found := _TRUNCATED.fullmatch(text):
        return Output(int(found[1]), int(found[2]))
    if text.startswith("resubmit(,"):
        return Resubmit(int(text[10:-1]))
    if text.startswith("clone("):
        return Clone(parse_actions(text[6:-1]))
    if text == PushVlan.form:
        return PushVlan()
    if text == PopVlan.form:
        return PopVlan()
    if text == PushMpls.form:
        return PushMpls()
    if text.startswith("pop_mpls:"):
        return PopMpls(int(text[9:], 16))
    if text == ForgetInPort.form:
        return ForgetInPort()
    if found := _LOAD.fullmatch(text):
        return Load(_register(*found.groups()[1:]), int(found[1], 16))
    if found := _MOVE.fullmatch(text):
        return MoveToVlan(_register(*found.groups()))
    if found := _SET.fullmatch(text):
        value = int(found[1])
        return SetVlan(value & VLAN_ID_MASK) if found[2] == "vlan_vid" else SetVlanPriority(value)
    if found := _LEARN.fullmatch(text):
        table, idle, priority = (int(found[n]) for n in (1, 2, 3))
        registers = found.groups()[5:]
        return Learn(
            table, priority, idle, int(found[5]), Cookie(int(found[4], 16)),
            _register(*registers[:3]), _register(*registers[3:]),
        )  # fmt: skip
    return _delivery_action(text)


def _delivery_action(text: str) -> Action:
    """Parse an action that only flows for the delivery of copies use."""
    if text.startswith("meter:"):
        return Metered(int(text[6:]))
    if found := _MARK.fullmatch(text):
        return SetMark(int(found[1], 16))
    if found := _KEY.fullmatch(text):
        return SetTunnelKey(int(found[1], 16))
    if found := _REMOTE.fullmatch(text):
        return SetTunnelRemote(IPAddress(found[1]))
    if found := _MULTIPATH.fullmatch(text):
        return Multipath(HashOf(found[1]), int(found[2]), _register(*found.groups()[2:]))
    if found := _LARGER.fullmatch(text):
        return CheckLarger(int(found[1]), _register(found[2], found[3], found[3]))
    raise InvalidFlow(f"not an action of ours: {text!r}")
