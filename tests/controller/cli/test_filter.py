"""The command line of filters, sources, tags and limits."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from controller.cli.client import Failure
from controller.cli.filter import read_rule
from tests.controller.cli.test_cli import Run, failed, fake, fill_red, good, run, shown, store, url

__all__ = ["fake", "run", "store", "url"]

RULES = """
ingress:
  - number: 20
    action: accept
    match: {protocol: tcp, destination_port: 80-443, source_mac: 10:20:30:40:50:51, vlan: none}
  - {number: 10, action: reject, match: {source: 10.0.0.9, eth_type: 0x0800}}
egress: []
"""


def test_a_filter_is_created_from_a_file_shown_and_deleted(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(RULES)
    red = ("--tenant", "red")
    text = good(run("filter", "create", "http", "--file", str(file), *red, COLUMNS="120"))

    assert (
        "destination port 80-443" in text and "nothing is copied of what a workload sends" in text
    )
    rules = shown(run, "filter", "show", "http")
    assert rules["ingress"][1]["match"]["source_mac"] == "10:20:30:40:50:51"
    assert rules["ingress"][1]["match"]["vlan"] == "none"
    file.write_text(json.dumps({"ingress": rules["ingress"], "egress": rules["ingress"]}))
    changed = shown(run, "filter", "set", "http", "-f", str(file), "--name", "web")
    assert changed["egress"] == rules["ingress"] and changed["name"] == "web"
    listed = good(run("filter", "list"))
    assert "web" in listed and "all" in listed
    assert good(run("filter", "delete", "web")) == "filter 'web' is deleted\n"
    assert "no filter 'web'" in failed(run("filter", "show", "web"))


def test_rules_are_given_in_words(run: Run) -> None:
    made = shown(
        *(run, "filter", "create", "web", "--tenant", "red"),
        *("--reject", "source 10.0.0.9", "--accept", "arp"),
        *("--ingress", "accept tcp destination-port 80-443"),
        *("--egress", "500 accept udp source_port 53"),
    )

    both = [
        {"number": 10, "action": "reject", "match": {"source": "10.0.0.9"}},
        {"number": 20, "action": "accept", "match": {"eth_type": "arp"}},
    ]
    tcp = {"protocol": "tcp", "destination_port": "80-443"}
    udp = {"protocol": "udp", "source_port": "53"}
    assert made["ingress"] == [*both, {"number": 30, "action": "accept", "match": tcp}]
    assert made["egress"] == [*both, {"number": 500, "action": "accept", "match": udp}]
    emptied = shown(run, "filter", "set", "web", "--ingress", "accept any")
    assert emptied["ingress"] == [{"number": 10, "action": "accept", "match": {}}]
    assert emptied["egress"] == made["egress"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "does not begin with `accept` or `reject`"),
        ("tcp", "does not begin with"),
        ("accept destination-port", "'destination-port' needs a value"),
        ("accept tcp protocol 5", "protocol is given twice"),
        ("accept", "does not say which packets: write `any`"),
        ("reject ", "does not say which packets"),
        ("accept tcp any", "'any' is for all packets, so it stands alone"),
        ("accept all", "did you mean 'any'"),
        ("accept ip", "did you mean 'ipv4' or 'ipv6'"),
        ("accept tpc port 80", "'tpc' is no protocol and no key of a match: did you mean 'tcp'"),
        ("accept TCP PORT 80", "did you mean 'tcp'"),
        ("accept tcp PORT 80", "did you mean 'port'"),
        ("accept tcp prot 80", "did you mean 'port'"),
        ("accept tcp tcp_flag syn", "did you mean 'tcp-flags'"),
        ("accept tcp port 80 443", "'443' is the value of no key; several are one word"),
        ("accept tcp destination_port=80", "write a space between a key and its value"),
        ("accept #", "known: arp .* address .* vlan"),
    ],
)
def test_words_that_are_no_rule_are_reported(words: str, message: str) -> None:
    with pytest.raises(Failure, match=message):
        read_rule(words, 10)


def test_a_mistake_in_a_rule_is_reported_by_the_controller(run: Run, tmp_path: Path) -> None:
    bad = run("filter", "create", "x", "--tenant", "red", "--ingress", "accept vlan 5000")
    assert "ingress rule 10: vlan: 5000 is outside 0..4095" in failed(bad)
    file = tmp_path / "rules"
    file.write_text("- 1")
    assert "lists `ingress` and `egress`" in failed(run("filter", "create", "x", "-f", str(file)))
    file.write_text("{")
    assert ": not valid YAML" in failed(run("filter", "create", "x", "-f", str(file)))
    both = run("filter", "create", "x", "-f", str(file), "--accept", "arp")
    assert "in a file or in words" in failed(both)
    assert "cannot be read" in failed(run("filter", "create", "x", "-f", str(tmp_path / "none")))


@pytest.mark.parametrize("words", ["", " ", "\t"])
def test_an_empty_text_does_not_accept_everything(run: Run, words: str) -> None:
    for option in ("--accept", "--reject"):
        wrong = failed(run("filter", "create", "x", "--tenant", "red", option, words))
        assert f"{option} is empty" in wrong and "`any` for all" in wrong
    failed(run("filter", "show", "x"))
    made = shown(run, "filter", "create", "x", "--tenant", "red", "--accept", "any")
    assert made["ingress"] == made["egress"] == [{"number": 10, "action": "accept", "match": {}}]


REFUSED_FILES = [
    ("ingress:\n- {number: 1, action: reject}\ningress: []\n", "3: key 'ingress' is given twice"),
    ('{"ingress": [],\n "egress": [], "ingress": []}', "2: key 'ingress' is given twice"),
    ('{"ingress": [], "\\u0069ngress": []}', "1: key 'ingress' is given twice"),
    ("ingress:\n- {number: 1, number: 2, action: accept}", "2: key 'number' is given twice"),
    ("ingress:\n- match:\n    vlan: 1\n    vlan: 2", "4: key 'vlan' is given twice"),
    ("ingress: &a []\negress: *a", "2: alias *a: write the value out"),
    ("ingress: !!set {a, b}", "1: tag tag:yaml.org,2002:set: write plain values"),
    ("ingress: []\n---\negress: []", "2: a second document begins here"),
    ("[" * 50, "1: nested deeper than 10 levels"),
]


@pytest.mark.parametrize(("text", "sentence"), REFUSED_FILES)
def test_what_a_file_says_twice_or_by_reference_is_refused(
    run: Run, tmp_path: Path, text: str, sentence: str
) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(text)
    red = ("--tenant", "red")
    assert f"{file}:{sentence}" in failed(run("filter", "create", "x", "-f", str(file), *red))
    good(run("filter", "create", "y", "--accept", "arp", *red))
    failed(run("filter", "set", "y", "-f", str(file)))
    assert shown(run, "filter", "show", "y")["ingress"][0]["match"] == {"eth_type": "arp"}


def test_a_file_is_read_up_to_a_bound_and_no_device_is(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.cli.filter.RULES_FILE_BYTES_MAX", 1024 * 1024)
    create = ("filter", "create", "x", "--tenant", "red", "--file")
    assert "neither a file nor a pipe" in failed(run(*create, "/dev/zero"))
    file = tmp_path / "large"
    file.write_bytes(b"#" * (1024 * 1024 + 1))
    assert "larger than 1 MiB" in failed(run(*create, str(file)))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("ingress: []",))
    writer.start()
    assert "nothing is copied" in good(run(*create, str(pipe)))
    writer.join()


def test_a_session_is_given_a_source_a_filter_and_limits(run: Run) -> None:
    fill_red(run)
    good(run("filter", "create", "web", "--tenant", "red", "--accept", "tcp"))
    common = ("--tenant", "red", "--collector", "ids")

    def source(name: str, *options: str) -> Any:
        return shown(run, "session", "create", name, *common, *options)["source"]

    assert source("a", "--source-network", "lan")["networks"] == ["lan"]
    assert source("b", "--source-tenant")["kind"] == "tenant"
    made = shown(
        *(run, "session", "create", "c", *common, "--source-label", "tier=web"),
        *("--filter", "web", "--packet-length", "128", "--max-packets", "5"),
        *("--expires-at", "2999-01-01T00:00:00Z", "--max-bytes", "900"),
    )
    assert made["source"]["labels"] == {"tier": "web"}
    assert (made["filter"], made["packet_length"], made["max_packets"]) == ("web", 128, 5)
    text = good(run("session", "show", "c"))
    assert "tier=web" in text and "2999-01-01T00:00:00Z" in text and "most bytes" in text
    changed = shown(
        *(run, "session", "set", "c", "--max-packets", "none", "--packet-length", "none"),
        *("--source", "web-1", "--name", "d", "--filter", "all"),
    )
    assert (changed["max_packets"], changed["packet_length"], changed["max_bytes"]) == (
        None,
        None,
        900,
    )
    assert (changed["name"], changed["filter"], changed["source"]["ports"]) == (
        "d",
        "all",
        ["web-1"],
    )
    for options in (("--source-label", "x"), ("--source-tenant", "--source", "web-1")):
        failed(run("session", "create", "x", *common, *options))
    failed(run("session", "create", "x", *common), 2)
    failed(run("session", "set", "d", "--max-bytes", "many"), 2)


def test_the_tag_of_a_collector_is_chosen_and_changed(run: Run) -> None:
    red = ("--tenant", "red", "--port", "ids-1")
    tags = [
        shown(run, "collector", "create", f"c-{tag}", *red, "--tag", tag)["tenant_tag"]
        for tag in ("auto", "none", "7")
    ]
    assert tags == ["auto", None, 7]
    assert shown(run, "collector", "set", "c-7", "--tag", "none")["tenant_tag"] is None
    renamed = shown(run, "collector", "set", "c-7", "--name", "c-8")
    assert (renamed["name"], renamed["tenant_tag"]) == ("c-8", None)
    failed(run("collector", "set", "c-8", "--tag", "some"), 2)


@pytest.mark.parametrize("number", ["\uff18\uff10", "\u00b2", "\u0668\u0660", "1_0"])
def test_a_number_in_other_digits_is_not_read_as_one(run: Run, number: str) -> None:
    with pytest.raises(Failure, match="does not begin with `accept`"):
        read_rule(f"{number} accept", 10)
    assert read_rule(f"accept destination-port {number}", 10)["match"] == {
        "destination_port": number
    }
    sessions = ("session", "create", "s", "--source", "web-1", "--collector", "ids")
    for option in ("--number", "--packet-length", "--max-packets"):
        assert f"{number!r} is n" in failed(run(*sessions, option, number), 2)
    for option in ("--vni", "--tag"):
        assert f"{number!r} is n" in failed(run("collector", "create", "c", option, number), 2)
    for option in ("--count", "--length"):
        assert f"{number!r} is n" in failed(run("session", "verify", "s", option, number), 2)
    assert f"{number!r} is n" in failed(run("explain", "--index", number), 2)
    expires = "2030-01-\uff10\uff18T12:00:00Z"
    assert "is no time" in failed(run(*sessions, "--tenant", "red", "--expires-at", expires))
