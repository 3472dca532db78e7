"""A real Suricata accepts every configuration that cloudtap generates."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from scapy.layers.l2 import Dot1Q, Ether
from scapy.utils import wrpcap

from controller.sensors import configure
from flows.model import Delivery
from tests.ovs import suricata
from tests.ovs.suricata import STOCK, NoSuricata, loads, program
from tests.sensor_feeds import TAGGED, UNTAGGED, make_feed, with_rules_for_each_network


@pytest.mark.parametrize("delivery", Delivery)
def test_a_configuration_loads_by_itself_and_after_the_one_of_the_package(
    delivery: Delivery, tmp_path: Path
) -> None:
    for number, networks in enumerate((TAGGED, UNTAGGED)):
        file = tmp_path / f"{number}.yaml"
        made = configure("suricata", make_feed(delivery, networks, one_way=("half",)), "eth0")
        file.write_text(made.text)
        assert loads(tmp_path, "-c", str(file)) == ""
        assert loads(tmp_path, "-c", str(STOCK), "--include", str(file)) == ""


def test_a_configuration_that_is_wrong_does_not_load(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    made = configure("suricata", make_feed(Delivery.PORT), "eth0")
    file.write_text(made.text.replace('HOME_NET: "[', 'HOME_NET: "[nowhere,'))
    assert "nowhere" in loads(tmp_path, "-c", str(file))


def test_the_prepared_rules_for_each_network_work_once_the_signs_are_gone(tmp_path: Path) -> None:
    made = configure("suricata", make_feed(Delivery.PORT, TAGGED), "eth0")
    text = with_rules_for_each_network(made.text)
    for number, name in enumerate(("lan", "dmz"), 1):
        rules = tmp_path / f"{name}.rules"
        rules.write_text(f'alert ip any any -> any any (msg:"{name}"; sid:{number};)\n')
        text = text.replace(f"yaml: red-{name}.yaml", f"yaml: {tmp_path}/red-{name}.yaml")
        tenant = f"%YAML 1.1\n---\nrule-files: [{rules}]\n"
        (tmp_path / f"red-{name}.yaml").write_text(tenant)
    file, packets = tmp_path / "all.yaml", tmp_path / "packets.pcap"
    file.write_text(text)
    ping = bytes.fromhex("45000020000100004001662d0a0000010a000002") + bytes.fromhex(
        "0800f7fe00010000"
    ).ljust(12, b"\0")
    head = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    wrpcap(str(packets), [head / Dot1Q(vlan=tag, type=0x800) / ping for tag in (101, 102, 103)])
    command = [program(), "--runmode", "single", "-c", str(file), "-r", str(packets)]
    done = subprocess.run([*command, "-l", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "eve.json").read_text().splitlines()
    alerts = [line for line in lines if '"event_type":"alert"' in line]
    seen = {
        (re.findall('"signature":"([a-z]+)"', a)[0], re.findall('"tenant_id":(\\d+)', a)[0])
        for a in alerts
    }
    assert seen == {("lan", "101"), ("dmz", "102")}


def test_without_suricata_the_tests_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suricata.shutil, "which", lambda name, path: None)
    with pytest.raises(NoSuricata, match="tools/setup --tests"):
        program()
    monkeypatch.setattr(suricata.shutil, "which", lambda name, path: "/bin/echo")
    with pytest.raises(NoSuricata, match="for Suricata 7"):
        program()
