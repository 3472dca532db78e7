"""The options that say what a session shall do, the same for create and set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from controller.cli.client import Failure, Values

LIMITS = {
    "packet_length": "cut to bytes",
    "expires_at": "expires at",
    "max_packets": "most packets",
    "max_bytes": "most bytes",
}
"""Options that may be null, and how they are shown."""

Command = TypeVar("Command", bound=Callable[..., Any])


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


def wish_options(*, is_new: bool) -> Callable[[Command], Command]:
    """The options of a session; a new one needs a collector."""
    limit: Any = {"callback": number_or_none, "metavar": "NUMBER|none"}
    options = [
        click.option("--source", "-s", multiple=True, help="Port to watch; may repeat."),
        click.option("--source-network", multiple=True, help="Network to watch; may repeat."),
        click.option("--source-tenant", is_flag=True, help="Watch all ports of the tenant."),
        click.option(
            "--source-label",
            multiple=True,
            metavar="KEY=VALUE",
            help="Watch ports with this label; with several, those that have all.",
        ),
        click.option("--collector", "-c", required=is_new, help="Where the copies go."),
        click.option("--filter", "-f", help="Which packets; else `all`." if is_new else "Which."),
        click.option(
            "--direction",
            type=click.Choice(["ingress", "egress", "both"]),
            default="both" if is_new else None,
            show_default=is_new,
            help="What the workload receives, what it sends, or both.",
        ),
        click.option("--number", type=int, help="1 to 32766; the API chooses 100."),
        click.option("--packet-length", **limit, help="Cut each copy to so many bytes."),
        click.option(
            "--expires-at",
            callback=text_or_none,
            metavar="TIME|none",
            help="Stop then, like 2030-01-31T12:00:00Z (UTC).",
        ),
        click.option("--max-packets", **limit, help="Stop after so many copies."),
        click.option("--max-bytes", **limit, help="Stop after so many bytes of copies."),
    ]

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


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
