"""The shape of the house: folders, faces, no circle, few floors; and each rule can say no."""

from __future__ import annotations

import ast
from collections import Counter

import pytest

from tests.rules import architecture
from tests.rules.folders import find_circle, floors, folder_graph, module_graph
from tests.rules.sources import ROOT, Source, files

PRODUCT = files("flows", "controller", suffix=".py")
FOLDERS = [source for source in PRODUCT if source.path.endswith("/__init__.py")]
FLOORS_MAX = 6


def source(path: str, *imports: str) -> Source:
    return Source(path, "\n".join(imports))


def test_controller_and_flows_hold_folders_and_only_these_files() -> None:
    loose = {s.path for s in PRODUCT if s.path.count("/") == 1}
    assert loose == {
        "controller/__init__.py",
        "controller/app.py",
        "controller/launch.py",
        "flows/__init__.py",
        "flows/errors.py",
    }


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert find_circle(module_graph(PRODUCT)) == []


def test_no_folders_import_each_other_in_a_circle() -> None:
    assert find_circle(folder_graph(PRODUCT)) == []


@pytest.mark.parametrize("tree", ["flows", "controller"])
def test_a_tree_has_few_floors(tree: str) -> None:
    assert 1 < len(floors(folder_graph(PRODUCT), tree)) <= FLOORS_MAX


def test_a_circle_is_found_through_a_face() -> None:
    circle = find_circle(
        module_graph(
            [
                source("flows/a/__init__.py", "from flows.a.one import A"),
                source("flows/a/one.py", "from flows.b import B"),
                source("flows/b/__init__.py", "from flows.b.two import B"),
                source("flows/b/two.py", "from flows.a import A"),
            ]
        )
    )
    assert circle == ["flows.a.one", "flows.b.two", "flows.a.one"]


def test_a_circle_of_folders_is_found_although_no_module_is_in_one() -> None:
    sources = [
        source("flows/a/one.py", "from flows.b.two import B"),
        source("flows/a/other.py"),
        source("flows/b/two.py", "from flows.a.other import A"),
    ]
    assert find_circle(module_graph(sources)) == []
    assert find_circle(folder_graph(sources)) == ["flows.a", "flows.b", "flows.a"]


def test_floors_are_counted_from_what_imports_nothing() -> None:
    graph = folder_graph(
        [
            source("flows/a/x.py", "from flows.b import y", "from flows.c import z"),
            source("flows/b/y.py", "from flows.c import z"),
            source("flows/c/z.py"),
        ]
    )
    assert floors(graph, "flows") == [["flows.c"], ["flows.b"], ["flows.a"]]


def test_every_folder_has_a_sentence_and_a_face() -> None:
    for face in FOLDERS:
        if face.path in ("flows/__init__.py", "controller/__init__.py"):
            continue
        said = ast.get_docstring(face.tree) or ""
        assert said.split("\n")[0].endswith("."), f"{face.path} begins with no sentence"
        assert architecture.offered(face.module), f"{face.path} has no __all__"


def test_a_face_offers_nothing_that_nobody_imports() -> None:
    users = [*PRODUCT, *files("tests", "bench", suffix=".py")]
    used = Counter(name for user in users for _, name in user.imports())
    used.update(f"{s.module}.{w}" for s in files("setup.cfg") for w in ())
    for face in FOLDERS:
        if face.module in ("controller.runtime", "controller.cli"):
            continue  # loaded by name, and by the entry points of setup.cfg
        unused = {n for n in architecture.offered(face.module) if not used[f"{face.module}.{n}"]}
        assert not unused, f"{face.path} offers what nobody imports"


def test_every_folder_is_in_the_table_of_imports() -> None:
    folders = {
        s.module.split(".")[1] for s in PRODUCT if s.path.count("/") > 1 and "flows/" in s.path
    }
    assert folders <= architecture.MAY_IMPORT_IN_FLOWS.keys()
    folders = {
        path.name for path in (ROOT / "controller").iterdir() if (path / "__init__.py").is_file()
    }
    assert folders == architecture.MAY_IMPORT_IN_CONTROLLER.keys()
