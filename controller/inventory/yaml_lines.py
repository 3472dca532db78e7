"""YAML as strings, lists and mappings with their line numbers; no implicit types, no aliases.

Scalars stay the text that was written, so that a MAC address like ``10:20:30:40:50:51`` is not
read as a number in base 60 (YAML 1.1), and a name ``no`` is not read as false.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import yaml

from controller.process import Yielder, visible
from flows.errors import CloudtapError

MAX_DEPTH = 10
"""Deepest nesting that is accepted; an inventory needs four levels."""

SCALAR_CHARACTERS_MAX = 1024
"""Longest value that is accepted; the longest that an inventory needs has 64 characters."""

NUMBER_CHARACTERS_MAX = 20
"""A longer value is no number, but a text."""

MISTAKES_MAX = 1000
"""After so many mistakes the rest of a file is not checked."""

PROBLEMS_KEPT = 50
"""So many mistakes are reported, those that were found first; the others are counted."""

EVENTS_PER_LOOK = 32
"""Parser events between two looks at the clock."""

_SHOWN_CHARACTERS = 60

_WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]*|0x[0-9a-fA-F]+")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Item:
    """One value and the line (from 1) where it begins; an empty or null value is None."""

    line: int
    value: str | list[Item] | dict[str, Item] | None


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake, and the line (from 1) where it is."""

    line: int
    sentence: str


class TooManyProblems(Exception):
    """A file has MISTAKES_MAX mistakes: what follows is not checked."""


class BadYaml(CloudtapError):
    """A file is not YAML as it is accepted; a sentence for each mistake."""

    def __init__(self, sentences: list[str]) -> None:
        super().__init__("; ".join(sentences))
        self.sentences = sentences


class Problems:
    """The mistakes of one file: the first ones as sentences, the others as a number."""

    def __init__(self) -> None:
        self.kept: list[Problem] = []
        self.count = 0

    def add(self, line: int, sentence: str) -> None:
        """One more mistake.

        Raises:
            TooManyProblems: it is the last one that is looked for.
        """
        self.count += 1
        if self.count <= PROBLEMS_KEPT:
            self.kept.append(Problem(line, sentence))
        if self.count >= MISTAKES_MAX:
            raise TooManyProblems

    def sentences(self, name: str) -> list[str]:
        """Each with file name and line, by line; the last one says how many more there are."""
        found = sorted(self.kept, key=lambda problem: problem.line)
        said = [f"{name}:{problem.line}: {problem.sentence}" for problem in found]
        if self.count >= MISTAKES_MAX:
            said.append(
                f"{name}: and {self.count - len(found)} more problems, perhaps others: "
                "the rest was not checked"
            )
        elif self.count > len(found):
            said.append(f"{name}: and {self.count - len(found)} more problems")
        return said


class _Frame:
    """A list or mapping that is still open."""

    def __init__(self, line: int, is_mapping: bool) -> None:
        self.line, self.is_mapping = line, is_mapping
        self.children: list[Item] = []


def load(text: bytes, problems: Problems) -> Item | None:
    """Parse one YAML document; None if it is empty or cannot be parsed.

    Raises:
        TooManyProblems: see Problems.
    """
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problems.add(text.count(b"\n", 0, error.start) + 1, "this is not UTF-8 text")
        return None
    try:
        return _build(decoded, problems)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        reason = " ".join(part for part in (error.context, error.problem) if part)
        problems.add(line, f"not valid YAML: {visible(reason)}")
    except yaml.reader.ReaderError as error:
        bad = re.search(
            "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", decoded
        )
        line = decoded.count("\n", 0, bad.start()) + 1 if bad else 1
        problems.add(line, f"not valid YAML: {error.reason}")
    except yaml.YAMLError as error:
        problems.add(1, f"not valid YAML: {visible(str(error))}")
    return None


def read_values(text: bytes, name: str) -> object:
    """Parse one YAML document (or JSON) into lists, mappings, texts, whole numbers and null.

    Raises:
        BadYaml: it is none, or has what is not accepted, such as a key that is given twice. Each
            sentence names the file, ``name``, and the line.
    """
    problems = Problems()
    try:
        item = load(text, problems)
    except TooManyProblems:
        item = None
    if problems.count:
        raise BadYaml(problems.sentences(name))
    return None if item is None else _values(item)


def _values(item: Item) -> object:
    match item.value:
        case list():
            return [_values(each) for each in item.value]
        case dict():
            return {key: _values(each) for key, each in item.value.items()}
        case str() if len(item.value) <= NUMBER_CHARACTERS_MAX and _WHOLE_NUMBER.fullmatch(
            item.value
        ):
            return int(item.value, 0)
        case _:
            return item.value


def _build(text: str, problems: Problems) -> Item | None:
    frames: list[_Frame] = []
    root: Item | None = None
    documents, yielder = 0, Yielder()
    for number, event in enumerate(yaml.parse(text, Loader=_LOADER)):
        if number % EVENTS_PER_LOOK == 0:
            yielder.pause()
        line = event.start_mark.line + 1 if event.start_mark is not None else 1
        done: Item | None = None
        match event:
            case yaml.DocumentStartEvent():
                documents += 1
                if documents > 1:
                    problems.add(line, "a second document begins here: use only one")
                    return root
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                if len(frames) == MAX_DEPTH:
                    problems.add(line, f"nested deeper than {MAX_DEPTH} levels")
                    return None
                _check_tag(event, line, problems)
                frames.append(_Frame(line, isinstance(event, yaml.MappingStartEvent)))
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                done = _close(frames.pop(), problems)
            case yaml.AliasEvent():
                problems.add(line, f"alias *{_shown(event.anchor)}: write the value out")
                done = Item(line, None)
            case yaml.ScalarEvent():
                _check_tag(event, line, problems)
                is_null = event.implicit[0] and event.value in _NULLS
                if len(event.value) > SCALAR_CHARACTERS_MAX:
                    problems.add(line, f"a value of more than {SCALAR_CHARACTERS_MAX} characters")
                    is_null = True
                done = Item(line, None if is_null else event.value)
        if done is not None and frames:
            frames[-1].children.append(done)
        elif done is not None:
            root = done
    return None if root is None or root.value is None else root


def _check_tag(
    event: yaml.ScalarEvent | yaml.CollectionStartEvent, line: int, problems: Problems
) -> None:
    if event.tag not in (None, "!"):
        problems.add(line, f"tag {_shown(event.tag)}: write plain values")


def _close(frame: _Frame, problems: Problems) -> Item:
    if not frame.is_mapping:
        return Item(frame.line, frame.children)
    mapping: dict[str, Item] = {}
    for key, value in zip(frame.children[::2], frame.children[1::2], strict=True):
        if not isinstance(key.value, str):
            problems.add(key.line, "a key must be one word")
        elif key.value in mapping:
            problems.add(key.line, f"key {_shown(key.value)!r} is given twice")
        else:
            mapping[key.value] = value
    return Item(frame.line, mapping)


def _shown(text: str | None) -> str:
    """A text of somebody as part of a sentence: short, and without control characters."""
    text = text or ""
    if len(text) > _SHOWN_CHARACTERS:
        text = f"{text[:_SHOWN_CHARACTERS]}..."
    return visible(text)
