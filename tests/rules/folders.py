"""The folders of the product as a graph of imports: for the rules, and for docs/architecture.md.

A folder is a direct part of flows/ or controller/; what lies deeper belongs to it. `python -m`
prints the graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tests.rules.sources import Source, files

Graph = Mapping[str, frozenset[str]]
"""What each node imports, itself left out."""


def folder_of(module: str) -> str:
    """The folder, or the file directly in flows/ or controller/, that a module belongs to."""
    return ".".join(module.split(".")[:2])


def folder_graph(sources: Iterable[Source]) -> Graph:
    """Which folder imports which."""
    found: dict[str, set[str]] = {}
    for source in sources:
        here = folder_of(source.module)
        others = found.setdefault(here, set())
        for _, name in source.imports():
            if name.split(".")[0] in ("flows", "controller"):
                others.add(folder_of(name))
    known = found.keys()
    return {at: frozenset(others & known - {at}) for at, others in found.items() if "." in at}


def module_graph(sources: Iterable[Source]) -> Graph:
    """Which module imports which; a name from a folder counts for the module that defines it."""
    by_module = {source.module: source for source in sources}
    faces = {
        module: {name.rpartition(".")[2]: name.rpartition(".")[0] for _, name in source.imports()}
        for module, source in by_module.items()
        if source.path.endswith("/__init__.py")
    }

    def target(name: str) -> str | None:
        if name in by_module:
            return name
        module, _, last = name.rpartition(".")
        while module in faces and last in faces[module]:
            module = faces[module][last]
            if f"{module}.{last}" in by_module:
                return f"{module}.{last}"
        return module if module in by_module else None

    return {
        module: frozenset(
            found
            for _, name in source.imports()
            if (found := target(name)) is not None and found != module and found not in faces
        )
        for module, source in by_module.items()
        if module not in faces
    }


def find_circle(graph: Graph) -> list[str]:
    """Some nodes that import each other in a circle, the first one again at the end; or none."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for other in sorted(graph.get(node, ())):
            if circle := visit(other, [*path, node]):
                return circle
        done.add(node)
        return []

    for node in sorted(graph):
        if circle := visit(node, []):
            return circle
    return []


def floors(graph: Graph, inside: str) -> list[list[str]]:
    """The nodes of one tree by the longest way down to one that imports nothing of it."""
    nodes = {node for node in graph if node.startswith(f"{inside}.")}
    height: dict[str, int] = {}

    def height_of(node: str) -> int:
        if node not in height:
            below = [height_of(other) for other in graph[node] & nodes]
            height[node] = 1 + max(below, default=0)
        return height[node]

    count = max((height_of(node) for node in nodes), default=0)
    return [sorted(n for n in nodes if height[n] == floor) for floor in range(1, count + 1)]


@dataclass(frozen=True)
class _Row:
    folder: str
    imports: str

    def __str__(self) -> str:
        return f"| {self.folder} | {self.imports} |"


def _shown(node: str, graph: Graph) -> str:
    name = node.partition(".")[2]
    is_file = node in _FILES
    return f"`{name}.py`" if is_file else f"`{name}/`"


_FILES = {"controller.app", "controller.launch", "flows.errors"}


def render() -> str:
    """The graph as Markdown: the floors of each tree, and what each folder imports."""
    graph = folder_graph(files("flows", "controller", suffix=".py"))
    parts: list[str] = []
    for tree in ("controller", "flows"):
        parts += [f"**{tree}/**, each floor imports only floors below it:", "", "```"]
        levels = floors(graph, tree)
        for number, level in reversed(list(enumerate(levels, 1))):
            names = (_shown(node, graph).strip("`") for node in level)
            parts.append(f"{number}  {'  '.join(names)}")
        parts += ["```", "", "| folder | imports |", "|---|---|"]
        for level in reversed(levels):
            for node in level:
                others = sorted(graph[node], key=lambda n: (n.split(".")[0] != tree, n))
                shown = ", ".join(
                    _shown(o, graph) if o.startswith(tree) else f"flows `{o.partition('.')[2]}`"
                    for o in others
                )
                parts.append(str(_Row(_shown(node, graph), shown or "nothing")))
        parts.append("")
    return "\n".join(parts)


if __name__ == "__main__":
    print(render(), end="")
