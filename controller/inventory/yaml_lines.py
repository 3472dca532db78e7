"""YAML as plain texts, lists and mappings that know their line; no types guessed, no aliases.

Scalars stay the text that was written, so that a MAC address like ``10:20:30:40:50:51`` is not
read as a number in base 60 (YAML 1.1), and a name ``no`` is not read as false.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

import yaml

MAX_DEPTH = 10
"""Deepest nesting that is read; an inventory needs four levels."""

PAUSE_AFTER = 1000
"""Events that are read before other threads may run."""

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Item:
    """One value and the line (from 1) where it begins; None is an empty or null value."""

    line: int
    value: str | list[Item] | dict[str, Item] | None


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a YAML text."""

    line: int
    sentence: str


class _Frame:
    """A list or mapping that is still open."""

    def __init__(self, line: int, is_mapping: bool) -> None:
        self.line, self.is_mapping = line, is_mapping
        self.children: list[Item] = []


def load(text: bytes) -> tuple[Item | None, list[Problem]]:
    """Read one YAML document; None when there is nothing in it, or it cannot be read at all."""
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return None, [Problem(text.count(b"\n", 0, error.start) + 1, "this is not UTF-8 text")]
    problems: list[Problem] = []
    try:
        return _build(decoded, problems), problems
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        said = " ".join(part for part in (error.context, error.problem) if part)
        problems.append(Problem(line, f"not valid YAML: {said}"))
    except yaml.reader.ReaderError as error:
        bad = re.search(
            "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", decoded
        )
        line = decoded.count("\n", 0, bad.start()) + 1 if bad else 1
        problems.append(Problem(line, f"not valid YAML: {error.reason}"))
    except yaml.YAMLError as error:
        problems.append(Problem(1, f"not valid YAML: {error}"))
    return None, problems


def _build(text: str, problems: list[Problem]) -> Item | None:
    frames: list[_Frame] = []
    root: Item | None = None
    documents = 0
    for number, event in enumerate(yaml.parse(text, Loader=_LOADER)):
        if number % PAUSE_AFTER == 0:
            time.sleep(0)
        line = event.start_mark.line + 1 if event.start_mark is not None else 1
        done: Item | None = None
        match event:
            case yaml.DocumentStartEvent():
                documents += 1
                if documents > 1:
                    problems.append(Problem(line, "a second document begins here: use only one"))
                    return root
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                if len(frames) == MAX_DEPTH:
                    problems.append(Problem(line, f"nested deeper than {MAX_DEPTH} levels"))
                    return None
                _refuse_tag(event, line, problems)
                frames.append(_Frame(line, isinstance(event, yaml.MappingStartEvent)))
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                done = _close(frames.pop(), problems)
            case yaml.AliasEvent():
                problems.append(Problem(line, f"alias *{event.anchor}: write the value out"))
                done = Item(line, None)
            case yaml.ScalarEvent():
                _refuse_tag(event, line, problems)
                is_null = event.implicit[0] and event.value in _NULLS
                done = Item(line, None if is_null else event.value)
        if done is not None and frames:
            frames[-1].children.append(done)
        elif done is not None:
            root = done
    return None if root is None or root.value is None else root


def _refuse_tag(
    event: yaml.ScalarEvent | yaml.CollectionStartEvent, line: int, problems: list[Problem]
) -> None:
    if event.tag not in (None, "!"):
        problems.append(Problem(line, f"tag {event.tag}: write plain values"))


def _close(frame: _Frame, problems: list[Problem]) -> Item:
    if not frame.is_mapping:
        return Item(frame.line, frame.children)
    mapping: dict[str, Item] = {}
    for key, value in zip(frame.children[::2], frame.children[1::2], strict=True):
        if not isinstance(key.value, str):
            problems.append(Problem(key.line, "a key must be one word"))
        elif key.value in mapping:
            problems.append(Problem(key.line, f"key {key.value!r} is given twice"))
        else:
            mapping[key.value] = value
    return Item(frame.line, mapping)
