"""Encodes flows as bundle-add messages from templates, several times faster than field by field.

Flows with patterns of one kind and actions of one form differ only in transaction id, cookie,
priority, matched values and the numbers of their actions. A template holds the other bytes, made by
the plain encoders; tests compare both encodings byte by byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct, error

from controller.southbound.errors import WireError
from controller.southbound.wire.action import number_offsets
from controller.southbound.wire.flow import encode_flow_add, encode_instructions
from controller.southbound.wire.match import MATCH_HEAD, encode_term
from controller.southbound.wire.message import encode_bundle_add
from flows.openflow import Flow, Pattern, make_flow

TEMPLATES_MAX = 4096
"""No more templates than this are kept; the compiler needs about a hundred."""
TEMPLATE_ACTIONS_MAX = 32
"""Longer action lists are hardly ever alike, so their templates are not kept."""

HEAD = Struct("!4sI8sI8sIQ14sH16s")
"""The headers of the bundle-add and of the flow-mod inside it, split around what differs:
transaction id, bundle id, transaction id, cookie, priority."""


class FlowTemplates:
    """Makes the messages that add flows to a bundle; for one thread at a time."""

    def __init__(self) -> None:
        self._templates: dict[tuple[str, str], _Template] = {}

    def encode(self, flow: Flow, xid: int, bundle: int) -> bytes:
        """The bundle-add message with the flow-mod that adds ``flow``.

        Raises:
            WireError: the flow does not fit into one message, or a number not into its field.
        """
        pattern, values, steps, _, _, mark = flow
        try:
            template = self._templates.get((pattern.kind, steps.form)) or self._make(flow)
            body = template.body
            for number, (shift, most) in zip(values + steps.numbers, template.places):  # noqa: B905
                if number > most:
                    return _encode_plain(flow, xid, bundle)
                body |= number << shift
            start, middle, inner, before, rest = template.parts
            head: bytes = HEAD.pack(
                start, xid, middle, bundle, inner, xid, mark[2], before, mark[1], rest
            )
            whole = head + body.to_bytes(template.body_bytes, "big")
            return whole if template.is_whole else whole + encode_instructions(flow)
        except (error, OverflowError, WireError):
            return _encode_plain(flow, xid, bundle)  # its error names the flow

    def _make(self, flow: Flow) -> _Template:
        template = _Template(flow)
        if len(self._templates) < TEMPLATES_MAX and len(flow.actions) <= TEMPLATE_ACTIONS_MAX:
            self._templates[flow.pattern.kind, flow.steps.form] = template
        return template


class _Template:
    """The message of such flows with zeros in place of the numbers.

    ``body`` is all that follows the head, as one integer. ``places`` has (shift, highest value) for
    each number of a flow. ``is_whole`` is False if the instructions have numbers whose offsets are
    not known: then the body ends before the instructions, which are encoded for each flow.
    """

    __slots__ = ("body", "body_bytes", "is_whole", "parts", "places")

    def __init__(self, flow: Flow) -> None:
        zeros = (0,) * len(flow.values)
        sample = make_flow(flow.pattern, zeros, flow.steps, 0, flow.why)
        whole = encode_bundle_add(0, encode_flow_add(sample, 0))
        start, _, middle, _, inner, _, _, before, _, rest = HEAD.unpack_from(whole)
        self.parts = start, middle, inner, before, rest
        before_instructions = len(whole) - len(encode_instructions(flow))
        numbers = number_offsets(flow.actions)
        self.is_whole = numbers is not None
        end = len(whole) if self.is_whole else before_instructions
        shifts = _value_offsets(flow.pattern, end - HEAD.size)
        self.places = (*shifts, *(numbers or ()))
        body = int.from_bytes(whole[HEAD.size : end], "big")
        for shift, most in numbers or ():
            body &= ~(most << shift)
        self.body, self.body_bytes = body, end - HEAD.size


def _encode_plain(flow: Flow, xid: int, bundle: int) -> bytes:
    return encode_bundle_add(bundle, encode_flow_add(flow, xid))


def _value_offsets(pattern: Pattern, length: int) -> Iterator[tuple[int, int]]:
    """Where the open values of a match are encoded: (bits from the end, highest value) each.

    The match is at the start of ``length`` bytes.
    """
    at = MATCH_HEAD.size
    terms = pattern.match((0,) * pattern.is_open.count(True)).terms
    for term, is_open in zip(terms, pattern.is_open, strict=True):
        at += len(encode_term(term))
        if is_open:
            mask_bytes = 0 if term.is_exact else term.field.size
            yield (length - at + mask_bytes) * 8, term.mask
