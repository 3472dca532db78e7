"""/v1/explain: why a packet is, or is not, copied."""

from __future__ import annotations

import re
from collections.abc import Mapping

from flask import Response

from controller.api.context import Context, answer, context, resource
from controller.api.lookup import find, tenant_of
from controller.api.problems import ApiProblem, unprocessable
from controller.api.schemas import (
    AnswerOut,
    ExplainIn,
    ExplanationOut,
    NoQuery,
    ReceiverOut,
    RuleOut,
)
from controller.syntax import build_frame, show_rules
from flows.explain import Answer
from flows.model import Direction, Dpid, Port

HEADER_LENGTH = 14
"""Bytes of an Ethernet header: the shortest frame that is accepted."""

explain = resource("explain", "Why a packet is, or is not, copied.")


@explain.post("", responses={200: ExplanationOut})
def explain_packet(body: ExplainIn, query: NoQuery) -> Response:
    """Say what each session does with a packet, without sending one"""
    parts = context()
    inventory = parts.inventory()
    tenant = tenant_of(body.tenant, inventory)
    port = find("port", inventory.ports, body.port, tenant, "port")
    frame = _frame(body, port, parts)
    found = parts.inspector.explain(port.id, frame)
    names = {bridge.dpid: bridge.name for bridge in parts.inspector.bridges()}
    return answer(
        ExplanationOut(
            port=port.name,
            port_id=port.id,
            frame=frame.hex(),
            receivers=[ReceiverOut(port=each.name, port_id=each.id) for each in found.receivers],
            obstacles=list(found.obstacles),
            sessions=[_shown(each, names) for each in found.answers],
            steps=list(found.steps),
        )
    )


def _frame(body: ExplainIn, port: Port, parts: Context) -> bytes:
    if body.packet is not None:
        neighbours = [each for each in parts.inventory().ports if each.network == port.network]
        return build_frame(body.packet, port, neighbours)
    digits = re.sub(r"[\s:]", "", body.hex or "")
    try:
        frame = bytes.fromhex(digits)
    except ValueError:
        raise _bad_hex("hex is not made of pairs of hexadecimal digits") from None
    if len(frame) < HEADER_LENGTH:
        raise _bad_hex(f"{len(frame)} bytes are no Ethernet frame: the header has {HEADER_LENGTH}")
    return frame


def _bad_hex(sentence: str) -> ApiProblem:
    return unprocessable("invalid-value", sentence, "hex")


def _shown(found: Answer, names: Mapping[Dpid, str]) -> AnswerOut:
    session = found.session
    direction = None
    if found.direction is not None:
        direction = "egress" if found.direction is Direction.EGRESS else "ingress"
    rules = [] if found.rule is None else show_rules([found.rule])
    bridge = None if found.bridge is None else names.get(found.bridge, f"{found.bridge:016x}")
    return AnswerOut(
        session=session.name,
        session_id=session.id,
        tenant=session.tenant,
        copied=found.is_copied,
        sentence=found.sentence,
        bridge=bridge,
        direction=direction,
        rule=RuleOut(**rules[0]) if rules else None,
    )
