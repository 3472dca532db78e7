"""The pages under docs/how-to: what they tell a reader to type works, and shows what they show."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from netaddr import IPAddress, IPNetwork

from controller.api import make_app
from controller.cli import main
from controller.inventory.file import parse
from controller.status import BridgeShare, State
from flows.model import KEY_WORDS, TUNNEL_KEYS, UNDERLAY_MTU, Delivery, Dpid
from flows.model.tunnel import overhead
from flows.openflow import PacketCount
from tests.controller.cli.served import served
from tests.controller.fakes import FakeReconciler, fill, open_store
from tests.controller.store.test_store import IDS, WEB
from tests.lab.tutorial import Step, read_steps

PAGES = Path(__file__).resolve().parents[3] / "docs" / "how-to"
INVENTORY = parse(b"""
tenants: [red, blue]
networks: [{name: lan, tenant: red}, {name: lan, tenant: blue}]
ports:
  - {id: red-web-1, name: web-1, tenant: red, network: lan, mac: 02:00:00:00:00:01,
     ips: [10.0.0.1], labels: {tier: web}}
  - {id: red-web-2, name: web-2, tenant: red, network: lan, mac: 02:00:00:00:00:02,
     ips: [10.0.0.2], labels: {tier: web}}
  - {id: red-db-1, name: db-1, tenant: red, network: lan, mac: 02:00:00:00:00:03, ips: [10.0.0.3]}
  - {id: red-ids, name: ids, tenant: red, kind: tap}
  - {id: red-ids-2, name: ids-2, tenant: red, kind: tap}
  - {id: red-ids-3, name: ids-3, tenant: red, kind: tap}
""")
_FILE = re.compile(r"^```yaml (?P<name>\S+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeReconciler]:
    store = open_store(tmp_path)
    yield fill(store, INVENTORY)
    store.close()


@pytest.fixture
def url(fake: FakeReconciler) -> Iterator[str]:
    networks = (IPNetwork("192.0.2.0/24"), IPNetwork("2001:db8::/32"))
    app = make_app(fake.store, lambda: INVENTORY, fake, fake, sensor_networks=networks)
    with served(app) as url:
        yield url


@pytest.mark.parametrize(
    "page",
    [
        *("filters.md", "limits.md", "exclusive.md", "explain.md", "sensors.md"),
        *("tunnels.md", "sensor-pools.md", "rate-caps.md"),
    ],
)
def test_a_page_works_word_for_word(
    page: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check_page(page, url)


def test_the_page_about_monitoring_shows_what_each_bridge_has_counted(
    fake: FakeReconciler, url: str
) -> None:
    fake.others = (
        BridgeShare(
            Dpid(2),
            "s2",
            State.ACTIVE,
            PacketCount(4200, 3_166_800),
            truncated=12,
            skipped={"rate": 37},
        ),
        BridgeShare(Dpid(3), "s3", State.INACTIVE, PacketCount(57, 4080)),
    )
    check_page("monitor.md", url)


def test_the_page_about_backups_works_word_for_word(
    fake: FakeReconciler, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.store.collectors.add(IDS, "tester")
    fake.store.sessions.add(WEB, "tester")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLOUDTAP_STATE__DIRECTORY", str(tmp_path / "state"))
    steps = read_steps((PAGES / "backup.md").read_text())
    type_step(steps[0], url)
    with pytest.raises(AssertionError, match="another controller"):
        type_step(steps[1], url)
    fake.store.close()
    type_step(steps[1], url)
    assert len(steps) == 2


def check_page(page: str, url: str) -> None:
    """Type what a page says, and see what it shows."""
    text = (PAGES / page).read_text()
    for file in _FILE.finditer(text):
        Path(file["name"]).write_text(file["text"])
    follow(text, url)


def test_the_page_on_bridges_that_are_away_works_word_for_word(
    url: str, fake: FakeReconciler
) -> None:
    fake.is_reachable = False
    follow((PAGES / "bridges.md").read_text(), url)


def follow(text: str, url: str) -> None:
    """Type what a page tells to type, and compare what it shows."""
    steps = read_steps(text)
    assert steps, "the page shows nothing"
    for step in steps:
        type_step(step, url)


def type_step(step: Step, url: str) -> None:
    """Type one command, and compare what it shows."""
    program, *arguments = shlex.split(step.command)
    assert program == "cloudtap"
    environment = {"CLOUDTAP_API": url, "COLUMNS": "140"}
    result = CliRunner().invoke(main, arguments, env=environment)
    assert re.fullmatch(step.pattern, " ".join(result.output.split()), re.DOTALL), (
        f"{step.command} must show {step.shown}; it showed:\n{result.output}"
    )


def test_the_table_of_tunnels_tells_what_they_add() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| `--([a-z-]+)`, 1 to (\d+) \| (\d+) \| (\d+) \| (\d+) \|",
        (PAGES / "tunnels.md").read_text(),
        re.MULTILINE,
    )

    four, six = IPAddress("192.0.2.9"), IPAddress("2001:db8::9")
    assert [tuple(map(str, row)) for row in rows] == [
        (
            kind.value,
            KEY_WORDS[kind].replace("_", "-"),
            str(TUNNEL_KEYS[kind].stop - 1),
            str(overhead(kind, four)),
            str(UNDERLAY_MTU - overhead(kind, four)),
            str(UNDERLAY_MTU - overhead(kind, six)),
        )
        for kind in (Delivery(name) for name, *_ in rows)
    ]
    assert {name for name, *_ in rows} == {kind.value for kind in TUNNEL_KEYS}
