"""Certificates, CA and token are replaced while the controller runs, as the page tells it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.lab.tutorial import read_steps
from tests.ovs.controller_process import DEADLINE_S, NOBODY, ControllerProcess, on_both_runtimes
from tests.ovs.lab import Lab, vsctl
from tests.ovs.runtime_process import Authority
from tests.ovs.small_cloud import INVENTORY, PORTS, make_collectors
from tests.ovs.waiting import wait_for

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "certificates.md"
SSL = "ssl:127.0.0.1:6653"
TOKEN = "old-" + 20 * "t"
RENEWED, REFUSED = "changed files used", "TLS handshake failed"
CALL_EVERY = 300
"""Looks between two calls of a bridge: by itself it retries every 8 s only."""


@dataclass
class Host:
    """A hypervisor whose only bridge is s1, and the folder of the controller's files."""

    folder: Path
    controller: ControllerProcess

    def trust(self, certificate: tuple[str, str], *authorities: Authority) -> None:
        """Have Open vSwitch use this certificate and trust these authorities."""
        known = self.folder / f"known-{'-'.join(a.certificate.stem for a in authorities)}.pem"
        known.write_bytes(b"".join(a.certificate.read_bytes() for a in authorities))
        vsctl("set-ssl", certificate[1], certificate[0], str(known))

    def leave(self) -> None:
        """End the connection of the bridge, which keeps its flows."""
        vsctl("set-controller", "s1", NOBODY)
        wait_for(lambda: self.is_connected(), lambda there: not there, DEADLINE_S)

    def is_connected(self) -> bool:
        """Whether the bridge is connected."""
        return bool(self.controller.bridge("s1").get("connected"))

    def come(self, until: Callable[[], bool] | None = None) -> None:
        """Have the bridge connect, until it is connected, or something else is seen."""
        looks, is_there = 0, until or self.is_connected

        def look() -> bool:
            nonlocal looks
            if looks % CALL_EVERY == 0:
                vsctl("set-controller", "s1", NOBODY)
                vsctl("set-controller", "s1", SSL)
            looks += 1
            return is_there()

        wait_for(look, bool, DEADLINE_S)


class Site:
    """Two authorities, certificates of both, and the files of the controller in ``etc``."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.etc, self.fresh = folder, folder / "etc", folder / "new"
        self.old, self.new = Authority(folder, "old-ca"), Authority(folder, "new-ca")
        self.etc.mkdir()
        self.fresh.mkdir()
        for place, authority in ((self.etc, self.old), (self.fresh, self.new)):
            certificate, key = map(Path, authority.issue(f"controller-{place.name}"))
            certificate.rename(place / "controller.pem")
            key.rename(place / "controller.key")
            copy(authority.certificate, self.fresh / authority.certificate.name)
        copy(self.old.certificate, self.etc / "ca.pem")
        (self.etc / "token").touch(mode=0o600)
        (self.etc / "token").write_text(TOKEN)
        self.settings = {
            "openflow__certificate": str(self.etc / "controller.pem"),
            "openflow__private_key": str(self.etc / "controller.key"),
            "openflow__ca": str(self.etc / "ca.pem"),
            "api__token_file": str(self.etc / "token"),
        }

    def certificates_of_host(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Certificate and key of one name, signed by the old authority, and by the new one."""
        (self.folder / "old").mkdir()
        files = map(Path, self.old.issue("hv1"))
        certificate, key = (str(file.rename(self.folder / "old" / file.name)) for file in files)
        return (certificate, key), self.new.issue("hv1")

    def type(self, title: str, block: int = 0) -> None:
        """Type the commands of one block of a section of the page, with the folder of the test."""
        section = PAGE.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
        steps = read_steps(f"```{section.split('```')[2 * block + 1]}```\n")
        assert steps, section
        for step in steps:
            command = step.command.replace("/etc/cloudtap", str(self.etc))
            subprocess.run(["bash", "-c", command], cwd=self.folder, check=True)


def copy(source: Path, target: Path) -> None:
    """Copy a file that was made already; whoever reads the target may see half of it."""
    target.write_bytes(source.read_bytes())


def issuer_of(port: int) -> str:
    """Who has signed the certificate that a server shows."""
    shown = subprocess.run(
        f"openssl s_client -connect 127.0.0.1:{port} </dev/null | openssl x509 -noout -issuer",
        shell=True, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return shown.stdout


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def host(lab: Lab, site: Site, runtime: str) -> Iterator[Host]:
    """The controller, which has been started with the files of the site, and a bridge."""
    lab.add_bridge("s1", dpid=0x51)
    lab.add_ports("s1", PORTS, PORTS)
    with ControllerProcess(site.folder, INVENTORY, runtime) as controller:
        controller.api.headers["Authorization"] = f"Bearer {TOKEN}"
        controller.start(**site.settings)
        yield Host(site.folder, controller)
        assert "Traceback" not in controller.log()
    vsctl("del-ssl")


@on_both_runtimes
def test_certificate_and_ca_for_switches_are_replaced_while_the_controller_runs(
    host: Host, site: Site
) -> None:
    controller, (first, second) = host.controller, site.certificates_of_host()
    host.trust(first, site.old)
    host.come()
    make_collectors(controller)
    controller.create_session("red", "one", ["web"], "ids")
    controller.wait_for_session("one")
    assert controller.status()["problems"] == []

    site.type("The CA of switches")
    host.trust(first, site.old, site.new)
    check_a_certificate_without_its_key(controller, site)
    site.type("The certificate of the controller, for switches")
    wait_for(lambda: issuer_of(6653), lambda seen: "new-ca" in seen, DEADLINE_S)
    for certificate in (second, first):
        host.leave()
        host.trust(certificate, site.old, site.new)
        host.come()
        controller.wait_for_bridge("s1")

    # the old authority is taken away: who is connected stays, and cannot come again
    renewals = controller.log().count(RENEWED)
    site.type("The CA of switches", 1)
    wait_for(lambda: controller.log().count(RENEWED), lambda seen: seen > renewals, DEADLINE_S)
    controller.create_session("red", "two", ["db"], "soc")
    controller.wait_for_session("two")
    assert host.is_connected()
    host.leave()
    failures = controller.log().count(REFUSED)
    host.come(lambda: controller.log().count(REFUSED) > failures)
    assert not host.is_connected()
    host.trust(second, site.new)
    host.come()
    controller.wait_for_session("two")


@on_both_runtimes
def test_a_hangup_has_new_certificates_and_inventory_used_and_leaves_connections(
    host: Host, site: Site
) -> None:
    """An inventory that is written in place waits for it; certificates are looked at anyway."""
    controller, (first, second) = host.controller, site.certificates_of_host()
    controller.end()
    controller.start(
        **site.settings, inventory__vanish_limit="0.2", inventory__settle_seconds="600"
    )
    host.trust(first, site.old, site.new)
    host.come()
    site.type("The certificate of the controller, for switches")
    lines = INVENTORY.splitlines(keepends=True)
    controller.inventory.write_text("".join(line for line in lines if "blue-db" not in line))
    controller.wait_for_problem("send the controller a SIGHUP")
    assert controller.api.get("/v1/ports/blue-db").status_code == 200

    os.kill(controller.pid, signal.SIGHUP)

    wait_for(controller.log, lambda log: "SIGHUP received" in log, DEADLINE_S)
    wait_for(lambda: controller.api.get("/v1/ports/blue-db").status_code, lambda seen: seen == 404)
    wait_for(lambda: issuer_of(6653), lambda seen: "new-ca" in seen, DEADLINE_S)
    assert host.is_connected() and "bridge disconnected" not in controller.log()
    copy(site.fresh / "new-ca.pem", site.etc / "ca.pem")
    os.kill(controller.pid, signal.SIGHUP)
    wait_for(controller.log, lambda log: log.count(RENEWED) >= 2, DEADLINE_S)
    host.leave()
    host.trust(second, site.new)
    host.come()


def check_a_certificate_without_its_key(controller: ControllerProcess, site: Site) -> None:
    """The old one stays in use, and that is said as long as it lasts."""
    certificate = site.etc / "controller.pem"
    before = certificate.read_bytes()
    copy(site.fresh / "controller.pem", certificate)
    problem = controller.wait_for_problem("the old certificate and CA are still used")
    assert f"{site.etc / 'controller.key'} is that of another certificate" in problem
    assert "old-ca" in issuer_of(6653)
    certificate.write_bytes(before)
    wait_for(lambda: controller.status()["problems"], lambda seen: not seen, DEADLINE_S)


@on_both_runtimes
def test_the_token_is_replaced_while_the_controller_runs(host: Host, site: Site) -> None:
    controller, file = host.controller, site.etc / "token"
    file.chmod(0o644)
    problem = controller.wait_for_problem("the old token is still used")
    assert f"type `chmod go= {file}`" in problem
    site.type("The token")
    wait_for(
        lambda: controller.api.get("/v1/status").status_code, lambda seen: seen == 401, DEADLINE_S
    )
    controller.api.headers["Authorization"] = f"Bearer {file.read_text().strip()}"
    wait_for(controller.is_answering, bool, DEADLINE_S)
    assert controller.status()["problems"] == []


def give_controller(site: Site, valid: timedelta) -> None:
    """Replace the controller's own certificate by one that is valid for so long from now on."""
    certificate, key = site.old.issue("controller-again", valid=valid)
    Path(key).rename(site.etc / "controller.key")
    Path(certificate).rename(site.etc / "controller.pem")


def said_of(host: Host, words: str) -> list[str]:
    """The reasons of the bridge that have these words."""
    return [reason for reason in host.controller.bridge("s1")["reasons"] if words in reason]


@on_both_runtimes
def test_certificates_that_run_out_are_said_with_whose_they_are(host: Host, site: Site) -> None:
    controller, day = host.controller, timedelta(days=1)
    long = site.old.issue("hv1")
    host.trust(long, site.old)
    host.come()
    controller.wait_for_bridge("s1")

    # the controller's own: soon, and then it has
    give_controller(site, day)
    said = controller.wait_for_problem("runs out at")
    assert "`certificate` of [openflow]" in said and str(site.etc / "controller.pem") in said
    give_controller(site, -day / 24)
    assert "switches refuse it" in controller.wait_for_problem("ran out at")
    lines = controller.api.get("/metrics").text.splitlines()
    metric = 'cloudtap_certificate_expiry_timestamp_seconds{file="certificate",section="openflow"}'
    [ends] = [float(line.split()[-1]) for line in lines if line.startswith(metric)]
    assert ends < datetime.now(UTC).timestamp()
    assert host.is_connected()
    host.leave()
    refused = "refuses the certificate of the controller"
    host.come(lambda: bool(said_of(host, refused)))
    assert "expired" in said_of(host, refused)[0]
    assert refused in controller.wait_for_problem(refused)
    give_controller(site, 365 * day)
    host.come()
    wait_for(lambda: controller.status()["problems"], lambda seen: not seen, DEADLINE_S)

    # that of the switch: soon, and then it has
    host.leave()
    host.trust(site.old.issue("hv1", valid=day), site.old)
    host.come()
    controller.wait_for_bridge("s1")
    assert "the host of bridge 's1'" in controller.wait_for_problem("runs out at")
    assert controller.bridge("s1")["state"] == "active"
    assert len(said_of(host, "runs out at")) == 1
    host.leave()
    host.trust(site.old.issue("hv1", valid=-day / 24), site.old)
    host.come(lambda: bool(said_of(host, "its certificate is not accepted")))
    assert "certificate has expired" in said_of(host, "its certificate is not accepted")[0]
    controller.wait_for_problem("its certificate is not accepted (certificate has expired)")
    host.trust(site.old.issue("hv1"), site.old)
    host.come()
    wait_for(lambda: controller.status()["problems"], lambda seen: not seen, DEADLINE_S)
