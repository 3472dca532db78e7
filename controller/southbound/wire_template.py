"""Flows as messages of a bundle, several times faster: the bytes of each shape are made once.

Flows of one shape (table, priority, matched fields with their masks, bytes of actions) differ in
transaction id, cookie, matched values and actions alone. A template holds the rest, made by the
plain functions of wire.py; tests compare both ways byte by byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from struct import Struct, error

from controller.southbound.errors import WireError
from controller.southbound.wire import encode_flow_add
from controller.southbound.wire_action import encode_actions
from controller.southbound.wire_match import MATCH_HEAD, encode_term
from controller.southbound.wire_message import encode_bundle_add
from flows.field import Field, Term
from flows.flow import Flow, Match

TEMPLATES_MAX = 4096
"""More shapes than this are not kept; the compiler makes about a hundred."""

HEAD = Struct("!4sI8sI8sIQ32s")
"""Both headers, the bundle's and the flow mod's own, cut before and after the numbers that differ:
transaction id, bundle, transaction id, cookie."""

Shape = tuple[int, int, int, tuple[tuple[Field, int], ...]]

_shape_of = attrgetter("field", "mask")


class FlowTemplates:
    """Makes the messages that add flows to a bundle; for one thread at a time."""

    def __init__(self) -> None:
        self._templates: dict[Shape, _Template] = {}

    def encode(self, flow: Flow, xid: int, bundle: int) -> bytes:
        """The message that puts the addition of ``flow`` into a bundle.

        Raises:
            WireError: the flow does not fit into one message.
        """
        terms = flow.match.terms
        try:
            actions = encode_actions(flow.actions)
            shape = flow.table, flow.priority, len(actions), tuple(map(_shape_of, terms))
            template = self._templates.get(shape) or self._make(shape, flow)
            start, middle, inner, rest = template.parts
            match = template.match
            for term, shift in zip(terms, template.shifts, strict=True):
                match |= term.value << shift
            head = HEAD.pack(start, xid, middle, bundle, inner, xid, flow.cookie, rest)
            return head + match.to_bytes(template.match_bytes, "big") + actions
        except (error, OverflowError, WireError):
            return encode_bundle_add(bundle, encode_flow_add(flow, xid))  # says what is wrong

    def _make(self, shape: Shape, flow: Flow) -> _Template:
        template = _Template(flow, shape[2])
        if len(self._templates) < TEMPLATES_MAX:
            self._templates[shape] = template
        return template


class _Template:
    """The message of one shape with zeros where the numbers go.

    ``match`` is the match and the head of the instruction as one number; the value of each term
    is shifted to its place in it.
    """

    __slots__ = ("match", "match_bytes", "parts", "shifts")

    def __init__(self, flow: Flow, action_bytes: int) -> None:
        blank = Match(tuple(Term(term.field, 0, term.mask) for term in flow.match.terms))
        like = Flow(flow.table, flow.priority, blank, flow.actions, 0, flow.why)
        whole = encode_bundle_add(0, encode_flow_add(like, 0))
        start, _, middle, _, inner, _, _, rest = HEAD.unpack_from(whole)
        self.parts = start, middle, inner, rest
        match = whole[HEAD.size : len(whole) - action_bytes]
        self.match, self.match_bytes = int.from_bytes(match, "big"), len(match)
        self.shifts = tuple(_shifts(blank, len(match)))


def _shifts(match: Match, length: int) -> Iterator[int]:
    """How far the value of each term is from the end, in bits."""
    at = MATCH_HEAD.size
    for term in match.terms:
        at += len(encode_term(term))
        mask_bytes = 0 if term.is_exact else term.field.size
        yield (length - at + mask_bytes) * 8
