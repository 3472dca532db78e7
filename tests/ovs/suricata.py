"""A real Suricata for tests: captures on live interfaces, and its events are read from eve.json."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.ovs.waiting import wait_for

STOCK = Path("/etc/suricata/suricata.yaml")
URI = "/evil-tap-test"
MARK = "tap-test-body"
RULES = f"""\
alert http any any -> any any (msg:"uri"; flow:established,to_server; http.uri; \
content:"{URI}"; sid:9000001; rev:1;)
alert http any any -> any any (msg:"body"; flow:established,to_client; file_data; \
content:"{MARK}"; sid:9000002; rev:1;)
"""
STARTS_S, SEES_S = 60.0, 60.0
Event = dict[str, Any]


class NoSuricata(AssertionError):
    """The tests need Suricata, and it is not there."""


def program() -> str:
    """The path of Suricata 7.

    Raises:
        NoSuricata: it is not installed, or too old.
    """
    found = shutil.which("suricata", path="/usr/bin:/usr/sbin:/usr/local/bin")
    if found is None:
        raise NoSuricata(
            "Suricata is not installed: run `tools/setup --tests`, which says why it cannot"
        )
    output = subprocess.run([found, "-V"], capture_output=True, text=True).stdout
    version = output.partition("version ")[2].split(".")[0]
    if not version.isdecimal() or int(version) < 7:
        raise NoSuricata(f"these tests were written for Suricata 7, here is: {output.strip()}")
    return found


def loads(folder: Path, *arguments: str) -> str:
    """The errors of `suricata -T` for a configuration; empty if it is valid."""
    command = [program(), "-T", "-l", str(folder), "-S", str(write_rules(folder)), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def write_rules(folder: Path) -> Path:
    """Write the rules of the tests to a file."""
    file = folder / "test.rules"
    file.write_text(RULES)
    return file


class Suricata:
    """A process that captures as its configuration says, inside a `with` block."""

    def __init__(self, folder: Path, text: str, *arguments: str) -> None:
        folder.mkdir(exist_ok=True)
        self._folder, self._log = folder, folder / "output"
        configuration = folder / "suricata.yaml"
        configuration.write_text(text)
        self._command = [program(), "--runmode", "workers", "-c", str(configuration)]
        self._command += ["-S", str(write_rules(folder)), "-l", str(folder)]
        self._command += arguments or ["--af-packet"]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Suricata:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        process = self._process

        def is_up() -> bool:
            assert process.poll() is None, f"Suricata has ended: {self._log.read_text()}"
            return "Engine started" in self._log.read_text()

        wait_for(is_up, bool, STARTS_S)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        what: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        if what is not None:
            print(f"--- output of Suricata ---\n{self._log.read_text()}")

    def events(self, kind: str) -> list[Event]:
        """All events of one type so far."""
        file = self._folder / "eve.json"
        lines = file.read_text().splitlines() if file.exists() else []
        found = []
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue  # it is being written
            if event["event_type"] == kind:
                found.append(event)
        return found

    def alerts(self) -> list[tuple[str, Event]]:
        """The signature of each alert, and the alert."""
        return [(event["alert"]["signature"], event) for event in self.events("alert")]

    def wait_for_alerts(self, is_right: Callable[[list[str]], bool]) -> list[Event]:
        """Return all alerts once their signatures satisfy a condition."""
        wait_for(lambda: sorted(name for name, _ in self.alerts()), is_right, SEES_S)
        return [event for _, event in self.alerts()]

    def wait_for_http(self, uris: Iterable[str]) -> None:
        """Block until Suricata has logged requests for all of these, and so all before them."""
        wanted = set(uris)
        wait_for(
            lambda: {e["http"].get("url") for e in self.events("http")},
            lambda seen: wanted <= seen,
            SEES_S,
        )


def community_id(source: str, source_port: int, destination: str, destination_port: int) -> str:
    """Community ID v1 of a TCP connection, seed 0 (github.com/corelight/community-id-spec)."""
    ends = sorted(
        (ip_address(address).packed, struct.pack("!H", port))
        for address, port in ((source, source_port), (destination, destination_port))
    )
    (low, low_port), (high, high_port) = ends
    whole = b"\0\0" + low + high + b"\x06\0" + low_port + high_port
    return "1:" + base64.b64encode(hashlib.sha1(whole).digest()).decode()
