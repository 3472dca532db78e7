"""cloudtap filter: which packets of a source are copied."""

from __future__ import annotations

import dataclasses
import os
import stat
import sys
from pathlib import Path
from typing import Any, BinaryIO

import click

from controller.cli.client import Failure, Values
from controller.cli.command import Group
from controller.cli.options import Option, tenant_option
from controller.cli.output import Column, cell, console, print_data, print_table
from controller.cli.resource import Resource, add_list
from controller.process import did_you_mean
from controller.syntax import is_number
from flows.model import RuleMatch

NUMBER_STEP = 10
"""Distance between the numbers of rules that are given without one."""

BARE_PROTOCOLS = frozenset({"tcp", "udp", "sctp", "icmp", "icmpv6"})
BARE_ETH_TYPES = frozenset({"ipv4", "ipv6", "arp", "lldp"})
"""Words that a rule may have without the key `protocol` or `eth-type` in front of them."""
MATCH_KEYS = tuple(field.name for field in dataclasses.fields(RuleMatch))
ANY = "any"
"""The word for a match of every packet."""
HINTS = {"all": ": did you mean 'any'?", "ip": ": did you mean 'ipv4' or 'ipv6'?"}
"""What was meant by words that are like none of those that are known."""

RULES_FILE_BYTES_MAX = 16 * 1024 * 1024
"""Largest file of rules that is read, in bytes: the controller accepts no more."""

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
            "answers), 'arp' or 'any'; may repeat.",
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


@click.group("filter", cls=Group)
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
    """Read a rule: [number] accept|reject any | [tcp|udp|icmp|arp|...] [key value]...

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
        Failure: it has no word, or one that is not known; a key has no value, or is given twice.
    """
    if not parts:
        raise Failure(
            f"rule {words!r} does not say which packets: write `any` behind it if it is for all"
        )
    if parts == [ANY]:
        return {}
    match: Values = {}
    left = iter(parts)
    for word in left:
        key, value = word.replace("-", "_"), word
        if word in BARE_PROTOCOLS:
            key = "protocol"
        elif word in BARE_ETH_TYPES:
            key = "eth_type"
        elif key in MATCH_KEYS:
            value = next(left, "")
        else:
            raise Failure(f"rule {words!r}: {_unknown(word)}")
        if not value:
            raise Failure(f"rule {words!r}: {word!r} needs a value behind it")
        if key in match:
            raise Failure(f"rule {words!r}: {key} is given twice")
        match[key] = int(value) if is_number(value) else value
    return match


def _unknown(word: str) -> str:
    """What is wrong with a word of a match that nobody knows."""
    if word == ANY:
        return "'any' is for all packets, so it stands alone"
    if word[0] in "0123456789":
        return f"{word!r} is the value of no key; several are one word, like 80,443 or 80-443"
    keys = sorted(key.replace("_", "-") for key in MATCH_KEYS)
    names = [*sorted(BARE_PROTOCOLS | BARE_ETH_TYPES), *keys]
    key, equals, _ = word.partition("=")
    if equals and key.replace("_", "-") in names:
        return f"{word!r}: write a space between a key and its value"
    hint = HINTS.get(word.casefold()) or did_you_mean(word.replace("_", "-"), names)
    return f"{word!r} is no protocol and no key of a match{hint or '; known: ' + ' '.join(names)}"


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
    for option, given in (("reject", reject), ("accept", accept)):
        if not all(words.strip() for words in given):
            raise Failure(
                f"--{option} is empty: say which packets, like 'tcp port 80', or `any` for all"
            )
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
    from controller.inventory import BadYaml, read_values

    try:
        found = read_values(_read_bytes(file), "standard input" if _is_stdin(file) else str(file))
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror}") from error
    except BadYaml as error:
        raise Failure("\n".join(error.sentences)) from error
    if not isinstance(found, dict) or not found.keys() <= {"ingress", "egress"}:
        raise Failure(f"{file} is written with the lists `ingress` and `egress`, and nothing else")
    return found


def _is_stdin(file: Path) -> bool:
    return str(file) == "-"


def _read_bytes(file: Path) -> bytes:
    """What a file or a pipe holds.

    Raises:
        OSError: it cannot be read.
        Failure: it is something else, or too large.
    """
    if _is_stdin(file):
        return _read_stream(file, sys.stdin.buffer)
    kind = os.stat(file).st_mode  # looked at before it is opened: to open a device can do things
    if not (stat.S_ISREG(kind) or stat.S_ISFIFO(kind)):
        raise Failure(f"{file} cannot be read: it is neither a file nor a pipe")
    with file.open("rb") as stream:
        return _read_stream(file, stream)


def _read_stream(file: Path, stream: BinaryIO) -> bytes:
    content = stream.read(RULES_FILE_BYTES_MAX + 1)
    if len(content) > RULES_FILE_BYTES_MAX:
        raise Failure(f"{file} is larger than {RULES_FILE_BYTES_MAX // 1024 // 1024} MiB: not read")
    return content


def _show_match(match: Values) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in match.items()) or "any"
