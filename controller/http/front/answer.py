"""Answers of the front itself: problem details (RFC 9457) for what never reaches the controller."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus

from controller.http.problem_types import FRONT_TITLES

PROBLEM_TYPE = "urn:cloudtap:problem:"
"""Prefix of the ``type`` of a problem; the API has the same."""

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """Status, header fields and body of one answer."""

    status: int
    headers: Headers
    body: bytes = b""


class Refusal(Exception):
    """A request that the front refuses; ``answer`` says why."""

    def __init__(self, status: HTTPStatus, slug: str, sentence: str, *headers: tuple[str, str]):
        super().__init__(sentence)
        document = {
            "type": PROBLEM_TYPE + slug,
            "title": FRONT_TITLES[slug],
            "status": status.value,
            "detail": sentence,
        }
        self.answer = HttpAnswer(
            status.value,
            (("Content-Type", "application/problem+json"), *headers),
            json.dumps(document).encode(),
        )


def too_busy(sentence: str) -> Refusal:
    """503: the request may be sent again in a second."""
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too-busy", sentence, ("Retry-After", "1"))
