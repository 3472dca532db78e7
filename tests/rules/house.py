"""Rules about size, names, numbers, words and tests."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.rules.sources import Function, Source

FUNCTION_LINES = 40
PIPELINE = "flows/pipeline/tables.py"

NUMBERS = re.compile(r"resubmit\(,\s*\d|\btable=\d|\breg\d+(=|\[)|NXM_NX_REG\d")
VAGUE_NAMES = re.compile(r"(^|_)(util|utils|helper|helpers|common|misc|mgr)(_|$)", re.IGNORECASE)
SLEEPS = frozenset({"sleep"})
WAITS_FOR_THREADS = "controller/process/background_thread.py"
EXCUSES = frozenset({"skip", "skipif", "xfail", "importorskip"})

# words of whatever place the code was written in; in two parts, or this file would object to itself
PLACE_WORDS = re.compile(
    "|".join(
        [
            r"/wo" + r"rk/(main|shared)",
            r"/tmp/" + r"brief",
            r"\bissue " + r"#?\d",
            r"\bsub-?" + r"agents?\b",
            r"\bcoding " + r"agents?\b",
            r"\bAI " + r"assistant",
            r"\blanguage " + r"models?\b",
            r"\bclau" + r"de\b",
            r"\bses" + r"sions? of work\b",
            r"\bwork" + r"place\b",
        ]
    ),
    re.IGNORECASE,
)


def function_length(source: Source) -> Iterator[str]:
    """A function that can be seen whole; its documentation does not count."""
    for function in source.functions():
        lines = (function.end_lineno or 0) - function.lineno + 1 - _documentation_lines(function)
        if lines > FUNCTION_LINES:
            yield (
                f"{source.path}:{function.lineno}: {function.name} has {lines} lines, "
                f"more than {FUNCTION_LINES}: split it by verb"
            )


def pipeline_numbers(source: Source) -> Iterator[str]:
    """Tables and registers have names; only flows/pipeline/tables.py knows their numbers."""
    if source.path == PIPELINE:
        return
    for line, text in source.strings():
        if found := NUMBERS.search(text):
            yield f"{source.path}:{line}: {found.group()!r} belongs in {PIPELINE}"


def names(source: Source) -> Iterator[str]:
    """No name that says nothing, and no `mirror` but for the Mirrors of Open vSwitch's databases: a
    copy is a copy. Files about those write the word as the schema does, with a capital letter.
    """
    is_about_mirrors = re.search(r"\bMirrors?\b", source.text) is not None
    defined = [(1, source.module.rsplit(".", 1)[-1])]
    for node in source.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.append((node.lineno, node.name))
        elif isinstance(node, ast.arg):
            defined.append((node.lineno, node.arg))
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            defined.append((node.lineno, node.id))
    for line, name in defined:
        if VAGUE_NAMES.search(name) or ("mirror" in name.lower() and not is_about_mirrors):
            yield f"{source.path}:{line}: {name!r} is not a name of this project"


def place_words(source: Source) -> Iterator[str]:
    """The project speaks of itself alone."""
    for number, line in enumerate(source.text.split("\n"), 1):
        if found := PLACE_WORDS.search(line):
            yield f"{source.path}:{number}: {found.group()!r} has no place in the project"


def patience(source: Source) -> Iterator[str]:
    """Tests wait for a condition, never for time to pass."""
    for node in source.nodes:
        if isinstance(node, ast.Call) and _called(node) in SLEEPS:
            yield f"{source.path}:{node.lineno}: a test sleeps: wait for what it needs instead"


def waits_for_threads(source: Source) -> Iterator[str]:
    """The end of a thread is waited for with BackgroundThread.wait: its docstring says why."""
    if source.path == WAITS_FOR_THREADS:
        return
    for node in source.nodes:
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr == "join" and len(node.args) < 2 and not _is_text(node.func.value):
            yield (
                f"{source.path}:{node.lineno}: Thread.join with a time raises under green threads: "
                "start a BackgroundThread and call its wait()"
            )


def words_of_python(source: Source) -> Iterator[str]:
    """What a client reads is ours: the words of Python's http module differ by its version."""
    for node in source.nodes:
        name = node.attr if isinstance(node, ast.Attribute) else None
        if name in ("phrase", "responses"):
            yield f"{source.path}:{node.lineno}: HTTP's {name} change with Python: write the words"


def excuses(source: Source) -> Iterator[str]:
    """Every test runs, and is expected to pass."""
    for node in source.nodes:
        name = node.attr if isinstance(node, ast.Attribute) else None
        if name in EXCUSES:
            yield f"{source.path}:{node.lineno}: pytest's {name} is not used here"


def _is_text(receiver: ast.expr) -> bool:
    """Whether its ``join`` is that of a string."""
    if isinstance(receiver, ast.Attribute):
        return receiver.attr in ("sep", "pathsep")
    return isinstance(receiver, ast.Constant | ast.JoinedStr)


def _called(call: ast.Call) -> str | None:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else None


def _documentation_lines(function: Function) -> int:
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        return (first.end_lineno or 0) - first.lineno + 1
    return 0
