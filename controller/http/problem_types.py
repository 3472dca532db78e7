"""Types of problems that the front answers with, and their titles (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping

FRONT_TITLES: Mapping[str, str] = {
    "bad-request": "The request cannot be understood.",
    "controller-silent": "The controller has not answered in time.",
    "foreign-origin": "A page of another site sent the request.",
    "head-too-large": "Request line and header fields are too large.",
    "host-unknown": "The request is addressed to a name that is not one of this API.",
    "method-unknown": "There is no such method.",
    "request-entity-too-large": "The body is too large.",
    "target-too-long": "Path and query are too long.",
    "token-needed": "The token is missing, or wrong.",
    "too-busy": "Too much is asked at this moment: try again.",
    "too-slow": "The request has not arrived in time.",
}
"""The title of each type."""
