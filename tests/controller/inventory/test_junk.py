"""Junk in place of an inventory: how much memory reading it takes, and what is said of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping

import pytest

from controller.inventory.file import parse
from controller.inventory.values import InventoryError
from controller.inventory.yaml_lines import CHILDREN_MAX, BadYaml, read_values

MB = 1024 * 1024
SIZE, GROWTH_MAX_MB = 10 * MB, 60
"""How many bytes are read, and by how much the process may grow: the text is there three times, as
it was read, as text, and once more in the parser."""
SHAPED_MAX_MB = 250
"""The same for what looks like an inventory: a real one of that size takes 150."""

JUNK: Mapping[str, tuple[bytes, bytes, bytes]] = {
    "a list of words": (b"tenants: [", b"a,", b"]"),
    "lists": (b"ports: [", b"[],", b"]"),
    "lists in lists": (b"ports: [", b"[[[[[[]]]]]],", b"]"),
    "mappings": (b"ports: [", b"{},", b"]"),
    "other keys": (b"ports: [", b"{a: b},", b"]"),
    "a mapping": (b"ports: {", b"a,", b"}"),
    "lines": (b"ports:\n", b"- a\n", b""),
    "empty lines of a list": (b"ports:\n", b"-\n", b""),
    "one key again and again": (b"", b"? a\n", b""),
    "a list and nothing else": (b"", b"- a\n", b""),
    "anchors": (b"ports: [", b"&a b,", b"]"),
    "tags": (b"ports: [", b"!a b,", b"]"),
    "a list in a port": (b"ports: [{ips: [", b"a,", b"]}]"),
    "long words": (b"ports: [", b"x" * 2000 + b",", b"]"),
    "one word": (b"ports: '", b"aaaaaaaaaaaaaaa ", b"'"),
}
SHAPED: Mapping[str, tuple[bytes, bytes, bytes]] = {
    "ports with many addresses": (b"ports: [", b"{ips: [" + b"a," * 250 + b"]},", b"]"),
    "ports with many labels": (b"ports: [", b"{labels: {" + b"a: b," * 60 + b"}},", b"]"),
    "ports with a name": (b"ports: [", b"{id: a},", b"]"),
}
"""Before, between and behind what repeats."""

MEASURE = """\
import json, re, sys
from controller.inventory.values import InventoryError
from controller.inventory.file import parse

def memory(key):
    return int(re.search(rf"{key}:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) // 1024

first, unit, last = (bytes.fromhex(text) for text in sys.argv[2:])
text = first + unit * ((int(sys.argv[1]) - len(first) - len(last)) // len(unit)) + last
open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
before = memory("VmRSS")
try:
    parse(text)
    problems, count = [], 0
except InventoryError as error:
    problems, count = error.problems, error.count
print(json.dumps([memory("VmHWM") - before, count, problems]))
"""


def measure(parts: tuple[bytes, bytes, bytes]) -> tuple[int, int, list[str]]:
    """Megabytes that a process grows while it reads junk; the number of problems, and these."""
    words = [str(SIZE), *(part.hex() for part in parts)]
    command = [sys.executable, "-c", MEASURE, *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    grown, count, problems = json.loads(done.stdout)
    return grown, count, problems


@pytest.mark.parametrize("kind", JUNK)
def test_junk_takes_no_more_memory_than_its_text(kind: str) -> None:
    grown, count, problems = measure(JUNK[kind])
    print(f"{grown} MB, {count} problems, the first: {problems[:2]}")
    assert grown <= GROWTH_MAX_MB
    assert 1 <= count <= 1000 and len(problems) <= 51


@pytest.mark.parametrize("kind", SHAPED)
def test_what_looks_like_an_inventory_takes_no_more_than_one(kind: str) -> None:
    grown, count, problems = measure(SHAPED[kind])
    print(f"{grown} MB, {count} problems, the first: {problems[:2]}")
    assert grown <= SHAPED_MAX_MB
    assert 1 <= count <= 1000 and len(problems) <= 51


@pytest.mark.parametrize("number", range(1, 40))
def test_a_file_that_is_not_read_to_its_end_is_never_taken(number: int) -> None:
    """Whatever is good before it, and wherever it ends."""
    good = "tenants: [red]\nnetworks: [{name: lan, tenant: red}]\nports:\n"
    good += "  - {id: a, tenant: red, network: lan}\n" * (number == 1)
    junk = "".join(f"{'  ' * (n % 2)}k{n}:\n" for n in range(3000))
    with pytest.raises(InventoryError):
        parse((good + junk[: number * 200]).encode())


def test_too_many_values_are_a_problem_where_nothing_else_is_wrong() -> None:
    text = f"rules: [[{'a,' * (CHILDREN_MAX + 1)}]]\n".encode()
    with pytest.raises(BadYaml, match=f"more than {CHILDREN_MAX} values in the list that begins"):
        read_values(text, "rules.yaml")
    many = "".join(f"{{k{n}: a}}, " for n in range(CHILDREN_MAX + 1))
    assert read_values(f"rules: [{many}]\n".encode(), "rules.yaml")
