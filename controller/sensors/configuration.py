"""A configuration for a sensor: its text, and notes on what the sensor does not receive."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from controller.sensors.suricata import suricata_notes, suricata_text
from controller.sensors.zeek import zeek_notes, zeek_text
from flows.explain import Feed

FULL_FRAME = 1514
"""Bytes of the longest frame at an MTU of 1500, Ethernet header included."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """The text of a configuration file; ``notes`` are sentences, which are in the text, too."""

    program: str
    text: str
    notes: tuple[str, ...]


Make = Callable[[Feed, str, tuple[str, ...]], str]
Warn = Callable[[Feed], Iterator[str]]
PROGRAMS: Mapping[str, tuple[Make, Warn]] = {
    "suricata": (suricata_text, suricata_notes),
    "zeek": (zeek_text, zeek_notes),
}
"""For each supported program, its text and its notes."""


def configure(program: str, feed: Feed, interface: str) -> Configuration:
    """The configuration of a program (a key of PROGRAMS) that listens on ``interface``."""
    make, warn = PROGRAMS[program]
    notes = (*_notes(feed), *warn(feed))
    return Configuration(program, make(feed, interface, notes), notes)


def _notes(feed: Feed) -> Iterator[str]:
    if not any(received.sessions for received in feed.networks):
        yield "no session delivers to this collector now: home networks are those of the tenant"
    for name, length in feed.cut:
        yield (
            f"session {name} cuts its copies to {length} bytes: what lies behind is not seen, and "
            "most protocols cannot be followed"
        )
    for name in feed.one_way:
        yield (
            f"session {name} copies one direction only: of a conversation with somebody who is not "
            "watched, half is missing"
        )
    for name in feed.capped:
        yield f"session {name} has a rate cap: at its cap copies are missing"
    for name, rules in feed.filtered:
        yield f"session {name} copies only what filter {rules} accepts"
    for name in feed.exclusive:
        yield (
            f"session {name} is exclusive: what an exclusive session with a lower number takes of "
            "the same source is missing"
        )
    if feed.longest is not None and feed.longest < FULL_FRAME:
        yield (
            f"frames of more than {feed.longest} bytes do not fit the path to the sensor: they are "
            "cut or skipped, as each session says; make the path wider, or the workloads' MTU less"
        )
    if feed.shared:
        yield f"the sensor also gets the copies of {', '.join(feed.shared)}"
    if feed.has_strangers:
        yield (
            "other tenants deliver to the same address: the copies of theirs wear tags that are "
            "not listed here, if their collectors have tenant_tag `auto`"
        )
    if feed.unknown:
        more = "" if len(feed.unknown) <= 5 else f" and {len(feed.unknown) - 5} more"
        names = ", ".join(feed.unknown[:5]) + more
        yield f"the inventory has no addresses of {names}: all private ranges count as home"
