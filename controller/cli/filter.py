"""cloudtap filter: create, list, show, set, delete."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click
import yaml

from controller.cli.client import Api, Failure, Values
from controller.cli.output import (
    Column,
    cell,
    console,
    output_option,
    pass_api,
    print_data,
    print_list,
    print_table,
    tenant_option,
)

STEP = 10
"""Distance of the numbers of rules that are given without one."""

PROTOCOLS = frozenset({"tcp", "udp", "sctp", "icmp", "icmpv6"})
ETH_TYPES = frozenset({"ipv4", "ipv6", "arp", "lldp"})

COLUMNS: tuple[Column, ...] = (
    ("filter", lambda f: f["name"]),
    ("tenant", lambda f: f["tenant"]),
    ("ingress rules", lambda f: f["ingress_rules"]),
    ("egress rules", lambda f: f["egress_rules"]),
)
RULES: tuple[Column, ...] = (
    ("direction", lambda r: r["direction"]),
    ("number", lambda r: r["number"]),
    ("action", lambda r: r["action"]),
    ("match", lambda r: _words(r["match"])),
)

Command = TypeVar("Command", bound=Callable[..., Any])


class _Loader(yaml.SafeLoader):
    """YAML where a MAC address stays a text: only plain numbers and null are more than words."""

    yaml_implicit_resolvers = {}


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"(?:0|[1-9][0-9]*|0x[0-9a-fA-F]+)$"), list("0123456789")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(?:~|null|)$"), ["~", "n", ""])


@click.group("filter")
def filters() -> None:
    """Which packets of a source are copied."""


def _rule_options(command: Command) -> Command:
    """The options that say rules, the same for create and set."""
    for direction in ("egress", "ingress"):
        command = click.option(
            f"--{direction}",
            multiple=True,
            metavar="RULE",
            help=f"A rule for {direction}, like 'accept tcp destination-port 80-443'; may repeat.",
        )(command)
    for action in ("reject", "accept"):
        command = click.option(
            f"--{action}",
            multiple=True,
            metavar="MATCH",
            help=f"{action.capitalize()} in both directions, like 'arp' or 'tcp'; may repeat.",
        )(command)
    return click.option(
        "--file",
        "-f",
        type=click.Path(path_type=Path, dir_okay=False),
        help="YAML or JSON with the lists `ingress` and `egress`; - is the standard input.",
    )(command)


@filters.command()
@click.argument("name")
@_rule_options
@tenant_option
@output_option
@pass_api
def create(api: Api, /, name: str, tenant: str | None, output: str, **given: Any) -> None:
    """Create a filter, from a file or from rules in words."""
    body: Values = {"name": name} | _rules(**given)
    _print(api.post("filters", body | ({"tenant": tenant} if tenant else {})), output)


@filters.command("list")
@tenant_option
@output_option
@pass_api
def list_(api: Api, tenant: str | None, output: str) -> None:
    """List filters."""
    print_list(api.all("filters", tenant=tenant), output, COLUMNS, "There are no filters.")


@filters.command()
@click.argument("name")
@tenant_option
@output_option
@pass_api
def show(api: Api, name: str, tenant: str | None, output: str) -> None:
    """Show the rules of a filter, by name or id."""
    _print(api.get("filters", name, tenant=tenant), output)


@filters.command("set")
@click.argument("name")
@click.option("--name", "new_name", help="Give it another name.")
@_rule_options
@tenant_option
@output_option
@pass_api
def set_(
    api: Api, /, name: str, new_name: str | None, tenant: str | None, output: str, **given: Any
) -> None:
    """Replace the rules of a filter, for all sessions that use it; a direction not given stays."""
    body = _rules(**given) | ({"name": new_name} if new_name else {})
    _print(api.patch("filters", name, body, tenant=tenant), output)


@filters.command()
@click.argument("name")
@tenant_option
@output_option
@pass_api
def delete(api: Api, name: str, tenant: str | None, output: str) -> None:
    """Delete a filter that no session uses."""
    api.delete("filters", name, tenant=tenant)
    if output == "table":
        console().print(cell(f"filter {name!r} is deleted"))
    else:
        print_data({"deleted": True, "filter": name}, output)


def read_rule(words: str, number: int) -> Values:
    """A rule in words: [number] accept|reject [tcp|udp|icmp|arp|...] [key value]...

    Raises:
        Failure: it is no rule; what the values mean is the controller's to judge.
    """
    parts = words.split()
    if parts and parts[0].isdigit():
        number = int(parts.pop(0))
    if not parts or parts[0] not in ("accept", "reject"):
        raise Failure(f"rule {words!r} does not begin with `accept` or `reject`")
    return {"number": number, "action": parts[0], "match": read_match(parts[1:], words)}


def read_match(parts: list[str], words: str) -> Values:
    """The match of a rule, from words like `tcp destination-port 80-443`.

    Raises:
        Failure: a key has no value, or is given twice.
    """
    match: Values = {}
    left = iter(parts)
    for word in left:
        key, value = word.replace("-", "_"), word
        if word in PROTOCOLS:
            key = "protocol"
        elif word in ETH_TYPES:
            key = "eth_type"
        else:
            value = next(left, "")
        if not value:
            raise Failure(f"rule {words!r}: {word!r} needs a value behind it")
        if key in match:
            raise Failure(f"rule {words!r}: {key} is given twice")
        match[key] = int(value) if value.isdecimal() else value
    return match


def _rules(
    file: Path | None,
    ingress: tuple[str, ...],
    egress: tuple[str, ...],
    accept: tuple[str, ...],
    reject: tuple[str, ...],
) -> Values:
    """The two lists of rules that the options mean; rejects of both directions come first."""
    if file is not None:
        if ingress or egress or accept or reject:
            raise Failure("give rules in a file or in words, not both")
        return _read_file(file)
    both = [f"reject {words}" for words in reject] + [f"accept {words}" for words in accept]
    lists: Values = {}
    for direction, own in (("ingress", ingress), ("egress", egress)):
        words = [*both, *own]
        if words:
            lists[direction] = [read_rule(one, STEP * place) for place, one in enumerate(words, 1)]
    return lists


def _read_file(file: Path) -> Values:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
        found = yaml.load(text, _Loader)  # a safe loader, which guesses less
    except (OSError, UnicodeError) as error:
        raise Failure(f"{file} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise Failure(f"{file} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict) or not found.keys() <= {"ingress", "egress"}:
        raise Failure(f"{file} is written with the lists `ingress` and `egress`, and nothing else")
    return found


def _print(item: Values, output: str) -> None:
    if output != "table":
        print_data(item, output)
        return
    owner = f"of tenant {item['tenant']}" if item["tenant"] else "built in"
    console().print(cell(f"filter {item['name']!r}, {owner}, id {item['id']}"))
    rules = [
        rule | {"direction": direction}
        for direction in ("ingress", "egress")
        for rule in item[direction]
    ]
    if rules:
        print_table(rules, RULES)
    for direction in _without(item):
        console().print(cell(f"no {direction} rule: nothing is copied of {_WHAT[direction]}"))


_WHAT = {"ingress": "what a workload receives", "egress": "what a workload sends"}


def _without(item: Values) -> Iterable[str]:
    return (direction for direction in ("ingress", "egress") if not item[direction])


def _words(match: Values) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in match.items()) or "any"
