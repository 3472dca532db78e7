"""The pages under docs/how-to: what they tell a reader to type works, and shows what they show."""

from __future__ import annotations

import re
import shlex
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from werkzeug.serving import make_server

from controller.api import make_app
from controller.cli import main
from controller.inventory import parse
from tests.controller.fakes import fill, open_store
from tests.lab.tutorial import read_steps

PAGES = Path(__file__).resolve().parents[2] / "docs" / "how-to"
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
""")
_FILE = re.compile(r"^```yaml (?P<name>\S+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    store = open_store(tmp_path)
    fake = fill(store, INVENTORY)
    server = make_server("127.0.0.1", 0, make_app(store, lambda: INVENTORY, fake), True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(10)
    server.server_close()
    store.close()


@pytest.mark.parametrize(
    "page", ["filters.md", "limits.md", "exclusive.md", "explain.md", "sensors.md"]
)
def test_a_page_works_word_for_word(
    page: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (PAGES / page).read_text()
    monkeypatch.chdir(tmp_path)
    for file in _FILE.finditer(text):
        Path(file["name"]).write_text(file["text"])
    steps = read_steps(text)
    assert steps, "the page shows nothing"
    for step in steps:
        program, *arguments = shlex.split(step.command)
        assert program == "cloudtap"
        environment = {"CLOUDTAP_API": url, "COLUMNS": "140"}
        result = CliRunner().invoke(main, arguments, env=environment)

        assert re.fullmatch(step.pattern, " ".join(result.output.split()), re.DOTALL), (
            f"{step.command} must show {step.shown}; it showed:\n{result.output}"
        )
