"""Reads and writes long JSON in small steps, so that other threads run in between."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from controller.process.time_slices import Yielder


def write_list(values: Iterable[object]) -> str:
    """A JSON list of values that are short each; they may be made while this runs."""
    yielder, parts = Yielder(), []
    for value in values:
        yielder.pause()
        parts.append(json.dumps(value))
    return f"[{', '.join(parts)}]"


def read_objects(text: str) -> Any:
    """The value of JSON text of which much is in objects that are short each.

    Raises:
        ValueError: it is not JSON.
    """
    yielder = Yielder()

    def take(value: dict[str, Any]) -> dict[str, Any]:
        yielder.pause()
        return value

    return json.loads(text, object_hook=take)
