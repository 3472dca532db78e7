"""Configurations for sensors: their settings, their notes, the API and the command."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from flask.testing import FlaskClient
from netaddr import IPAddress

from controller.sensors import configure
from flows.explain import Feed
from flows.model import Delivery
from tests.controller.api.test_api import problem
from tests.controller.api.test_sessions import client, create
from tests.controller.cli.test_cli import Run, failed, fill_red, run, url
from tests.controller.fakes import FakeReconciler
from tests.sensor_feeds import (
    DMZ,
    LAN,
    TAGGED,
    UNTAGGED,
    ReceivedNetwork,
    make_feed,
    with_rules_for_each_network,
)

__all__ = ["client", "run", "url"]


def suricata(feed: Feed, interface: str = "eth7") -> dict[str, Any]:
    """The settings of a Suricata configuration."""
    settings: dict[str, Any] = yaml.safe_load(configure("suricata", feed, interface).text)
    return settings


def zeek(feed: Feed) -> str:
    return configure("zeek", feed, "eth7").text


@pytest.mark.parametrize("delivery", Delivery)
def test_every_suricata_follows_tags_joins_in_late_and_forgives_checksums(
    delivery: Delivery,
) -> None:
    settings = suricata(make_feed(delivery, TAGGED))
    [capture] = settings["af-packet"]
    assert (capture["interface"], capture["checksum-checks"]) == ("eth7", False)
    assert capture.get("threads") == (None if delivery is Delivery.PORT else 1)
    assert settings["vlan"] == {"use-for-tracking": True}
    assert settings["stream"] == {"midstream": True, "checksum-validation": False}
    [log] = settings["outputs"]
    assert (log["eve-log"]["community-id"], log["eve-log"]["community-id-seed"]) == (True, 0)


@pytest.mark.parametrize(
    ("delivery", "expected"),
    [
        (Delivery.PORT, None),
        (Delivery.VXLAN, {"vxlan": {"enabled": True, "ports": 4789}}),
        (Delivery.GENEVE, {"geneve": {"enabled": True, "ports": 6081}}),
        (Delivery.GRE, None),
        (Delivery.ERSPAN2, None),
    ],
)
def test_suricata_looks_into_the_tunnel_of_the_delivery(
    delivery: Delivery, expected: object
) -> None:
    assert suricata(make_feed(delivery)).get("decoder") == expected


def test_the_map_of_tags_is_in_both_and_rules_for_each_network_are_prepared() -> None:
    feed = make_feed(Delivery.PORT, TAGGED)
    text = configure("suricata", feed, "eth0").text
    for one in (text, zeek(feed)):
        assert "#   tag 101   = network lan of red (session web)" in one
    prepared = yaml.safe_load(with_rules_for_each_network(text))
    assert prepared["multi-detect"]["selector"] == "vlan"
    assert prepared["multi-detect"]["mappings"] == [
        {"vlan-id": tag, "tenant-id": tag} for tag in (101, 102)
    ]
    assert "multi-detect" not in configure("suricata", make_feed(Delivery.PORT), "eth0").text


def test_home_is_made_of_prefixes_and_private_ranges_where_it_is_not_known() -> None:
    def home(**more: object) -> str:
        feed = make_feed(Delivery.PORT, **more)
        return str(suricata(feed)["vars"]["address-groups"]["HOME_NET"])

    assert home() == "[10.0.0.1/32,10.0.0.2/31,fd00::1/128]"
    assert home(addresses=(IPAddress("203.0.113.5"),)) == "[203.0.113.5/32]"
    unknown = home(unknown=("db",), addresses=(IPAddress("203.0.113.5"),))
    assert unknown.startswith("[10.0.0.0/8,")
    assert "203.0.113.5/32" in unknown
    many = tuple(IPAddress(f"203.0.{n}.1") for n in range(100))
    assert "203.0" not in home(addresses=many)
    assert "    [fd00::1]/128," in zeek(make_feed(Delivery.PORT))


WARNINGS = [
    ({"cut": (("head", 128),)}, "session head cuts its copies to 128 bytes"),
    ({"one_way": ("half",)}, "session half copies one direction only"),
    ({"capped": ("some",)}, "session some has a rate cap"),
    ({"filtered": (("some", "web"),)}, "session some copies only what filter web accepts"),
    ({"exclusive": ("first",)}, "session first is exclusive"),
    ({"longest": 1400}, "frames of more than 1400 bytes do not fit the path"),
    ({"shared": ("soc",)}, "the sensor also gets the copies of soc"),
    ({"unknown": ("db",)}, "no addresses of db"),
    ({"networks": (ReceivedNetwork(LAN, None),)}, "no session delivers to this collector now"),
]


@pytest.mark.parametrize("sensor", ["suricata", "zeek"])
@pytest.mark.parametrize(("more", "words"), WARNINGS)
def test_what_a_sensor_will_miss_is_a_note_and_in_the_text(
    sensor: str, more: dict[str, object], words: str
) -> None:
    made = configure(sensor, make_feed(Delivery.VXLAN, **more), "eth0")  # type: ignore[arg-type]
    [note] = [note for note in made.notes if words in note]
    assert f"# WARNING: {note}" in made.text
    assert not any(words in n for n in configure(sensor, make_feed(Delivery.VXLAN), "eth0").notes)


def test_suricata_is_told_of_sessions_that_copy_one_direction() -> None:
    assert suricata(make_feed(Delivery.PORT, one_way=("half",)))["stream"]["async-oneside"] is True


def test_what_a_program_cannot_do_is_said() -> None:
    mixed = (ReceivedNetwork(LAN, None, ("web",)), ReceivedNetwork(DMZ, None, ("web",)))
    cases = {
        ("suricata", Delivery.ERSPAN3, UNTAGGED): "does not decode ERSPAN III",
        ("suricata", Delivery.VXLAN, mixed): "never by the key of a tunnel",
        ("zeek", Delivery.PORT, TAGGED): "Zeek 8.0 and newer only",
        ("zeek", Delivery.PORT, mixed): "give the collector tenant_tag `auto`",
    }
    for (sensor, delivery, networks), words in cases.items():
        notes = configure(sensor, make_feed(delivery, networks), "eth0").notes
        assert any(words in note for note in notes), (sensor, delivery)
    assert configure("zeek", make_feed(Delivery.ERSPAN3), "eth0").notes == ()


def test_zeek_keeps_connections_apart_by_tag_and_opens_the_tunnel() -> None:
    tagged = zeek(make_feed(Delivery.VXLAN, TAGGED))
    assert "@load frameworks/conn_key/vlan_fivetuple\n" in tagged
    assert "redef PacketAnalyzer::VXLAN::vxlan_ports += { 4789/udp };" in tagged
    assert "redef ignore_checksums = T;" in tagged
    assert "redef CommunityID::seed = 0;" in tagged
    plain = zeek(make_feed(Delivery.GENEVE))
    assert "vlan_fivetuple" not in plain
    assert "redef PacketAnalyzer::Geneve::geneve_ports += { 6081/udp };" in plain


@pytest.mark.parametrize("delivery", Delivery)
@pytest.mark.parametrize("networks", [TAGGED, UNTAGGED], ids=["tagged", "plain"])
def test_every_line_of_a_zeek_script_is_a_comment_or_a_whole_statement(
    delivery: Delivery, networks: tuple[ReceivedNetwork, ...]
) -> None:
    script = re.sub(r"\{\n.*?\n\}", "{}", zeek(make_feed(delivery, networks)), flags=re.DOTALL)
    for line in script.splitlines():
        assert re.fullmatch(r"|#.*|@load [a-z/_-]+|redef [\w:]+ \+?= .+;", line), line


def test_the_api_gives_text_and_notes(client: FlaskClient) -> None:
    place = "/v1/collectors/ids/sensor-config"
    create(client, packet_length=128)
    found = client.get(f"{place}?for=suricata&interface=mon0").get_json()
    assert set(found) == {"for", "text", "notes"}
    assert found["for"] == "suricata"
    assert "  - interface: mon0\n" in found["text"]
    assert any("cuts its copies to 128 bytes" in note for note in found["notes"])
    problem(client.get(place), 422, "invalid-value")
    problem(client.get(f"{place}?for=snort"), 422, "invalid-value")
    problem(client.get(f"{place}?for=zeek&interface=a%0Ab"), 422, "invalid-value")
    problem(client.get("/v1/collectors/none/sensor-config?for=zeek"), 404, "not-found")


def test_the_command_prints_the_text_for_a_file_and_the_notes_beside_it(
    run: Run, fake: FakeReconciler
) -> None:
    fill_red(run)
    done = run("collector", "sensor-config", "ids", "--for", "suricata", "--interface", "mon0")
    assert done.exit_code == 0
    assert done.stdout.startswith("%YAML 1.1\n---\n# Suricata 7 for collector ids of red")
    assert yaml.safe_load(done.stdout)["af-packet"][0]["interface"] == "mon0"
    assert done.stderr.startswith("cloudtap: note: the inventory has no addresses of web-2")
    shown = run("collector", "sensor-config", "ids", "--for", "zeek", "-o", "json")
    assert json.loads(shown.stdout)["for"] == "zeek"
    assert "snort" in failed(run("collector", "sensor-config", "ids", "--for", "snort"), 2)
