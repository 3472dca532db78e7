"""YAML as strings, lists and mappings with their line numbers; no implicit types, no aliases.

Scalars stay the text that was written, so that a MAC address like ``10:20:30:40:50:51`` is not
read as a number in base 60 (YAML 1.1), and a name ``no`` is not read as false.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

import yaml

from controller.process import Yielder, visible
from flows.errors import CloudtapError

MAX_DEPTH = 10
"""Deepest nesting that is accepted; an inventory needs four levels."""

SCALAR_CHARACTERS_MAX = 1024
"""Longest value that is accepted; the longest that an inventory needs has 64 characters."""

NUMBER_CHARACTERS_MAX = 20
"""A longer value is no number, but a text."""

ITEMS_MAX = 2_500_000
"""Most values of one file: a file of the largest size that declares ports has no more."""

ENTRIES_MAX = 250_000
"""Most entries of a list that is a value of the document: the largest file has no more ports."""

CHILDREN_MAX = 1024
"""Most values of any other list or mapping; an inventory needs 256."""

VALUES_LEFT_OUT_MAX = 1000
"""After so many values that are left out because others of their list or mapping are too many, the
rest is left out, too."""

MISTAKES_MAX = 1000
"""After so many mistakes the rest of a file is not checked."""

PROBLEMS_KEPT = 50
"""So many mistakes are reported, those that were found first; the others are counted."""

EVENTS_PER_LOOK = 32
"""Parser events between two looks at the clock."""

TEXTS_SHARED, TEXT_CHARACTERS_SHARED = 10_000, 32
"""Equal texts of a file are one object, so many of them at most and so long: most are the names of
keys, tenants and networks."""

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


class DocumentShape(Protocol):
    """What a document looks like: a mapping of lists."""

    def has_key(self, key: object) -> bool:
        """Whether the document may have this key."""
        ...

    def fits(self, key: str, entry: Item) -> bool:
        """Whether an entry of the list ``key`` has the form of one; its values do not matter."""
        ...


class Problems:
    """The mistakes of one file: the first ones as sentences, the others as a number."""

    def __init__(self) -> None:
        self.kept: list[Problem] = []
        self.left_out: Problem | None = None
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

    def leave_out(self, line: int, sentence: str) -> None:
        """Something is not read: a mistake, unless others are found in what is read."""
        if self.left_out is None:
            self.left_out = Problem(line, sentence)

    def settle(self) -> None:
        """All is read: what was left out is a mistake if there is no other."""
        if self.left_out is not None and not self.count:
            self.add(self.left_out.line, self.left_out.sentence)

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
    """A list or mapping that is still open, and how many values it may have."""

    def __init__(self, line: int, is_mapping: bool, most: int) -> None:
        self.line, self.is_mapping, self.most = line, is_mapping, most
        self.children: list[Item] = []


class _TooMuch(Exception):
    """There is more in a file than is read."""

    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(sentence)
        self.line, self.sentence = line, sentence


def load(text: bytes, problems: Problems, shape: DocumentShape | None = None) -> Item | None:
    """Parse one YAML document; None if it is empty or cannot be parsed.

    What is read of junk is bounded: it takes much memory in relation to its bytes. If MISTAKES_MAX
    entries do not have the ``shape``, what was read until then is returned; that is a problem.

    Raises:
        TooManyProblems: see Problems.
    """
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problems.add(text.count(b"\n", 0, error.start) + 1, "this is not UTF-8 text")
        return None
    try:
        return _build(decoded, problems, shape)
    except _TooMuch as error:
        problems.add(error.line, error.sentence)
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
    problems.settle()
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


def _build(text: str, problems: Problems, shape: DocumentShape | None) -> Item | None:
    builder, yielder = _Builder(problems, shape), Yielder()
    for number, event in enumerate(yaml.parse(text, Loader=_LOADER)):
        if number % EVENTS_PER_LOOK == 0:
            yielder.pause()
        builder.take(event)
        if builder.is_over:
            break
    root = builder.root
    return None if root is None or root.value is None else root


class _Builder:
    """Makes the items of a document from the events of a parser, until ``is_over``."""

    def __init__(self, problems: Problems, shape: DocumentShape | None) -> None:
        self.root: Item | None = None
        self.is_over = False
        self._problems, self._shape = problems, shape
        self._frames: list[_Frame] = []
        self._documents = self._items = self._unfit = self._left_out = 0
        self._texts: dict[str, str] = {}

    def take(self, event: yaml.Event) -> None:
        """The next event.

        Raises:
            _TooMuch, TooManyProblems: no more is read.
        """
        line = event.start_mark.line + 1 if event.start_mark is not None else 1
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    self._problems.add(line, "a second document begins here: use only one")
                    self.is_over = True
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                _check_tag(event, line, self._problems)
                self._open(event, line)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._add(_close(self._frames.pop(), self._problems))
            case yaml.AliasEvent():
                self._problems.add(line, f"alias *{_shown(event.anchor)}: write the value out")
                self._add(Item(line, None))
            case yaml.ScalarEvent():
                _check_tag(event, line, self._problems)
                self._add(Item(line, self._text(event, line)))

    def _open(self, event: yaml.CollectionStartEvent, line: int) -> None:
        """A list or mapping begins."""
        if len(self._frames) == MAX_DEPTH:
            raise _TooMuch(line, f"nested deeper than {MAX_DEPTH} levels")
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        most = 2 * CHILDREN_MAX if is_mapping else CHILDREN_MAX
        if not is_mapping and len(self._frames) == 1 and self._frames[0].is_mapping:
            most = ENTRIES_MAX
        self._frames.append(_Frame(line, is_mapping, most))

    def _text(self, event: yaml.ScalarEvent, line: int) -> str | None:
        """The value of a scalar, or None if it is null."""
        value: str = event.value
        if len(value) > SCALAR_CHARACTERS_MAX:
            self._problems.add(line, f"a value of more than {SCALAR_CHARACTERS_MAX} characters")
            return None
        if event.implicit[0] and value in _NULLS:
            return None
        if len(value) > TEXT_CHARACTERS_SHARED:
            return value
        is_full = len(self._texts) == TEXTS_SHARED
        return self._texts.get(value, value) if is_full else self._texts.setdefault(value, value)

    def _add(self, item: Item) -> None:
        """A value is complete: it is the document, or part of what is open."""
        self._items += 1
        if self._items > ITEMS_MAX:
            raise _TooMuch(item.line, f"more than {ITEMS_MAX} values: not read")
        if not self._frames:
            self.root = item
            return
        frame = self._frames[-1]
        if len(frame.children) == frame.most:
            what, most = ("mapping", frame.most // 2) if frame.is_mapping else ("list", frame.most)
            sentence = f"more than {most} values in the {what} that begins in line {frame.line}"
            self._problems.leave_out(item.line, sentence)
            self._left_out += 1
            if self._left_out == VALUES_LEFT_OUT_MAX:
                self._end()
            return
        frame.children.append(item)
        if not self._is_fit(item):
            self._unfit += 1
            if self._unfit == MISTAKES_MAX:
                sentence = "the rest was not read: too much is wrong before it"
                self._problems.add(item.line, sentence)
                self._end()

    def _is_fit(self, item: Item) -> bool:
        """Whether a value that was added is a key of the document that is known, or an entry of a
        list that has the shape of one; or none of both."""
        shape, frames = self._shape, self._frames
        if shape is None or len(frames) > 2 or not frames[0].is_mapping:
            return True
        if len(frames) == 1:
            return len(frames[0].children) % 2 == 0 or shape.has_key(item.value)
        key = frames[0].children[-1].value
        return frames[1].is_mapping or not isinstance(key, str) or shape.fits(key, item)

    def _end(self) -> None:
        """Take the document as far as it was read."""
        self.is_over = True
        while self._frames:
            frame = self._frames.pop()
            if frame.is_mapping and len(frame.children) % 2:
                frame.children.append(Item(frame.line, None))  # a key whose value was not read
            done = _close(frame, self._problems)
            if self._frames:
                self._frames[-1].children.append(done)
            else:
                self.root = done


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
