"""Flows as messages of a bundle, several times faster: the bytes of each shape are made once.

Flows of one shape (see Flow.shape) differ in transaction id, cookie, matched values and numbers of
actions alone. A template holds the rest, made by the plain functions of wire.py; tests compare both
ways byte by byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct, error

from controller.southbound.errors import WireError
from controller.southbound.wire.flow import encode_flow_add, encode_instructions
from controller.southbound.wire.action import number_places
from controller.southbound.wire.match import MATCH_HEAD, encode_term
from controller.southbound.wire.message import encode_bundle_add
from flows.openflow.flow import Flow, Pattern, make_flow

TEMPLATES_MAX = 4096
"""More shapes than this are not kept; the compiler makes about a hundred."""
SHAPED_ACTIONS = 32
"""A longer list of actions is hardly ever like another one."""

HEAD = Struct("!4sI8sI8sIQ32s")
"""Both headers, the bundle's and the flow mod's own, cut before and after the numbers that differ:
transaction id, bundle, transaction id, cookie."""


class FlowTemplates:
    """Makes the messages that add flows to a bundle; for one thread at a time."""

    def __init__(self) -> None:
        self._templates: dict[tuple[Pattern, str], _Template] = {}

    def encode(self, flow: Flow, xid: int, bundle: int) -> bytes:
        """The message that puts the addition of ``flow`` into a bundle.

        Raises:
            WireError: the flow does not fit into one message, or a number not into its field.
        """
        pattern, values, steps, _, _, mark = flow
        try:
            template = self._templates.get((pattern, steps.form)) or self._make(flow)
            body = template.body
            for number, (shift, most) in zip(values + steps.numbers, template.places):  # noqa: B905
                if number > most:
                    return _plainly(flow, xid, bundle)
                body |= number << shift
            start, middle, inner, rest = template.parts
            head: bytes = HEAD.pack(start, xid, middle, bundle, inner, xid, mark[2], rest)
            whole = head + body.to_bytes(template.body_bytes, "big")
            return whole if template.is_whole else whole + encode_instructions(flow)
        except (error, OverflowError, WireError):
            return _plainly(flow, xid, bundle)  # says what is wrong

    def _make(self, flow: Flow) -> _Template:
        template = _Template(flow)
        if len(self._templates) < TEMPLATES_MAX and len(flow.actions) <= SHAPED_ACTIONS:
            self._templates[flow.shape] = template
        return template


class _Template:
    """The message of one shape with zeros where the numbers go.

    ``body`` is what follows the head as one number; each number of a flow is shifted to its place
    in it, which has room up to a limit. It is not ``is_whole`` where the instructions have numbers
    of which no place is known: then it ends before them.
    """

    __slots__ = ("body", "body_bytes", "is_whole", "parts", "places")

    def __init__(self, flow: Flow) -> None:
        zeros = (0,) * len(flow.values)
        like = make_flow(flow.pattern, zeros, flow.steps, 0, flow.why)
        whole = encode_bundle_add(0, encode_flow_add(like, 0))
        start, _, middle, _, inner, _, _, rest = HEAD.unpack_from(whole)
        self.parts = start, middle, inner, rest
        before_steps = len(whole) - len(encode_instructions(flow))
        numbers = number_places(flow.actions)
        self.is_whole = numbers is not None
        end = len(whole) if self.is_whole else before_steps
        shifts = _value_places(flow.pattern, end - HEAD.size)
        self.places = (*shifts, *(numbers or ()))
        body = int.from_bytes(whole[HEAD.size : end], "big")
        for shift, most in numbers or ():
            body &= ~(most << shift)
        self.body, self.body_bytes = body, end - HEAD.size


def _plainly(flow: Flow, xid: int, bundle: int) -> bytes:
    return encode_bundle_add(bundle, encode_flow_add(flow, xid))


def _value_places(pattern: Pattern, length: int) -> Iterator[tuple[int, int]]:
    """Where the open values of a match are: bits from the end, and the highest that fits.

    The match begins what has ``length`` bytes.
    """
    at = MATCH_HEAD.size
    terms = pattern.match((0,) * pattern.is_open.count(True)).terms
    for term, is_open in zip(terms, pattern.is_open, strict=True):
        at += len(encode_term(term))
        if is_open:
            mask_bytes = 0 if term.is_exact else term.field.size
            yield (length - at + mask_bytes) * 8, term.mask
