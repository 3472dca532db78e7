"""The options that say what a session shall do, the same for create and set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click

from controller.cli.client import Failure, Values
from controller.syntax.rates import read_rate, show_rate
from flows.errors import InvalidValue
from flows.model.session import Rate, RateUnit

LIMITS = {
    "packet_length": "cut to bytes",
    "max_rate": "at most",
    "expires_at": "expires at",
    "max_packets": "most packets",
    "max_bytes": "most bytes",
}
"""Options that may be null, and how they are shown."""

Command = TypeVar("Command", bound=Callable[..., Any])
Option = Callable[[Any], Any]
"""What adds one option to a command."""


def number_or_none(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> list[int | None] | None:
    """A whole number, or none: in a list, so that none is not nothing."""
    if value is None:
        return None
    if value != "none" and not value.isdecimal():
        raise click.BadParameter(f"{value!r} is neither a number nor none")
    return [None if value == "none" else int(value)]


def text_or_none(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> list[str | None] | None:
    """A text, or none: in a list; the controller judges the text."""
    return None if value is None else [None if value == "none" else value]


def rate_or_none(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> list[Values | None] | None:
    """A rate in words, or none: in a list, so that none is not nothing."""
    if value is None or value == "none":
        return None if value is None else [None]
    try:
        rate = read_rate(value)
    except InvalidValue as error:
        raise click.BadParameter(str(error)) from error
    return [{rate.unit.value: rate.value}]


def wish_options(*, is_new: bool) -> Callable[[Command], Command]:
    """The options of a session; a new one needs a collector."""
    options = (*_source_options(), *_copy_options(is_new), *_limit_options())

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _source_options() -> Iterator[Option]:
    yield click.option("--source", "-s", multiple=True, help="Port to watch; may repeat.")
    yield click.option("--source-network", multiple=True, help="Network to watch; may repeat.")
    yield click.option("--source-tenant", is_flag=True, help="Watch all ports of the tenant.")
    yield click.option(
        "--source-label",
        multiple=True,
        metavar="KEY=VALUE",
        help="Watch ports with this label; with several, those that have all.",
    )


def _copy_options(is_new: bool) -> Iterator[Option]:
    yield click.option("--collector", "-c", required=is_new, help="Where the copies go.")
    yield click.option("--filter", "-f", help="Which packets; else `all`." if is_new else "Which.")
    yield click.option(
        "--direction",
        type=click.Choice(["ingress", "egress", "both"]),
        default="both" if is_new else None,
        show_default=is_new,
        help="What the workload receives, what it sends, or both.",
    )
    yield click.option(
        "--mode",
        type=click.Choice(["copy", "exclusive"]),
        default="copy" if is_new else None,
        show_default=is_new,
        help="exclusive: a packet goes to the first such session of its port that accepts it.",
    )
    yield click.option(
        "--number",
        type=int,
        help="1 to 32766 (else 100); of exclusive sessions the lowest is asked first.",
    )


def _limit_options() -> Iterator[Option]:
    limit: Any = {"callback": number_or_none, "metavar": "NUMBER|none"}
    yield click.option("--packet-length", **limit, help="Cut each copy to so many bytes.")
    yield click.option(
        "--oversize",
        type=click.Choice(["truncate", "skip"]),
        help="Cut copies that do not fit the path to a remote sensor, or skip them.",
    )
    yield click.option(
        "--max-rate",
        callback=rate_or_none,
        metavar="RATE|none",
        help="Most copies on each bridge, like '200 mbps' or '5000 pps'; the rest is shed.",
    )
    yield click.option(
        "--expires-at",
        callback=text_or_none,
        metavar="TIME|none",
        help="Stop then, like 2030-01-31T12:00:00Z (UTC).",
    )
    yield click.option("--max-packets", **limit, help="Stop after so many copies.")
    yield click.option("--max-bytes", **limit, help="Stop after so many bytes of copies.")


def read_wish(
    source: tuple[str, ...],
    source_network: tuple[str, ...],
    source_tenant: bool,
    source_label: tuple[str, ...],
    **given: Any,
) -> Values:
    """The fields of a body that the options name."""
    sources: list[Values] = []
    if source:
        sources.append({"kind": "port", "ports": list(source)})
    if source_network:
        sources.append({"kind": "network", "networks": list(source_network)})
    if source_tenant:
        sources.append({"kind": "tenant"})
    if source_label:
        sources.append({"kind": "label", "labels": _labels(source_label)})
    if len(sources) > 1:
        raise Failure("a session has one kind of source: ports, networks, labels, or the tenant")
    body = {"source": sources[0]} if sources else {}
    for key, value in given.items():
        if value is not None:
            body[key] = value[0] if key in LIMITS else value
    return body


def show_limits(item: Values) -> list[tuple[str, object]]:
    """What of a session's copies is cut, shed or left out, and when it stops, in words."""
    rows: list[tuple[str, object]] = []
    for key, word in LIMITS.items():
        value = item[key]
        if key == "max_rate" and value is not None:
            [(unit, number)] = value.items()
            value = f"{show_rate(Rate(RateUnit(unit), number))} on each bridge"
        if value is not None:
            rows.append((word, value))
    longest = item["status"]["largest_frame"]
    if longest is not None:
        then = "skipped" if item["oversize"] == "skip" else f"cut to {longest}"
        rows.append(("longest frame", f"{longest} bytes; longer copies are {then}"))
    return rows


def show_source(source: Values) -> list[str]:
    """What a session watches, in words."""
    match source["kind"]:
        case "port":
            return list(source["ports"])
        case "network":
            return [f"network {name}" for name in source["networks"]]
        case "label":
            return [f"{key}={value}" for key, value in source["labels"].items()]
        case _:
            return ["the tenant"]


def _labels(given: tuple[str, ...]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or key in labels:
            raise Failure(f"label {text!r} is not KEY=VALUE, or its key is given twice")
        labels[key] = value
    return labels
