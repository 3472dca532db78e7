"""The files of the repository, as the rules read them."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One file: its path inside the repository, and its text."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree of a Python file."""
        return ast.parse(self.text, self.path)

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Every node of the tree: each rule looks at all of them."""
        return tuple(ast.walk(self.tree))

    @property
    def module(self) -> str:
        """The dotted name of a Python file."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    def imports(self) -> Iterator[tuple[int, str]]:
        """Line and dotted name of everything imported, `from a import b` as a.b."""
        package = self.module if self.path.endswith("/__init__.py") else self.module[: self._dot]
        for node in self.nodes:
            if isinstance(node, ast.Import):
                yield from ((node.lineno, name.name) for name in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    above = package.split(".")[: len(package.split(".")) - node.level + 1]
                    base = ".".join([*above, base]).strip(".")
                yield from ((node.lineno, f"{base}.{name.name}") for name in node.names)

    def strings(self) -> Iterator[tuple[int, str]]:
        """Line and text of every string that is not documentation, parts of f-strings included."""
        documentation = {
            id(node.value)
            for node in self.nodes
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in self.nodes:
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in documentation
            ):
                yield node.lineno, node.value

    def functions(self) -> Iterator[Function]:
        """Every function and method."""
        for node in self.nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node

    @property
    def _dot(self) -> int:
        return max(self.module.rfind("."), 0)


def files(*folders: str, suffix: str = "") -> list[Source]:
    """The files of the repository that belong to it (git knows), in these folders."""
    listed = subprocess.run(
        [
            "git",
            "-c",
            "safe.directory=*",
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "--",
            *folders,
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\n")
    return [
        _read(name)
        for name in sorted(set(listed))
        if name.endswith(suffix) and (ROOT / name).is_file()
    ]


@cache
def _read(name: str) -> Source:
    """A file, parsed once for all rules: nobody changes it meanwhile."""
    return Source(name, (ROOT / name).read_text())
