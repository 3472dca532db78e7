"""The command line of remote sensors, pools and rate caps."""

from __future__ import annotations

import pytest

from tests.controller.cli.test_cli import Run, failed, fake, fill_red, good, run, shown, store, url

__all__ = ["fake", "run", "store", "url"]

RED = ("--tenant", "red")
SOC = ("collector", "create", "soc", *RED, "--delivery", "vxlan", "--address", "192.0.2.9")


def lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_a_remote_collector_is_created_with_its_key(run: Run) -> None:
    made = lines(good(run(*SOC, "--vni", "7001", "--path-mtu", "1400")))

    assert made[3:] == [
        ["delivery", "vxlan"],
        ["vni", "7001"],
        ["sensors", "192.0.2.9"],
        ["path", "mtu", "1400"],
        ["tag", "auto"],
    ]
    made = lines(good(run("collector", "set", "soc", "--path-mtu", "none", "--tag", "none")))
    assert made[4:] == [["vni", "7001"], ["sensors", "192.0.2.9"], ["tag", "-"]]
    for delivery, option, word in (
        ("gre", "--key", "key"),
        ("erspan2", "--session-id", "session id"),
        ("geneve", "--vni", "vni"),
    ):
        arguments = ("collector", "create", delivery, *RED, "--delivery", delivery)
        text = good(run(*arguments, "--address", "2001:db8::9", option, "5"))
        assert f"{word} 5" in " ".join(text.split())


def test_a_pool_is_made_of_sensors_that_come_and_go(run: Run) -> None:
    create = ("collector", "create", "pool", *RED, "--delivery", "gre", "--balance", "hosts")
    two = ("--sensor", "192.0.2.9", "--sensor", "2001:db8::9")
    text = good(run(*create, *two, "--probe", "192.0.2.9=tcp://192.0.2.9:22", "--key", "7"))
    assert lines(text)[5:8] == [
        ["sensors", "192.0.2.9,", "probe", "tcp://192.0.2.9:22"],
        ["2001:db8::9"],
        ["balance", "hosts"],
    ]
    change = ("collector", "set", "pool", "--balance", "connection", "--add-sensor", "192.0.2.10")
    made = shown(run, *change, "--remove-sensor", "2001:db8::9")
    assert [s["address"] for s in made["sensors"]] == ["192.0.2.9", "192.0.2.10"]
    assert (made["sensors"][0]["probe"], made["balance"]) == ("tcp://192.0.2.9:22", "connection")
    made = shown(run, "collector", "set", "pool", "--address", "192.0.2.11", "--name", "one")
    assert [s["address"] for s in made["sensors"]] == ["192.0.2.11"]
    assert "has no sensor 'ids-1'" in failed(
        run("collector", "set", "one", "--remove-sensor", "ids-1")
    )


@pytest.mark.parametrize("option", ["--sensor", "--port", "-p", "-s"])
def test_a_tap_port_is_named_by_any_of_its_options(run: Run, option: str) -> None:
    made = shown(run, "collector", "create", "ids", *RED, option, "ids-1")

    assert [s["port"] for s in made["sensors"]] == ["ids-1"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--vni", "7"), "say where copies go: --sensor, --port or --address"),
        (("--port", "ids-1", "--vni", "7"), "delivery 'port' has no vni"),
        (("--address", "192.0.2.9"), "delivery 'port' goes to tap ports, not to addresses"),
        (("--address", "192.0.2.9", "--port", "ids-1"), "tap ports or addresses, not both"),
        (("--port", "ids-1", "--probe", "ids-2=tcp://192.0.2.1:1"), "is not SENSOR=URL with one"),
        (
            (
                *("--port", "ids-1", "--probe", "ids-1=tcp://192.0.2.1:1"),
                *("--probe", "ids-1=tcp://192.0.2.1:2"),
            ),
            "sensor 'ids-1' is given two probes",
        ),
        (("--port", "ids-1", "--probe", "ids-1"), "is not SENSOR=URL with one of the sensors"),
        (("--port", "ids-1", "--path-mtu", "big"), "'big' is neither a number nor none"),
        (("--port", "ids-1", "--path-mtu", "1400"), "path_mtu is for tunnels"),
        (("--port", "ids-1", "--delivery", "erspan"), "'erspan' is not one of 'port', 'vxlan'"),
    ],
)
def test_a_collector_that_cannot_be_is_refused_in_a_sentence(
    run: Run, arguments: tuple[str, ...], sentence: str
) -> None:
    result = run("collector", "create", "new", *RED, *arguments)

    assert result.exit_code in (1, 2) and sentence in " ".join(result.stderr.split())


def test_a_session_says_what_is_capped_and_cut(run: Run) -> None:
    good(run(*SOC, "--vni", "7001", "--tag", "none"))
    create = ("session", "create", "web", *RED, "--source", "web-1", "--collector", "soc")
    text = good(run(*create, "--max-rate", "200 mbit", "--packet-length", "128"))

    message = " ".join(text.split())
    assert "sensors vxlan 192.0.2.9 vni 7001" in message
    assert "cut to bytes 128 at most 200 mbps on each bridge" in message
    assert "longest frame 1464 bytes; longer copies are cut to 1464" in message
    change = ("session", "set", "web", "--oversize", "skip", "--max-rate")
    message = " ".join(good(run(*change, "5000 pps")).split())
    assert "at most 5000 pps on each bridge" in message
    assert "longest frame 1464 bytes; longer copies are skipped" in message
    assert "at most" not in good(run(*change, "none"))
    assert shown(run, "session", "show", "web")["max_rate"] is None
    assert "write it like '200 mbps'" in failed(run(*change, "fast"), status=2)
    assert "a rate of 0 pps is outside" in failed(run(*change, "0 pps"), status=2)


def test_a_session_to_one_tap_port_says_no_more_than_it_did(run: Run) -> None:
    fill_red(run)

    text = good(run("session", "show", "web-to-ids"))
    assert "sensors" not in text and "longest frame" not in text and "at most" not in text


@pytest.mark.parametrize("address", ["192.0.2.9", "2001:db8:1111:2222:3333:4444:5555:6666"])
def test_tables_show_remote_sensors_and_fit_80_columns(run: Run, address: str) -> None:
    arguments = ("--delivery", "erspan3", "--address", address, "--session-id", "1023")
    good(run("collector", "create", "security-operations-center", *RED, *arguments))
    good(run("collector", "create", "ids", *RED, "--sensor", "ids-1"))
    source = ("--source", "web-1", "--collector", "security-operations-center")
    good(run("session", "create", "a-session-with-a-long-name", *RED, *source))

    listed = good(run("collector", "list"))
    everything = "".join(listed.split())
    assert "ids-1" in everything and "erspan3" in everything
    if len(address) < 16:
        assert "erspan3 192.0.2.9" in listed and "session id 1023" in listed
    for text in (
        listed,
        good(run("session", "list")),
        good(run("session", "show", "a-session-with-a-long-name")),
        good(run("collector", "show", "security-operations-center")),
        good(run("status")),
    ):
        assert max(len(line) for line in text.splitlines()) <= 80, text
