"""No name has two meanings: a public class or constant is defined in one place of the product.

Private names (with an underscore), type variables and lower-case names are local to their file.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

import pytest

from tests.rules.sources import Source, files


def doubles(sources: Iterable[Source]) -> Iterator[str]:
    """Public classes and constants that are defined in more than one file."""
    places: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for source in sources:
        for name, value in definitions(source):
            places[name].setdefault(source.path, value)
    for name, value_by_path in sorted(places.items()):
        if len(value_by_path) > 1:
            found = "; ".join(f"{path}: {value[:40]}" for path, value in value_by_path.items())
            yield f"{name} is defined in several places: {found}"


def definitions(source: Source) -> Iterator[tuple[str, str]]:
    """The public classes, type aliases and constants of a module, each with its value as text."""
    for node in source.tree.body:
        if isinstance(node, ast.ClassDef):
            yield from _public(node.name, "a class")
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                yield from _assigned(target, node.value)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            yield from _assigned(node.target, node.value)


def _assigned(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, str]]:
    if isinstance(target, ast.Tuple):
        each = value.elts if isinstance(value, ast.Tuple) else [value] * len(target.elts)
        for part, part_value in zip(target.elts, each, strict=True):
            yield from _assigned(part, part_value)
    elif isinstance(target, ast.Name) and not _is_type_variable(value):
        yield from _public(target.id, ast.unparse(value).removeprefix("struct."))


def _public(name: str, value: str) -> Iterator[tuple[str, str]]:
    if name[0].isupper():
        yield name, value


def _is_type_variable(value: ast.expr) -> bool:
    return (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Name)
        and value.func.id in ("TypeVar", "ParamSpec")
    )


def test_every_class_and_constant_is_defined_once() -> None:
    assert list(doubles(files("flows", "controller", suffix=".py"))) == []


OBJECTIONS = [
    {"flows/a.py": "class Port: ...", "flows/b.py": "class Port: ..."},
    {"flows/a.py": "PAUSE_S = 1.0", "controller/b.py": "PAUSE_S = 2.0"},
    {"flows/a.py": "PAUSE_S = 1.0", "controller/b.py": "PAUSE_S: float = 1.0"},
    {"flows/a.py": "TAGS = range(1, 4095)", "controller/b.py": "TAGS = range(1, 4095)"},
    {"flows/a.py": "A, B = 1, 2", "flows/b.py": "B = 2"},
    {"flows/a.py": "A, B = read()", "flows/b.py": "B = read()"},
    {"flows/a.py": "Key = tuple[int, int]", "flows/b.py": "class Key: ..."},
    {"controller/api/a.py": "OWN_XID = 1", "controller/southbound/a.py": "OWN_XID = 1"},
]
APPROVALS = [
    {"flows/a.py": "PAUSE_S = 1.0", "flows/b.py": "from flows.a import PAUSE_S"},
    {"flows/a.py": "_MAC = 1", "flows/b.py": "_MAC = 2"},
    {"flows/a.py": "log = 1", "flows/b.py": "log = 2"},
    {"flows/a.py": "T = TypeVar('T')", "flows/b.py": "T = TypeVar('T')"},
    {"flows/a.py": "A = 1\nclass B:\n    A = 2", "flows/b.py": "def f():\n    A = 3"},
]


def sources_of(text_by_path: Mapping[str, str]) -> list[Source]:
    return [Source(path, text) for path, text in text_by_path.items()]


@pytest.mark.parametrize("text_by_path", OBJECTIONS)
def test_a_name_that_is_defined_twice_is_refused(text_by_path: Mapping[str, str]) -> None:
    assert len(list(doubles(sources_of(text_by_path)))) == 1


@pytest.mark.parametrize("text_by_path", APPROVALS)
def test_names_that_are_local_or_imported_are_allowed(text_by_path: Mapping[str, str]) -> None:
    assert list(doubles(sources_of(text_by_path))) == []
