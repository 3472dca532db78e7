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
    (architecture.faces, (*PRODUCT, "bench"), ".py"),
    (architecture.roots, PRODUCT, ".py"),
    (house.function_length, PRODUCT, ".py"),
    (house.pipeline_numbers, PRODUCT, ".py"),
    (house.names, PRODUCT, ".py"),
    (house.place_words, (".",), ""),
    (house.patience, ("tests",), ".py"),
    (house.excuses, ("tests",), ".py"),
    (house.waits_for_threads, ("controller",), ".py"),
    (house.words_of_python, ("controller",), ".py"),
]

LONG_FUNCTION = "def verb():\n    '''Doc.'''\n" + "    step()\n" * 40
FITTING_FUNCTION = "def verb():\n    '''Doc\n\n    more.\n    '''\n" + "    step()\n" * 39

OBJECTIONS = [
    (architecture.flows_imports, "flows/model/session.py", "import os"),
    (architecture.flows_imports, "flows/model/session.py", "from controller.store import Store"),
    (architecture.flows_imports, "flows/compile/select.py", "from time import monotonic"),
    (architecture.flows_imports, "flows/compile/select.py", "def f():\n    import yaml"),
    (architecture.runtime_imports, "controller/app.py", "from ryu.base import app_manager"),
    (architecture.runtime_imports, "controller/southbound/wire/flow.py", "import os_ken"),
    (architecture.direction, "flows/model/world.py", "from flows.resolve import ResolvedWorld"),
    (architecture.direction, "flows/resolve/world.py", "from flows.pipeline import SESSION"),
    (architecture.direction, "flows/compile/program.py", "from flows.explain import explain"),
    (
        architecture.direction,
        "controller/reconcile/reconciler.py",
        "from controller.store import Store",
    ),
    (architecture.direction, "controller/reconcile/bridge/writer.py", "from ...store import Store"),
    (
        architecture.direction,
        "controller/reconcile/writers.py",
        "from controller.topology import X",
    ),
    (
        architecture.direction,
        "controller/topology/x.py",
        "from controller.reconcile import Writers",
    ),
    (architecture.direction, "controller/topology/x.py", "from controller.store import Store"),
    (
        architecture.direction,
        "controller/topology/x.py",
        "from ..southbound.ovsdb import OvsdbWatcher",
    ),
    (
        architecture.direction,
        "controller/southbound/wire/flow.py",
        "from controller import runtime",
    ),
    (architecture.direction, "controller/runtime/tls.py", "from flows.model import Dpid"),
    (architecture.direction, "controller/api/v1/sessions.py", "import controller.southbound.ovsdb"),
    (architecture.direction, "controller/cli/__init__.py", "from controller.store import Store"),
    (architecture.direction, "controller/cli/main.py", "from ..runtime import run_blocking"),
    (architecture.direction, "controller/new/x.py", "from controller.store import Store"),
    (architecture.direction, "flows/new/x.py", "from flows.model import Dpid"),
    (architecture.faces, "flows/compile/select.py", "from flows.model.names import Dpid"),
    (architecture.faces, "flows/compile/select.py", "from flows.model import names"),
    (architecture.faces, "controller/api/v1/x.py", "import controller.store.tables"),
    (architecture.faces, "controller/store/__init__.py", "from flows.model.names import Dpid"),
    (architecture.faces, "controller/launch.py", "from controller.southbound.wire.flow import x"),
    (architecture.faces, "bench/bench_x.py", "from controller import store"),
    (architecture.roots, "controller/api/server.py", "from controller.launch import services"),
    (architecture.roots, "controller/store/store.py", "from ..app import Cloudtap"),
    (house.function_length, "flows/model/session.py", LONG_FUNCTION),
    (house.pipeline_numbers, "flows/compile/select.py", "x = f'resubmit(,{a}),resubmit(, 7)'"),
    (house.pipeline_numbers, "controller/southbound/wire/flow.py", "x = 'table=3,priority=7'"),
    (house.pipeline_numbers, "flows/explain/trace.py", "x = 'load:1->NXM_NX_REG6[]'"),
    (house.names, "controller/helper.py", ""),
    (house.names, "controller/topology/placements.py", "class FlowMgr_mgr: ..."),
    (house.names, "flows/model/session.py", "def add(mirror): ..."),
    (house.place_words, "README.md", "see /wo" + "rk/main"),
    (house.place_words, "docs/x.md", "as Issue " + "12 asks"),
    (house.patience, "tests/x.py", "import time\ntime.sleep(1)"),
    (house.patience, "tests/x.py", "from time import sleep\nsleep(1)"),
    (house.excuses, "tests/x.py", "@pytest.mark.xfail\ndef test(): ..."),
    (house.excuses, "tests/x.py", "pytest.skip('later')"),
    (house.waits_for_threads, "controller/process/child.py", "self._thread.join(STOP_S)"),
    (house.waits_for_threads, "controller/cli/sniffer.py", "thread.join(timeout=1)"),
    (house.waits_for_threads, "controller/cli/sniffer.py", "thread.join()"),
    (house.words_of_python, "controller/api/app.py", "slug = HTTPStatus(404).phrase.lower()"),
]

APPROVALS = [
    (
        architecture.flows_imports,
        "flows/model/session.py",
        "import enum, netaddr\nfrom flows import x",
    ),
    (architecture.runtime_imports, "controller/runtime/library.py", "import ryu"),
    (
        architecture.direction,
        "controller/cli/run.py",
        "from controller.runtime import launch_command",
    ),
    (
        architecture.direction,
        "controller/reconcile/x.py",
        "from controller.store import DesiredState",
    ),
    (architecture.direction, "controller/api/v1/x.py", "from controller.store import Store"),
    (architecture.direction, "controller/store/x.py", "from controller.process import TIME_SLICES"),
    (architecture.direction, "controller/launch.py", "from controller.store import Store"),
    (architecture.faces, "flows/compile/select.py", "from flows.model import Dpid"),
    (architecture.faces, "flows/compile/select.py", "from flows.compile.filter import x"),
    (architecture.faces, "flows/compile/select.py", "from flows.errors import Refused"),
    (architecture.faces, "flows/model/__init__.py", "from flows.model.names import Dpid"),
    (architecture.faces, "controller/api/v1/x.py", "from controller.api.context import Context"),
    (
        architecture.faces,
        "controller/launch.py",
        "from controller.southbound.ovsdb import OvsdbWatcher",
    ),
    (architecture.roots, "controller/app.py", "from controller.launch import services"),
    (house.function_length, "flows/model/session.py", FITTING_FUNCTION),
    (house.pipeline_numbers, "flows/pipeline/tables.py", "x = 'table=3'"),
    (house.pipeline_numbers, "flows/openflow/flow.py", "'''table=3'''\nx = 'table='"),
    (
        house.names,
        "controller/southbound/ovsdb/watcher.py",
        "def mine(row):\n    return row.mirrors",
    ),
    (house.words_of_python, "controller/api/app.py", "phrase = words[HTTPStatus.NOT_FOUND]"),
    (
        house.waits_for_threads,
        "controller/store/observed.py",
        "', '.join(x), os.pathsep.join(x), table.join(other, condition)",
    ),
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
