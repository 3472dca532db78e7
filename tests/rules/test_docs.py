"""Generated pages are what their generators print today, and pages name only files that exist."""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import posixpath
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from types import ModuleType

import pytest

from tests.rules.sources import ROOT, Source, files

TOOL = ROOT / "tools" / "docs"
CHECKED = ("docs", "README.md", "CONTRIBUTING.md")
FOLDERS = ("flows", "controller", "tests", "docs", "tools", "bench", "mininet_topos", "changes")

NAMED = re.compile(rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})/[^\s`()\[\]|,;:'\"]*")
"""A path of the repository in the text of a page."""
LINKED = re.compile(r"\]\((?!\w+:)([^)#\s]+)")
"""The target of a link that stays inside the repository, relative to the folder of the page."""


@pytest.fixture
def docs() -> ModuleType:
    """tools/docs as a module."""
    loader = importlib.machinery.SourceFileLoader("tools_docs", str(TOOL))
    spec = importlib.util.spec_from_loader("tools_docs", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_every_page_is_fresh() -> None:
    check = subprocess.run(
        [sys.executable, str(TOOL), "--check"], capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stderr


def is_generator(source: Source) -> bool:
    """Whether a module makes a page with render(), or is named for it."""
    functions = [node.name for node in source.tree.body if isinstance(node, ast.FunctionDef)]
    return "render" in functions or source.path.endswith("_doc.py")


def test_every_generator_is_registered(docs: ModuleType) -> None:
    sources = files("flows", "controller", "tests/matrix", "tests/rules/folders.py", suffix=".py")
    generators = {source.module for source in sources if is_generator(source)}
    assert generators == {*(*docs.PAGES.values(), *docs.SECTIONS.values(), *docs.FOLDERS.values())}


def test_a_folder_of_pages_is_split_into_its_files(docs: ModuleType) -> None:
    assert docs.split_files("==> a.1\nx\ny\n==> b.1\nz\n") == [("a.1", "x\ny\n"), ("b.1", "z\n")]


def test_only_what_stands_between_the_marks_is_generated(docs: ModuleType) -> None:
    page = f"# By hand\n{docs.BEGIN}old\n{docs.END}more by hand\n"
    written = docs.with_section(page, "new\n")
    assert written == f"# By hand\n{docs.BEGIN}new\n{docs.END}more by hand\n"
    assert docs.with_section(written, "new\n") == written


@pytest.mark.parametrize("page", ["# By hand\n", "<!-- generated: `make docs` -->\nno end\n"])
def test_a_page_without_its_marks_is_refused(docs: ModuleType, page: str) -> None:
    with pytest.raises(SystemExit, match="marks"):
        docs.with_section(page, "new\n")


def test_a_stale_page_is_seen_and_left_alone(docs: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    assert not docs.write_page(page, "new", check=True)
    page.write_text("old")
    assert not docs.write_page(page, "new", check=True)
    assert page.read_text() == "old"
    page.write_text("new")
    assert docs.write_page(page, "new", check=True)


def test_a_page_is_written_where_it_belongs(
    docs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docs, "ROOT", tmp_path)
    assert docs.write_page(tmp_path / "docs" / "page.md", "new", check=False)
    assert (tmp_path / "docs" / "page.md").read_text() == "new"


def named_paths(page: Source) -> Iterator[str]:
    """The paths that a page names or links to; a path with a placeholder stands for its folder."""
    for found in NAMED.finditer(page.text):
        path, placeholder, _ = found.group().partition("<")
        yield path[: path.rindex("/")] if placeholder else path.rstrip("./")
    folder = posixpath.dirname(page.path)
    for found in LINKED.finditer(page.text):
        yield posixpath.normpath(posixpath.join(folder, found.group(1)))


def missing_paths(page: Source, known: Iterable[str]) -> Iterator[str]:
    """The paths that a page names and the repository does not have; `*` matches any name."""
    for path in named_paths(page):
        if not any(fnmatch(there, path) for there in known if "*" in path or there == path):
            yield f"{page.path}: {path} does not exist"


@pytest.fixture(scope="module")
def known() -> frozenset[str]:
    """Every file of the repository, and every folder that holds one."""
    paths = [PurePosixPath(source.path) for source in files(".")]
    return frozenset(str(one) for path in paths for one in (path, *path.parents))


def test_pages_name_only_files_that_exist(known: frozenset[str]) -> None:
    pages = [source for source in files(*CHECKED) if source.path.endswith(".md")]
    assert {"README.md", "docs/index.md"} <= {page.path for page in pages}
    assert [words for page in pages for words in missing_paths(page, known)] == []


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("README.md", "see `flows/nowhere.py`"),
        ("README.md", "(tests/ovs/test_nowhere.py)"),
        ("README.md", "run `tools/nowhere .venv/bin/python -m tests.matrix`"),
        ("docs/x.md", "the files `tests/ovs/test_nowhere*.py`"),
        ("docs/x.md", "add `docs/nowhere/<number>-<title>.md`"),
        ("docs/how-to/x.md", "[a page](nowhere.md#part)"),
        ("docs/how-to/x.md", "[a file](../../README)"),
    ],
)
def test_a_path_that_does_not_exist_is_noticed(page: str, text: str, known: frozenset[str]) -> None:
    assert list(missing_paths(Source(page, text), known))


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("README.md", "the folders `flows/` and `controller/`, and docs/index.md."),
        ("docs/x.md", "`tests/ovs/test_suricata*.py`, `docs/decisions/<number>-<title>.md`"),
        ("docs/how-to/x.md", "[a page](filters.md#in-a-file), [a file](../../README.md)"),
        ("docs/x.md", "[elsewhere](https://example.org/docs/x.md), /usr/share/docs/x"),
    ],
)
def test_a_path_that_exists_is_accepted(page: str, text: str, known: frozenset[str]) -> None:
    assert list(missing_paths(Source(page, text), known)) == []
