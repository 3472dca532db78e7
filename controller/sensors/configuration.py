"""One configuration: its text, and what a person should know before relying on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from controller.sensors.suricata import suricata_notes, suricata_text
from controller.sensors.zeek import zeek_notes, zeek_text
from flows.explain.feed import Feed

PATH_ROOM = 1514
"""A frame of an ordinary workload, Ethernet header included: what a path should carry whole."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """A text for a file of the sensor; each of ``notes`` is a sentence, and in the text, too."""

    sensor: str
    text: str
    notes: tuple[str, ...]


Make = Callable[[Feed, str, tuple[str, ...]], str]
Warn = Callable[[Feed], Iterator[str]]
SENSORS: Mapping[str, tuple[Make, Warn]] = {
    "suricata": (suricata_text, suricata_notes),
    "zeek": (zeek_text, zeek_notes),
}
"""The programs that a configuration can be made for."""


def configure(sensor: str, feed: Feed, interface: str) -> Configuration:
    """The configuration for one kind of sensor that listens on ``interface``."""
    make, warn = SENSORS[sensor]
    notes = (*_notes(feed), *warn(feed))
    return Configuration(sensor, make(feed, interface, notes), notes)


def _notes(feed: Feed) -> Iterator[str]:
    if not any(heard.sessions for heard in feed.heard):
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
    if feed.longest is not None and feed.longest < PATH_ROOM:
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
