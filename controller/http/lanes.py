"""Lanes: requests of one lane never wait for those of another."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lane:
    """Requests that share some threads of the controller."""

    name: str
    threads: int
    """Requests that the controller works on at a time."""
    per_client: int
    """Those of one client among them; others keep the rest."""
    answer_seconds: float
    """How long an answer may take before the front gives up, in seconds."""


LIVENESS = Lane("liveness", 1, 1, 10.0)
READINESS = Lane("readiness", 1, 1, 30.0)
API = Lane("api", 8, 6, 300.0)

LANES = (LIVENESS, READINESS, API)


def lane_of(path: str, method: str) -> Lane:
    """The lane of a request."""
    if method in ("GET", "HEAD"):
        return {"/healthz": LIVENESS, "/readyz": READINESS}.get(path, API)
    return API
