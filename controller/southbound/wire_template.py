"""Flows as messages of a bundle, several times faster: the bytes of each shape are made once.

Flows of one shape (see Flow.shape) differ in transaction id, cookie, matched values and numbers of
actions alone. A template holds the rest, made by the plain functions of wire.py; tests compare both
ways byte by byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct, error

from controller.southbound.errors import WireError
from controller.southbound.wire import encode_flow_add, encode_instructions
from controller.southbound.wire_match import MATCH_HEAD, encode_term
from controller.southbound.wire_message import encode_bundle_add
from flows.flow import SHAPED_ACTIONS, Flow, Match

TEMPLATES_MAX = 4096
"""More shapes than this are not kept; the compiler makes about a hundred."""

HEAD = Struct("!4sI8sI8sIQ32s")
"""Both headers, the bundle's and the flow mod's own, cut before and after the numbers that differ:
transaction id, bundle, transaction id, cookie."""


class FlowTemplates:
    """Makes the messages that add flows to a bundle; for one thread at a time."""

    def __init__(self) -> None:
        self._templates: dict[str, _Template] = {}

    def encode(self, flow: Flow, xid: int, bundle: int) -> bytes:
        """The message that puts the addition of ``flow`` into a bundle.

        Raises:
            WireError: the flow does not fit into one message.
        """
        if len(flow.actions) > SHAPED_ACTIONS:
            return _plainly(flow, xid, bundle)
        try:
            template = self._templates.get(flow.shape) or self._make(flow)
            start, middle, inner, rest = template.parts
            match = template.match
            for value, shift in zip(flow.match.values, template.shifts, strict=True):
                match |= value << shift
            does = template.does
            if does is None:
                does = encode_instructions(flow)
            head = HEAD.pack(start, xid, middle, bundle, inner, xid, flow.cookie, rest)
            return head + match.to_bytes(template.match_bytes, "big") + does
        except (error, OverflowError, WireError):
            return _plainly(flow, xid, bundle)  # says what is wrong

    def _make(self, flow: Flow) -> _Template:
        template = _Template(flow)
        if len(self._templates) < TEMPLATES_MAX:
            self._templates[flow.shape] = template
        return template


class _Template:
    """The message of one shape with zeros where the numbers go.

    ``match`` is the match as one number; the value of each term is shifted to its place in it.
    ``does`` are the instructions, None when they have numbers.
    """

    __slots__ = ("does", "match", "match_bytes", "parts", "shifts")

    def __init__(self, flow: Flow) -> None:
        blank = flow.match._replace(values=(0,) * len(flow.match.values))
        like = Flow(flow.table, flow.priority, blank, flow.actions, 0, flow.why)
        whole = encode_bundle_add(0, encode_flow_add(like, 0))
        start, _, middle, _, inner, _, _, rest = HEAD.unpack_from(whole)
        self.parts = start, middle, inner, rest
        does = encode_instructions(flow)
        self.does = None if any(action.numbers for action in flow.actions) else does
        match = whole[HEAD.size : len(whole) - len(does)]
        self.match, self.match_bytes = int.from_bytes(match, "big"), len(match)
        self.shifts = tuple(_shifts(blank, len(match)))


def _plainly(flow: Flow, xid: int, bundle: int) -> bytes:
    return encode_bundle_add(bundle, encode_flow_add(flow, xid))


def _shifts(match: Match, length: int) -> Iterator[int]:
    """How far the value of each term is from the end, in bits."""
    at = MATCH_HEAD.size
    for term in match.terms:
        at += len(encode_term(term))
        mask_bytes = 0 if term.is_exact else term.field.size
        yield (length - at + mask_bytes) * 8
