"""cloudtap filter: which packets of a source are copied."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import click
import yaml

from controller.cli.client import Failure, Values
from controller.cli.options import Option, tenant_option
from controller.cli.output import Column, cell, console, print_data, print_table
from controller.cli.resource import Resource, add_list
from controller.syntax import is_number

NUMBER_STEP = 10
"""Distance between the numbers of rules that are given without one."""

BARE_PROTOCOLS = frozenset({"tcp", "udp", "sctp", "icmp", "icmpv6"})
BARE_ETH_TYPES = frozenset({"ipv4", "ipv6", "arp", "lldp"})
"""Words that a rule may have without the key `protocol` or `eth-type` in front of them."""

FILTER_COLUMNS: tuple[Column, ...] = (
    ("filter", lambda f: f["name"]),
    ("tenant", lambda f: f["tenant"]),
    ("ingress rules", lambda f: f["ingress_rules"]),
    ("egress rules", lambda f: f["egress_rules"]),
)
RULE_COLUMNS: tuple[Column, ...] = (
    ("direction", lambda r: r["direction"]),
    ("number", lambda r: r["number"]),
    ("action", lambda r: r["action"]),
    ("match", lambda r: _show_match(r["match"])),
)
NOT_COPIED = {"ingress": "what a workload receives", "egress": "what a workload sends"}
"""What is not copied while a direction has no rule."""

RULE_OPTIONS: tuple[Option, ...] = (
    click.option(
        "--file",
        "-f",
        type=click.Path(path_type=Path, dir_okay=False),
        help="YAML or JSON with the lists `ingress` and `egress`; - is the standard input.",
    ),
    *(
        click.option(
            f"--{action}",
            multiple=True,
            metavar="MATCH",
            help=f"{action.capitalize()} in both directions, like 'tcp port 80' (requests and "
            "answers) or 'arp'; may repeat.",
        )
        for action in ("accept", "reject")
    ),
    *(
        click.option(
            f"--{direction}",
            multiple=True,
            metavar="RULE",
            help=f"A rule for {direction}, like 'accept tcp destination-port 80-443'; may repeat.",
        )
        for direction in ("ingress", "egress")
    ),
)


class _Loader(yaml.SafeLoader):
    """Reads plain numbers and null; every other scalar, like a MAC address, stays a text."""

    yaml_implicit_resolvers = {}


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"(?:0|[1-9][0-9]*|0x[0-9a-fA-F]+)$"), list("0123456789")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(?:~|null|)$"), ["~", "n", ""])


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
        print_table(rules, RULE_COLUMNS)
    for direction, what in NOT_COPIED.items():
        if not item[direction]:
            console().print(cell(f"no {direction} rule: nothing is copied of {what}"))


@click.group("filter")
def filters() -> None:
    """Which packets of a source are copied."""


FILTER_COMMANDS = Resource("filter", filters, _print)
add_list(filters, "filter", FILTER_COLUMNS, "There are no filters.", tenant_option)
FILTER_COMMANDS.add_show("Show the rules of a filter, by name or id.")
FILTER_COMMANDS.add_delete("Delete a filter that no session uses.")


@FILTER_COMMANDS.create_command(*RULE_OPTIONS)
def fields_of_new(**given: Any) -> Values:
    """Create a filter, from a file or from rules in words."""
    return _read_rules(**given)


@FILTER_COMMANDS.set_command(*RULE_OPTIONS)
def changed_fields(**given: Any) -> Values:
    """Replace the rules of a filter, for all sessions that use it; a direction not given stays."""
    return _read_rules(**given)


def read_rule(words: str, number: int) -> Values:
    """Read a rule: [number] accept|reject [tcp|udp|icmp|arp|...] [key value]...

    Raises:
        Failure: it is no rule. The controller checks the values.
    """
    parts = words.split()
    if parts and is_number(parts[0]):
        number = int(parts.pop(0))
    if not parts or parts[0] not in ("accept", "reject"):
        raise Failure(f"rule {words!r} does not begin with `accept` or `reject`")
    return {"number": number, "action": parts[0], "match": read_match(parts[1:], words)}


def read_match(parts: list[str], words: str) -> Values:
    """Read the match of a rule, like `tcp destination-port 80-443`.

    Raises:
        Failure: a key has no value, or is given twice.
    """
    match: Values = {}
    left = iter(parts)
    for word in left:
        key, value = word.replace("-", "_"), word
        if word in BARE_PROTOCOLS:
            key = "protocol"
        elif word in BARE_ETH_TYPES:
            key = "eth_type"
        else:
            value = next(left, "")
        if not value:
            raise Failure(f"rule {words!r}: {word!r} needs a value behind it")
        if key in match:
            raise Failure(f"rule {words!r}: {key} is given twice")
        match[key] = int(value) if is_number(value) else value
    return match


def _read_rules(
    file: Path | None,
    ingress: tuple[str, ...],
    egress: tuple[str, ...],
    accept: tuple[str, ...],
    reject: tuple[str, ...],
) -> Values:
    """Read both lists of rules; those of --reject, then those of --accept, come first in each."""
    if file is not None:
        if ingress or egress or accept or reject:
            raise Failure("give rules in a file or in words, not both")
        return _read_file(file)
    both = [f"reject {words}" for words in reject] + [f"accept {words}" for words in accept]
    lists: Values = {}
    for direction, own in (("ingress", ingress), ("egress", egress)):
        words = [*both, *own]
        if words:
            lists[direction] = [
                read_rule(one, NUMBER_STEP * place) for place, one in enumerate(words, 1)
            ]
    return lists


def _read_file(file: Path) -> Values:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
        found = yaml.load(text, _Loader)  # a subclass of SafeLoader
    except (OSError, UnicodeError) as error:
        raise Failure(f"{file} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise Failure(f"{file} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict) or not found.keys() <= {"ingress", "egress"}:
        raise Failure(f"{file} is written with the lists `ingress` and `egress`, and nothing else")
    return found


def _show_match(match: Values) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in match.items()) or "any"
