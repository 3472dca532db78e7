"""Finds containers that have grown: everything that is reachable from some objects."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Any

CONTAINERS = (dict, list, set, frozenset, tuple, deque)
OURS = ("controller.", "flows.")
DEPTH_MAX = 30


def sizes(**roots: object) -> Counter[str]:
    """How many elements the containers at each path of attributes have together."""
    found: Counter[str] = Counter()
    seen: set[int] = set()
    todo: deque[tuple[str, object, int]] = deque((name, one, 0) for name, one in roots.items())
    while todo:
        path, one, depth = todo.popleft()
        if id(one) in seen or depth > DEPTH_MAX:
            continue
        seen.add(id(one))
        if isinstance(one, CONTAINERS):
            found[path] += len(one)
            for element in _elements(one):
                todo.append((f"{path}[]", element, depth + 1))
        elif type(one).__module__.startswith(OURS):
            todo.extend((f"{path}.{name}", value, depth + 1) for name, value in _attributes(one))
        elif (owner := getattr(one, "__self__", None)) is not None:  # a bound method
            todo.append((path, owner, depth + 1))
        else:
            cells = getattr(one, "__closure__", None) or ()
            todo.extend((path, cell.cell_contents, depth + 1) for cell in cells)
    return found


def grown(before: Mapping[str, int], after: Mapping[str, int], by: int) -> dict[str, int]:
    """The paths whose containers have at least so many elements more."""
    return {
        path: count - before.get(path, 0)
        for path, count in after.items()
        if count - before.get(path, 0) >= by
    }


def _elements(one: Any) -> Iterable[object]:
    if isinstance(one, Mapping):
        return [*list(one), *list(one.values())]
    return list(one)


def _attributes(one: object) -> Iterable[tuple[str, object]]:
    names = [name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ())]
    for name in [*names, *getattr(one, "__dict__", {})]:
        if (value := getattr(one, name, None)) is not None:
            yield name, value
