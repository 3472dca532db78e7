"""The same application on ryu and on os-ken, against real switches."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller import runtime
from tests.ovs.lab import Lab, vsctl
from tests.ovs.open_vswitch import pid_of
from tests.ovs.runtime_app import BARRIER
from tests.ovs.runtime_process import Authority, RuntimeProcess

PORT = 6653
BARRIER_REPLY, ERROR = 21, 1


@pytest.fixture(params=["ryu", "os-ken"])
def backend(request: pytest.FixtureRequest) -> str:
    """The name of the runtime."""
    return str(request.param)


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    """A certificate authority that this Open vSwitch trusts and has a certificate of."""
    made = Authority(tmp_path, "ca")
    certificate, key = made.issue("switch")
    vsctl("set-ssl", key, certificate, str(made.certificate))
    yield made
    vsctl("del-ssl")


def flows(bridge: str) -> str:
    """The flows that the switch reports."""
    return subprocess.run(
        ["ovs-ofctl", "-O", "OpenFlow13", "dump-flows", bridge],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def connect(lab: Lab, controller: RuntimeProcess, *names: str, scheme: str = "tcp") -> list[int]:
    """Add bridges with this controller and wait until they are connected; returns datapath ids."""
    controller.wait_for("started")
    dpids = []
    for name in names:
        lab.add_bridge(name)
        vsctl(
            "set-controller",
            name,
            f"{scheme}:127.0.0.1:{PORT}",
            "--",
            "set",
            "controller",
            name,
            "max_backoff=1000",
        )
        dpids.append(lab.dpid(name))
    for dpid in dpids:
        controller.wait_for("connected", dpid=dpid)
    return dpids


def test_any_number_of_switches_connects_over_tls(
    lab: Lab, backend: str, authority: Authority
) -> None:
    certificate, key = authority.issue("controller")
    with RuntimeProcess(
        backend, certificate=certificate, private_key=key, ca=str(authority.certificate)
    ) as controller:
        dpids = connect(lab, controller, "s1", "s2", "s3", scheme="ssl")

        for dpid in dpids:
            assert controller.wait_for("sent", accepted=True)
            controller.wait_for("raw", dpid=dpid, kind=BARRIER_REPLY)


def test_a_switch_with_a_certificate_of_somebody_else_stays_out(
    lab: Lab, backend: str, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other", "stranger")
    certificate, key = authority.issue("controller")
    with RuntimeProcess(
        backend, certificate=certificate, private_key=key, ca=str(stranger.certificate)
    ) as controller:
        controller.wait_for("started")
        lab.add_bridge("s1", controller=f"ssl:127.0.0.1:{PORT}")
        controller.wait_for_log("TLS handshake failed")

        assert not [e for e in controller.events if e["event"] == "connected"]


def test_answers_to_own_requests_arrive_as_bytes(lab: Lab, backend: str) -> None:
    with RuntimeProcess(backend) as controller:
        [dpid] = connect(lab, controller, "s1")
        controller.wait_for("raw", dpid=dpid, kind=BARRIER_REPLY)
        answers = [e["message"] for e in controller.wait_for("raw")]

    # the switch refuses the request that it does not know, and has done all before it
    refused = struct.pack(
        "!BBHIHHBBHI", 4, ERROR, 20, runtime.own_xid(2), 1, 1, 4, 99, 8, 0xC7000002
    )
    assert answers == [refused.hex(), BARRIER.replace(b"\x14", b"\x15", 1).hex()]
    assert flows("s1").count("cookie=0xc10d") == 1


def test_a_failing_handler_is_reported_and_the_next_event_is_handled(
    lab: Lab, backend: str
) -> None:
    with RuntimeProcess(backend) as controller:
        [dpid] = connect(lab, controller, "s1")
        controller.wait_for("handler error", dpid=dpid, what="raw callback fails")
        for name in ("boom", "bang"):
            vsctl("add-port", "s1", name, "--", "set", "interface", name, "type=internal")
            controller.wait_for("handler error", dpid=dpid, what=f"cannot handle {name}")
        assert controller.end(signal.SIGTERM) == 0

        assert controller.wait_for("closed")[0]["handler_errors"] >= 3
        assert "handler failed" in controller.log()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly_and_flows_stay(
    lab: Lab, backend: str, number: signal.Signals
) -> None:
    with RuntimeProcess(backend, api=["127.0.0.1", 9470]) as controller:
        dpids = connect(lab, controller, "s1", "s2")
        for dpid in dpids:
            controller.wait_for("raw", dpid=dpid, kind=BARRIER_REPLY)

        assert controller.end(number) == 0, controller.seen()
        controller.wait_for("closed")
        assert "Traceback" not in controller.errors()
    for bridge in ("s1", "s2"):
        assert "cookie=0xc10d" in flows(bridge)


def test_a_hangup_ends_nothing_and_is_told_to_who_reads_files(lab: Lab, backend: str) -> None:
    with RuntimeProcess(backend) as controller:
        connect(lab, controller, "s1")
        controller.process.send_signal(signal.SIGHUP)
        controller.wait_for_log("SIGHUP received")
        controller.wait_for("hangup")
        connect(lab, controller, "s2")
        assert controller.end(signal.SIGTERM) == 0, controller.seen()


def test_a_signal_before_any_switch_ends_it_cleanly(backend: str) -> None:
    with RuntimeProcess(backend) as controller:
        controller.wait_for("started")
        assert controller.end(signal.SIGTERM) == 0, controller.seen()


def test_a_switch_that_leaves_is_noticed_and_may_come_back(lab: Lab, backend: str) -> None:
    with RuntimeProcess(backend, echo_interval=3600) as controller:
        [dpid] = connect(lab, controller, "s1")
        vsctl("del-controller", "s1")
        controller.wait_for("gone", dpid=dpid)
        vsctl("set-controller", "s1", f"tcp:127.0.0.1:{PORT}")
        controller.wait_for("connected", count=2, dpid=dpid)


def test_a_switch_that_falls_silent_is_noticed(lab: Lab, backend: str) -> None:
    with RuntimeProcess(backend, echo_interval=0.2, echo_misses=2) as controller:
        [dpid] = connect(lab, controller, "s1")
        daemon = pid_of("ovs-vswitchd")
        os.kill(daemon, signal.SIGSTOP)
        try:
            controller.wait_for("gone", dpid=dpid)
        finally:
            os.kill(daemon, signal.SIGCONT)
        controller.wait_for("connected", count=2, dpid=dpid)


def test_a_switch_with_openflow_1_0_only_is_told_what_to_change(lab: Lab, backend: str) -> None:
    with RuntimeProcess(backend) as controller:
        controller.wait_for("started")
        lab.add_bridge("s1")
        vsctl(
            "set",
            "bridge",
            "s1",
            "protocols=OpenFlow10",
            "--",
            "set-controller",
            "s1",
            f"tcp:127.0.0.1:{PORT}",
        )
        [refused, *_] = controller.wait_for("refused")

        assert "does not speak OpenFlow 1.3" in refused["sentence"]
        assert "protocols" in refused["sentence"]
        vsctl("set", "bridge", "s1", "protocols=OpenFlow13")
        controller.wait_for("connected", dpid=lab.dpid("s1"))
        assert "Traceback" not in controller.errors()


@pytest.mark.parametrize("port", [PORT, 9470])
def test_a_port_in_use_is_one_sentence_and_status_1(backend: str, port: int) -> None:
    with (
        socket.create_server(("127.0.0.1", port)),
        RuntimeProcess(backend, api=["127.0.0.1", 9470]) as controller,
    ):
        assert controller.end() == 1, controller.seen()
        assert f"cannot listen on 127.0.0.1 port {port}: the port is in use" in controller.errors()
        assert "Traceback" not in controller.errors()


def test_a_second_controller_cannot_share_the_port(lab: Lab, backend: str) -> None:
    with RuntimeProcess(backend) as first:
        connect(lab, first, "s1")
        with RuntimeProcess(backend) as second:
            assert second.end() == 1, second.seen()


def test_a_missing_certificate_is_one_sentence_and_status_1(backend: str) -> None:
    with RuntimeProcess(backend, certificate="/none.pem", private_key="/none.key") as controller:
        assert controller.end() == 1, controller.seen()
        assert "OpenFlow over TLS cannot start: No such file" in controller.errors()
        assert "Traceback" not in controller.errors()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"certificate": "c.pem"}, "cloudtap: OpenFlow over TLS cannot start: certificate and"),
        ({"fail": "the inventory is empty"}, "cloudtap: the inventory is empty\n"),
    ],
    ids=["raised in the constructor", "told by fail()"],
)
def test_an_application_that_cannot_run_says_one_sentence(
    backend: str, settings: dict[str, str], sentence: str
) -> None:
    with RuntimeProcess(backend, **settings) as controller:
        assert controller.end() == 1, controller.seen()
        assert sentence in controller.errors()
        assert "Traceback" not in controller.errors()


def test_flags_of_the_command_line_win(lab: Lab, backend: str) -> None:
    with RuntimeProcess(
        backend, f"--ofp-tcp-listen-port={PORT}", listen_port=PORT + 1
    ) as controller:
        connect(lab, controller, "s1")


def test_the_api_answers_while_switches_are_served(lab: Lab, backend: str) -> None:
    with RuntimeProcess(backend, api=["127.0.0.1", 9470]) as controller:
        connect(lab, controller, "s1", "s2")
        for path in ("/v1/one", "/v1/two"):
            with urllib.request.urlopen(f"http://127.0.0.1:9470{path}", timeout=60) as answer:
                assert answer.read().decode() == f"{backend} {path}"
