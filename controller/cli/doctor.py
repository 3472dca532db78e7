"""cloudtap doctor: what a controller on this machine, run by this user, has and lacks."""

from __future__ import annotations

import json
import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import click
import httpx

from controller.cli.client import Failure
from controller.cli.command import Command
from controller.cli.doctor_datapath import datapath_findings
from controller.cli.options import output_option, with_options
from controller.cli.output import Column, print_data, print_table
from controller.cli.state import CONFIG_OPTION
from controller.config import Config, ConfigError, load, split_listen

ANSWERED_S = 2.0
"""How long a connection to a database, or to the API, may take."""
NEUTRON_ANSWERED_S, NEUTRON_LOOK_S = 5.0, 60.0
"""How long Neutron may take for one answer, and for all of them, in seconds."""
EXTEND = "extend its access list: see `tmpfiles.d/cloudtap.conf` in the page on installation"
WITHOUT_DATABASE = (
    "whether bridges keep their flows without a controller, MTU and rate of ports, and ports by "
    "`iface-id` are not known, and no tunnel port can be made"
)
WITHOUT_CONTROL = (
    "changes of sessions take up to a second longer, and routes to remote sensors are not known"
)

NEEDED_BYTES = 128 * 1024
"""Free space on the disk of the state directory without which a controller takes no change."""
STATE_FILES = ("state.db", "state.db-*", "switched-off", "*-in-force.*", "lock")
"""What a controller opens in its state directory, as patterns."""
ASK_FOR_BRIDGES = "are not looked at here: see `cloudtap bridge list`"


class Severity(Enum):
    """What a finding means for a controller."""

    OK = "ok"
    """As it should be."""
    LESS = "less"
    """A controller runs, and can do less; the sentence says what."""
    PROBLEM = "problem"
    """A controller does not start, or makes no copies."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was looked at, and what was found: a sentence."""

    subject: str
    verdict: Severity
    sentence: str


DIAGNOSIS_COLUMNS: tuple[Column, ...] = (
    ("what", lambda f: f["what"]),
    ("verdict", lambda f: f["verdict"]),
    ("found", lambda f: f["found"]),
)


@click.command(cls=Command)
@with_options(CONFIG_OPTION, output_option)
def doctor(config: Path | None, output: str) -> None:
    """Look at what a controller needs on this machine, and say what is missing.

    Run it on the machine of the controller, as its user: `runuser -u cloudtap -- cloudtap doctor`.
    It changes nothing. Exit status 1: a controller would not start, or would make no copies.
    """
    rows = [
        {"what": found.subject, "verdict": found.verdict.value, "found": found.sentence}
        for found in _look(config)
    ]
    if output == "table":
        print_table(rows, DIAGNOSIS_COLUMNS)
    else:
        print_data(rows, output)
    if problems := sum(row["verdict"] == Severity.PROBLEM.value for row in rows):
        raise Failure(f"{problems} problem(s) were found")


def _look(path: Path | None) -> Iterator[Diagnosis]:
    yield _user()
    try:
        config = load(path)
    except ConfigError as error:
        for problem in error.problems:
            yield Diagnosis("configuration", Severity.PROBLEM, problem)
        return
    yield _library(config)
    yield Diagnosis("configuration", Severity.OK, "is valid")
    yield _inventory(config)
    yield from _neutron(config)
    yield _state(config)
    remotes = config.ovsdb.remotes_now()
    if not remotes:
        missing = f"{config.ovsdb.remotes[0]} does not exist: {WITHOUT_DATABASE}"
        yield Diagnosis("database", Severity.LESS, missing)
    for remote in remotes:
        yield _database(remote)
    yield _control_socket()
    for remote in remotes:
        found = datapath_findings(config, remote) if remote.startswith("unix:") else ()
        yield from (Diagnosis("kernel datapath", Severity.LESS, sentence) for sentence in found)
    yield _api(config)
    yield from _bridges(config)


def _user() -> Diagnosis:
    own = _name_of(os.geteuid())
    if os.geteuid() == 0:
        return Diagnosis(
            "user", Severity.OK, "root, who may everything: see with its user, if another"
        )
    return Diagnosis("user", Severity.OK, own)


def _library(config: Config) -> Diagnosis:
    from controller.runtime import default_runtime

    return Diagnosis("OpenFlow library", Severity.OK, config.openflow.runtime or default_runtime())


def _inventory(config: Config) -> Diagnosis:
    file = config.inventory.file
    reader = [sys.executable, "-P", "-m", "controller.inventory", str(file)]
    run = subprocess.run(reader, stdout=subprocess.PIPE, text=True, check=False)
    if run.returncode:
        return Diagnosis("inventory", Severity.PROBLEM, f"{file} could not be checked")
    found = json.loads(run.stdout)
    if found["problems"]:
        more = found["problem_count"] - 1
        others = f" (and {more} more: cloudtap inventory check {file})" if more else ""
        return Diagnosis("inventory", Severity.PROBLEM, f"{found['problems'][0]}{others}")
    if not found["ports"]:
        nothing = f"{file} declares no port: every port of bridges of ours is cut off"
        return Diagnosis("inventory", Severity.LESS, nothing)
    return Diagnosis("inventory", Severity.OK, f"{file} declares {found['ports']} ports")


def _neutron(config: Config) -> Iterator[Diagnosis]:
    """What Neutron answers to this user, if it is asked at all."""
    settings = config.neutron
    if settings.cloud is None:
        return
    brief = {"timeout_seconds": min(settings.timeout_seconds, NEUTRON_ANSWERED_S)}
    who, found = f"cloud {settings.cloud!r}", dict[str, Any]()
    try:
        run = subprocess.run(
            [sys.executable, "-P", "-m", "controller.neutron"],
            input=settings.model_copy(update=brief).model_dump_json(),
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            timeout=NEUTRON_LOOK_S,
        )
        found = {"failed": "see the messages above"} if run.returncode else json.loads(run.stdout)
    except subprocess.TimeoutExpired:
        found = {"failed": f"its answers took more than {NEUTRON_LOOK_S:g} s"}
    if "failed" in found:
        yield Diagnosis("Neutron", Severity.LESS, f"{who} does not answer: {found['failed']}")
        return
    counts = found["counts"]
    has = f"{who} has {counts['ports']} workloads in {counts['networks']} networks"
    yield Diagnosis("Neutron", Severity.OK if counts["ports"] else Severity.LESS, has)
    yield from (Diagnosis("Neutron", Severity.LESS, f"{who}: {risk}") for risk in found["risks"])


def _state(config: Config) -> Diagnosis:
    folder = config.state.directory
    try:
        owner = folder.stat().st_uid
    except FileNotFoundError:
        parent = next(p for p in folder.parents if p.exists())
        if os.access(parent, os.W_OK):
            return Diagnosis("state directory", Severity.OK, f"{folder} will be made")
        missing = f"{folder} does not exist, and {_name_of(os.geteuid())} may not make it"
        return Diagnosis("state directory", Severity.PROBLEM, missing)
    except OSError as error:
        problem = f"{folder} cannot be looked at: {error.strerror}"
        return Diagnosis("state directory", Severity.PROBLEM, problem)
    if owner not in (os.geteuid(), 0) or not os.access(folder, os.W_OK):
        name = _name_of(owner)
        other = (
            f"{folder} belongs to user {name}: run this as that user (`runuser -u {name} -- ...`)"
        )
        return Diagnosis("state directory", Severity.PROBLEM, other)
    for file in (found for pattern in STATE_FILES for found in folder.glob(pattern)):
        if not os.access(file, os.R_OK | os.W_OK, effective_ids=True):
            own = _name_of(os.geteuid())
            closed = f"{file} is closed to user {own}: type `chown {own} {file}` as root"
            return Diagnosis("state directory", Severity.PROBLEM, closed)
    disk = os.statvfs(folder)
    if disk.f_bavail * disk.f_frsize < NEEDED_BYTES:
        full = f"the disk of {folder} is full: make room on it"
        return Diagnosis("state directory", Severity.PROBLEM, full)
    return Diagnosis("state directory", Severity.OK, str(folder))


def _database(remote: str) -> Diagnosis:
    kind, _, rest = remote.partition(":")
    family = socket.AF_UNIX if kind == "unix" else None
    try:
        if family is None:
            socket.create_connection(split_listen(rest), ANSWERED_S).close()
        else:
            with socket.socket(family) as connection:
                connection.settimeout(ANSWERED_S)
                connection.connect(rest)
    except PermissionError:
        closed = f"{remote} is closed to this user: {WITHOUT_DATABASE}; {EXTEND}"
        return Diagnosis("database", Severity.LESS, closed)
    except OSError as error:
        why = error.strerror or str(error)
        return Diagnosis("database", Severity.LESS, f"{remote}: {why}: {WITHOUT_DATABASE}")
    return Diagnosis("database", Severity.OK, f"{remote} takes connections")


def _control_socket() -> Diagnosis:
    from controller.southbound import CommandFailed, NotAnswered, ask_vswitchd

    try:
        version = ask_vswitchd("version", timeout_s=ANSWERED_S).splitlines()[0]
    except (NotAnswered, CommandFailed, IndexError) as problem:
        cause = problem.__cause__
        advice = f"; {EXTEND}" if isinstance(cause, PermissionError) else ""
        return Diagnosis("ovs-vswitchd", Severity.LESS, f"{problem}: {WITHOUT_CONTROL}{advice}")
    return Diagnosis("ovs-vswitchd", Severity.OK, version)


def _api(config: Config) -> Diagnosis:
    try:
        socket.create_connection(_reachable(config.api.listen), ANSWERED_S).close()
    except OSError:
        pass
    else:
        return Diagnosis("API", Severity.OK, f"a controller listens at {config.api.listen}")
    for section, listen in (("api", config.api.listen), ("openflow", config.openflow.listen)):
        host, port = split_listen(listen)
        try:
            socket.create_server((host, port), family=_family(host)).close()
        except OSError as error:
            taken = f"[{section}] listen = {listen!r} cannot be used: {error.strerror}"
            return Diagnosis("API", Severity.PROBLEM, taken)
    return Diagnosis("API", Severity.OK, "no controller runs; its addresses are free")


def _bridges(config: Config) -> Iterator[Diagnosis]:
    """What a controller that runs here says of its bridges; nothing if none answers."""
    host, port = _reachable(config.api.listen)
    url = httpx.URL(scheme="http", host=host, port=port, path="/v1/bridges")
    if config.api.certificate is not None:
        yield Diagnosis("bridges", Severity.OK, ASK_FOR_BRIDGES)
        return
    try:
        token = config.api.read_token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with httpx.Client(timeout=ANSWERED_S, trust_env=False) as client:
            answer = client.get(url, params={"limit": "1000"}, headers=headers)
        bridges = answer.raise_for_status().json()["items"]
    except httpx.TransportError:
        return
    except (ConfigError, httpx.HTTPError, ValueError, KeyError):
        yield Diagnosis("bridges", Severity.OK, ASK_FOR_BRIDGES)
        return
    for bridge in bridges:
        for reason in bridge["reasons"]:
            yield Diagnosis(f"bridge {bridge['name']}", Severity.LESS, reason)


def _reachable(listen: str) -> tuple[str, int]:
    host, port = split_listen(listen)
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _name_of(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
