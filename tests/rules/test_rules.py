"""The repository keeps its rules, and each rule can say no."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.rules import architecture, house
from tests.rules.sources import Source, files

Rule = Callable[[Source], Iterator[str]]

PRODUCT = ("flows", "controller")
CODE = (*PRODUCT, "tests", "mininet_topos", "bench", "tools", "setup.py")

RULES: list[tuple[Rule, tuple[str, ...], str]] = [
    (architecture.flows_imports, PRODUCT, ".py"),
    (architecture.runtime_imports, (*PRODUCT, "tests", "mininet_topos"), ".py"),
    (architecture.direction, PRODUCT, ".py"),
    (architecture.roots, PRODUCT, ".py"),
    (house.file_length, CODE, ""),
    (house.function_length, PRODUCT, ".py"),
    (house.pipeline_numbers, PRODUCT, ".py"),
    (house.names, PRODUCT, ".py"),
    (house.place_words, (".",), ""),
    (house.patience, ("tests",), ".py"),
    (house.excuses, ("tests",), ".py"),
]

LONG_FUNCTION = "def verb():\n    '''Doc.'''\n" + "    step()\n" * 40
FITTING_FUNCTION = "def verb():\n    '''Doc\n\n    more.\n    '''\n" + "    step()\n" * 39

OBJECTIONS = [
    (architecture.flows_imports, "flows/model.py", "import os"),
    (architecture.flows_imports, "flows/model.py", "from controller.store import tables"),
    (architecture.flows_imports, "flows/compile/select.py", "from time import monotonic"),
    (architecture.flows_imports, "flows/compile/select.py", "def f():\n    import yaml"),
    (architecture.runtime_imports, "controller/app.py", "from ryu.base import app_manager"),
    (architecture.runtime_imports, "controller/southbound/wire.py", "import os_ken"),
    (architecture.direction, "controller/reconcile.py", "from controller import southbound"),
    (architecture.direction, "controller/reconcile.py", "from .store import Store"),
    (architecture.direction, "controller/bridge.py", "from controller.store import Store"),
    (architecture.direction, "controller/southbound/wire.py", "from controller import runtime"),
    (architecture.direction, "controller/api/sessions.py", "import controller.southbound.ovsdb"),
    (architecture.direction, "controller/cli/__init__.py", "from controller.store import Store"),
    (architecture.direction, "controller/cli/main.py", "from ..runtime import library"),
    (architecture.roots, "controller/api/server.py", "from controller.launch import services"),
    (architecture.roots, "controller/store/store.py", "from ..app import Cloudtap"),
    (house.file_length, "flows/model.py", "\n" * 401),
    (house.file_length, "controller/app.py", "\n" * 121),
    (house.function_length, "flows/model.py", LONG_FUNCTION),
    (house.pipeline_numbers, "flows/compile/select.py", "x = f'resubmit(,{a}),resubmit(, 7)'"),
    (house.pipeline_numbers, "controller/southbound/wire.py", "x = 'table=3,priority=7'"),
    (house.pipeline_numbers, "flows/trace.py", "x = 'load:1->NXM_NX_REG6[]'"),
    (house.names, "controller/helper.py", ""),
    (house.names, "controller/places.py", "class FlowMgr_mgr: ..."),
    (house.names, "flows/model.py", "def add(mirror): ..."),
    (house.place_words, "README.md", "see /wo" + "rk/main"),
    (house.place_words, "docs/x.md", "as Issue " + "12 asks"),
    (house.patience, "tests/x.py", "import time\ntime.sleep(1)"),
    (house.patience, "tests/x.py", "from time import sleep\nsleep(1)"),
    (house.excuses, "tests/x.py", "@pytest.mark.xfail\ndef test(): ..."),
    (house.excuses, "tests/x.py", "pytest.skip('later')"),
]

APPROVALS = [
    (architecture.flows_imports, "flows/model.py", "import enum, netaddr\nfrom flows import flow"),
    (architecture.runtime_imports, "controller/runtime/library.py", "import ryu"),
    (architecture.direction, "controller/cli/run.py", "from controller.runtime import command"),
    (architecture.direction, "controller/desired.py", "from controller.store import Desired"),
    (architecture.direction, "controller/api/v1.py", "from controller.store import Store"),
    (architecture.roots, "controller/app.py", "from controller.launch import services"),
    (house.file_length, "flows/model.py", "\n" * 400),
    (house.function_length, "flows/model.py", FITTING_FUNCTION),
    (house.pipeline_numbers, "flows/pipeline.py", "x = 'table=3'"),
    (house.pipeline_numbers, "flows/flow.py", "'''table=3'''\nx = 'table='"),
    (house.names, "controller/southbound/ovsdb.py", "def mine(row):\n    return row.mirrors"),
    (house.place_words, "README.md", "every tap session of every tenant"),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule[0].__name__)
def test_the_repository_keeps(rule: tuple[Rule, tuple[str, ...], str]) -> None:
    objects_to, folders, suffix = rule
    sources = files(*folders, suffix=suffix)
    assert sources, f"no files in {folders}: the rule would say nothing"
    assert [words for source in sources for words in objects_to(source)] == []


@pytest.mark.parametrize(("rule", "path", "text"), OBJECTIONS)
def test_the_rule_says_no(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Source(path, text)))


@pytest.mark.parametrize(("rule", "path", "text"), APPROVALS)
def test_the_rule_says_yes(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Source(path, text))) == []


def test_every_rule_has_said_no() -> None:
    assert {rule for rule, _, _ in RULES} == {rule for rule, _, _ in OBJECTIONS}
