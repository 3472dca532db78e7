"""The generated pages of docs/ are what their generators print today."""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.rules.sources import ROOT, Source, files

TOOL = ROOT / "tools" / "docs"


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
    sources = files("flows", "controller", "tests/matrix", suffix=".py")
    generators = {source.module for source in sources if is_generator(source)}
    assert generators == set(docs.PAGES.values())


def test_a_stale_page_is_seen_and_left_alone(docs: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    assert not docs.bring(page, "new", check=True)
    page.write_text("old")
    assert not docs.bring(page, "new", check=True)
    assert page.read_text() == "old"
    page.write_text("new")
    assert docs.bring(page, "new", check=True)


def test_a_page_is_written_where_it_belongs(
    docs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docs, "ROOT", tmp_path)
    assert docs.bring(tmp_path / "docs" / "page.md", "new", check=False)
    assert (tmp_path / "docs" / "page.md").read_text() == "new"
