"""/v1/explain: why a packet is, or is not, copied."""

from __future__ import annotations

import re
from collections.abc import Mapping

from flask import Response

from controller.api.schemas.responses import AnswerOut, ExplanationOut, ReceiverOut, RuleOut
from controller.api.schemas.request_bodies import ExplainIn
from controller.api.context import Context, answer, context, find, resource, tenant_of
from controller.api.problems import ApiProblem, unprocessable
from controller.api.schemas.parameters import NoQuery
from controller.syntax.filters import show_rules
from controller.syntax.packets import build_frame
from flows.explain.explain import Answer
from flows.model.session import Direction, Dpid, Port

SHORTEST = 14
"""Bytes of an Ethernet header."""

explain = resource("explain", "Why a packet is, or is not, copied.")


@explain.post("", responses={200: ExplanationOut})
def explain_packet(body: ExplainIn, query: NoQuery) -> Response:
    """Say what each session does with a packet, without sending one"""
    parts = context()
    inventory = parts.inventory()
    tenant = tenant_of(body.tenant, inventory)
    port = find("port", inventory.ports, body.port, tenant, "port")
    frame = _frame(body, port, parts)
    found = parts.reconcile.explain(port.id, frame)
    names = {bridge.dpid: bridge.name for bridge in parts.reconcile.bridges()}
    return answer(
        ExplanationOut(
            port=port.name,
            port_id=port.id,
            frame=frame.hex(),
            receivers=[ReceiverOut(port=each.name, port_id=each.id) for each in found.receivers],
            sessions=[_shown(each, names) for each in found.answers],
            steps=list(found.steps),
        )
    )


def _frame(body: ExplainIn, port: Port, parts: Context) -> bytes:
    if body.packet is not None:
        everybody = parts.inventory().ports
        neighbours = [each for each in everybody if each.network == port.network]
        return build_frame(body.packet, port, neighbours)
    digits = re.sub(r"[\s:]", "", body.hex or "")
    try:
        frame = bytes.fromhex(digits)
    except ValueError:
        raise _bad_hex("hex is not made of pairs of hexadecimal digits") from None
    if len(frame) < SHORTEST:
        raise _bad_hex(f"{len(frame)} bytes are no Ethernet frame: the header has {SHORTEST}")
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
