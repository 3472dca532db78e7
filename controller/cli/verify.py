"""cloudtap session verify: sends marked frames on the path of copies and reports what arrives."""

from __future__ import annotations

import click

from controller.cli.client import Api, Failure, Values
from controller.cli.command import Command
from controller.cli.options import NUMBER, output_option, pass_api, tenant_option
from controller.cli.output import (
    Column,
    cell,
    console,
    print_data,
    print_table,
)
from controller.cli.sniffer import Sniffer
from flows.beacon import BeaconPath, Finding
from flows.model import Dpid

ARRIVAL_WAIT_S = 2.0
"""How long after the last frame was sent frames may still arrive."""

SENT_COLUMNS: tuple[Column, ...] = (
    ("bridge", lambda w: w["bridge"]),
    ("sensor", lambda w: w["sensor"]),
    ("network", lambda w: w["network"] or "all"),
    ("tag", lambda w: w["tag"]),
    ("bytes", lambda w: w["length"]),
    ("sent", lambda w: w["sent"]),
    ("counted", lambda w: w["counted"]),
)
ARRIVED_COLUMNS: tuple[Column, ...] = (
    ("bridge", lambda w: w["bridge"]),
    ("sensor", lambda w: w["sensor"]),
    ("network", lambda w: w["network"] or "all"),
    ("sent", lambda w: w["sent"]),
    ("arrived", lambda w: w["arrived"]),
    ("lost", lambda w: w["lost"]),
    ("tag", lambda w: w["tags"]),
    ("bytes", lambda w: w["lengths"]),
    ("delivered", lambda w: w["delivered"]),
    ("faults", lambda w: w["faults"] if w["here"] else "not the sensor of this interface"),
)


@click.command(cls=Command)
@click.argument("name")
@click.option(
    "--count", type=NUMBER, help="Frames on each copy path, 1 to 1000; the API chooses 100."
)
@click.option("--length", type=NUMBER, help="Bytes of each, 64 to 1500; the API chooses 256.")
@click.option("--sensor", help="Only to this one of the sensors of the collector.")
@click.option("--may-be-cut", is_flag=True, help="Send them even if the path is too narrow.")
@click.option("--listen", metavar="INTERFACE", help="Listen here, on the interface of the sensor.")
@click.option(
    "--netns",
    metavar="NAME|PATH|PID|mininet:HOST",
    help="The interface is in this network namespace, or in that of this process or Mininet host.",
)
@tenant_option
@output_option
@pass_api
def verify(
    api: Api,
    name: str,
    count: int | None,
    length: int | None,
    sensor: str | None,
    may_be_cut: bool,
    listen: str | None,
    netns: str | None,
    tenant: str | None,
    output: str,
) -> None:
    """Send marked frames on the copy paths of a session and report what arrives.

    Production never sees them. Without --listen only the counters of the switches are reported.
    """
    given = {"count": count, "length": length, "sensor": sensor, "may_be_cut": may_be_cut or None}
    body = {key: value for key, value in given.items() if value is not None}
    if listen is None:
        if netns is not None:
            raise click.UsageError("--netns says where --listen listens: give both")
        _print_sent(api.act("sessions", name, "verify", body, tenant=tenant), output)
        return
    with Sniffer(listen, netns) as sniffer:
        sent = api.act("sessions", name, "verify", body, tenant=tenant)
        arriving = sum(way["sent"] for way in sent["ways"] if way["length"])
        sniffer.wait(int(sent["run"], 16), arriving, ARRIVAL_WAIT_S)
        missed = sniffer.missed()
    paths = _arrived(sent, sniffer)
    faults = _faults(sent, paths)
    if sniffer.is_behind:
        faults.append("this machine was too busy to listen: not all that has arrived was read")
    if missed:
        faults.append(f"this machine was too busy to listen: it missed {missed} frames itself")
    _print_arrived(sent, paths, faults, listen, output)
    if faults:
        raise Failure(f"session {sent['session']!r} does not deliver as it should: {faults[0]}")


def _arrived(sent: Values, sniffer: Sniffer) -> list[Values]:
    """Each copy path with what arrived on it."""
    ways = [
        BeaconPath(
            Dpid(int(way["bridge_id"], 16)),
            way["sensor_position"],
            way["network_number"],
            way["sent"],
            way["length"],
            way["tag"],
        )
        for way in sent["ways"]
    ]
    findings = sniffer.arrivals.findings(int(sent["run"], 16), ways)
    both = list(zip(sent["ways"], findings, strict=True))
    reached = {way["sensor"] for way, found in both if found.arrived}
    # with several sensors, this interface may be that of one of them only
    return [
        {**way, **_finding(found), "here": not reached or way["sensor"] in reached}
        for way, found in both
    ]


def _finding(found: Finding) -> Values:
    return {
        "arrived": found.arrived,
        "lost": found.lost,
        "twice": found.twice,
        "out_of_order": found.late,
        "damaged": found.damaged,
        "tags": [tag or "none" for tag in found.tags],
        "lengths": sorted(found.lengths),
        "delivered": sorted(found.tunnels),
        "faults": list(found.faults),
    }


def _faults(sent: Values, paths: list[Values]) -> list[str]:
    wrong = [way for way in paths if way["here"] and way["faults"]]
    faults = [f"bridge {w['bridge']}: {', '.join(w['faults'])}" for w in wrong]
    return faults + list(sent["not_verified"])


def _print_arrived(
    sent: Values, paths: list[Values], faults: list[str], interface: str, output: str
) -> None:
    if output != "table":
        print_data({**sent, "ways": paths, "faults": faults}, output)
        return
    frames = sum(way["arrived"] for way in paths)
    what = f"{sent['sent']} frames of {sent['length']} bytes sent, {frames} arrived at {interface}"
    console().print(cell(f"session {sent['session']}: {what}"))
    console().print()
    print_table(paths, ARRIVED_COLUMNS)
    for sentence in sent["not_verified"]:
        console().print(cell(sentence))


def _print_sent(sent: Values, output: str) -> None:
    if output != "table":
        print_data(sent, output)
        return
    out = console()
    sentence = f"session {sent['session']}: {sent['sent']} frames of {sent['length']} bytes sent"
    out.print(cell(sentence))
    out.print()
    print_table(sent["ways"], SENT_COLUMNS)
    out.print()
    for one in sent["witnesses"]:
        names = ", ".join(one["sensors"])
        line = f"bridge {one['bridge']} sent {one['sent']} frames towards {names} meanwhile"
        out.print(cell(f"{line}, {one['wanted']} of them should be ours"))
    for sentence in [*sent["not_verified"], *sent["notes"]]:
        out.print(cell(sentence))
