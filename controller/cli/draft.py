"""cloudtap inventory draft: a first inventory for bridges that run, without a controller."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from netaddr import EUI

from controller.cli.client import Failure
from controller.cli.command import Command
from controller.cli.options import with_options
from controller.cli.output import print_line
from controller.cli.state import CONFIG_OPTION
from controller.databases import CannotRead, TlsFiles, read_bridges
from controller.inventory import SeenInterface, Sight
from controller.inventory import draft as draft_of
from controller.process import did_you_mean

LEARNED_S = 5
"""How long a program of this host may take to answer, in seconds."""
_LEARNED = re.compile(r"^\s*(\d+)\s+\d+\s+([0-9a-f:]{17})\s", re.MULTILINE)


@click.command(cls=Command)
@with_options(
    click.argument("bridges", nargs=-1, required=True, metavar="BRIDGE..."),
    click.option(
        "--ovsdb",
        metavar="TARGET",
        help="Database of the host, like tcp:192.0.2.1:6640; else that of this machine. ssl: takes "
        "the certificates of [ovsdb] of the configuration.",
    ),
    click.option("--tenant", default="", help="Who owns all ports; else a word to be replaced."),
    CONFIG_OPTION,
)
def draft(bridges: tuple[str, ...], ovsdb: str | None, tenant: str, config: Path | None) -> None:
    """Print an inventory for BRIDGEs that run, to be completed by a person.

    It needs no controller, and changes nothing. Lines with DECIDE in them say what a bridge cannot
    tell: who owns a port, and which one is an uplink or a tap port.
    """
    remote, tls = _database(ovsdb, config)
    try:
        found = read_bridges(remote, tls)
    except CannotRead as problem:
        hint = "" if ovsdb else "; or name another database with --ovsdb"
        raise Failure(f"{problem}{hint}") from problem
    for name in bridges:
        if name not in found:
            known = f"; it has {', '.join(sorted(found))}" if found else "; it has none"
            raise Failure(f"{remote} has no bridge {name!r}{did_you_mean(name, found) or known}")
    is_here = remote.startswith("unix:")
    pairs = _veth_pairs() if is_here else {}
    seen: dict[str, Sequence[SeenInterface]] = {}
    knows_learned = is_here
    for name in dict.fromkeys(bridges):
        learned = _learned(name) if is_here else None
        knows_learned = knows_learned and learned is not None
        seen[name] = [_interface(name, each, learned or {}, pairs) for each in found[name]]
    bridge_of = {each["name"]: name for name, records in found.items() for each in records}
    sight = Sight(remote, seen, bridge_of, knows_learned)
    for line in draft_of(sight, tenant).splitlines():
        print_line(line)


def _database(ovsdb: str | None, config: Path | None) -> tuple[str, TlsFiles | None]:
    """The database to read, and the certificates for it.

    Raises:
        Failure: the configuration or the target cannot be used.
    """
    from controller.config import LOCAL_OVSDB, ConfigError, load

    if ovsdb is None:
        return LOCAL_OVSDB, None
    try:
        settings = load(config, {**os.environ, "CLOUDTAP_OVSDB__REMOTES": ovsdb}).ovsdb
    except ConfigError as error:
        raise Failure("; ".join(error.problems)) from error
    tls = TlsFiles(str(settings.private_key), str(settings.certificate), str(settings.ca))
    return settings.remotes[0], tls if settings.is_tls else None


def _interface(
    bridge: str,
    record: Mapping[str, object],
    learned: Mapping[int, Sequence[str]],
    pairs: Mapping[str, str],
) -> SeenInterface:
    values = dict(record)
    number, mac = values.pop("ofport"), values.pop("mac")
    values["peer"] = values["peer"] or pairs.get(str(values["name"]), "")
    return SeenInterface(
        bridge=bridge,
        mac=None if mac is None else EUI(str(mac), version=48),
        learned=tuple(EUI(each, version=48) for each in learned.get(number, ())),  # type: ignore[call-overload]
        **values,  # type: ignore[arg-type]
    )


def _learned(bridge: str) -> dict[int, list[str]] | None:
    """The MAC addresses that a bridge of this host has learned, by port; None if unknown."""
    text = _answer(["ovs-appctl", "fdb/show", bridge])
    if text is None:
        return None
    found: dict[int, list[str]] = {}
    for port, mac in _LEARNED.findall(text):
        found.setdefault(int(port), []).append(mac)
    return found


def _veth_pairs() -> dict[str, str]:
    """Each end of the veth pairs whose two ends are in this network namespace, with the other."""
    text = _answer(["ip", "-json", "link", "show", "type", "veth"])
    try:
        links = json.loads(text or "[]")
    except ValueError:
        return {}
    return {
        each["ifname"]: each["link"]
        for each in links
        if "link" in each and "link_netnsid" not in each
    }


def _answer(command: list[str]) -> str | None:
    """What a program of this host prints; None if it is not there, or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LEARNED_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
