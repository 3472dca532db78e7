"""The options of `session create` and `session set`, and how a session is shown in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from controller.cli.client import Failure, Values
from controller.cli.options import NUMBER, Option, fields_of, nullable, read_number
from controller.syntax import read_rate, show_rate
from flows.errors import InvalidValue
from flows.model import Rate, RateUnit

LIMIT_WORDS = {
    "packet_length": "cut to bytes",
    "max_rate": "at most",
    "expires_at": "expires at",
    "max_packets": "most packets",
    "max_bytes": "most bytes",
}
"""Fields that limit a session, and how each is called when a session is shown."""


def _read_rate(text: str) -> Values:
    """A rate in the form of the API.

    Raises:
        click.BadParameter: the text is not a rate.
    """
    try:
        rate = read_rate(text)
    except InvalidValue as error:
        raise click.BadParameter(str(error)) from error
    return {rate.unit.value: rate.value}


def _source_options() -> Iterator[Option]:
    yield click.option("--source", "-s", multiple=True, help="Port to watch; may repeat.")
    yield click.option("--source-network", multiple=True, help="Network to watch; may repeat.")
    yield click.option("--source-tenant", is_flag=True, help="Watch all ports of the tenant.")
    yield click.option(
        "--source-label",
        multiple=True,
        metavar="KEY=VALUE",
        help="Watch ports with this label; may repeat, for those that have all.",
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
        type=NUMBER,
        help="1 to 32766 (else 100); of exclusive sessions the lowest is asked first.",
    )


def _limit_options() -> Iterator[Option]:
    limit: Any = {"callback": nullable(read_number), "metavar": "NUMBER|none"}
    yield click.option("--packet-length", **limit, help="Cut each copy to so many bytes.")
    yield click.option(
        "--oversize",
        type=click.Choice(["truncate", "skip"]),
        help="Cut copies that do not fit the path to a remote sensor, or skip them.",
    )
    yield click.option(
        "--max-rate",
        callback=nullable(_read_rate),
        metavar="RATE|none",
        help="Most copies on each bridge, like '200 mbps' or '5000 pps'; the rest is shed.",
    )
    yield click.option(
        "--expires-at",
        callback=nullable(str),
        metavar="TIME|none",
        help="Stop then, like 2030-01-31T12:00:00Z (UTC).",
    )
    yield click.option("--max-packets", **limit, help="Stop after so many copies.")
    yield click.option("--max-bytes", **limit, help="Stop after so many bytes of copies.")


CREATE_OPTIONS = (*_source_options(), *_copy_options(is_new=True), *_limit_options())
CHANGE_OPTIONS = (*_source_options(), *_copy_options(is_new=False), *_limit_options())


def read_session(
    source: tuple[str, ...],
    source_network: tuple[str, ...],
    source_tenant: bool,
    source_label: tuple[str, ...],
    **given: Any,
) -> Values:
    """The fields of a session that the options give.

    Raises:
        Failure: there is more than one kind of source, or a label is not KEY=VALUE.
    """
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
    return ({"source": sources[0]} if sources else {}) | fields_of(given)


def show_limits(item: Values) -> list[tuple[str, object]]:
    """Rows that say how copies are limited, and when the session stops."""
    rows: list[tuple[str, object]] = []
    for key, word in LIMIT_WORDS.items():
        value = item[key]
        if key == "max_rate" and value is not None:
            [(unit, number)] = value.items()
            value = f"{show_rate(Rate(RateUnit(unit), number))} on each bridge"
        if value is not None:
            rows.append((word, value))
    if (port_rate := item["status"].get("port_rate")) is not None:
        [(unit, number)] = port_rate.items()
        shown = show_rate(Rate(RateUnit(unit), number))
        rows.append(("slow port", f"on the way sends little: at most {shown} from each bridge"))
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
