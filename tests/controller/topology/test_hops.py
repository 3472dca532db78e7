"""What bridges and databases report of ports becomes hops; what was reported last counts."""

from __future__ import annotations

from dataclasses import replace

from controller.southbound import LOCAL_PORT, PortChange, PortReason, SwitchPort
from controller.southbound.ovsdb import BridgeRow, Device, InterfaceRow, OvsdbSnapshot
from controller.southbound.ovsdb.device import read_device
from controller.topology.hops import Hops
from flows.model import Datapath, Dpid, Hop, Ofport, Placement, Setting

S1 = Dpid(1)
AT = Placement(S1, Ofport(5))
BRIDGE = SwitchPort(LOCAL_PORT, "s1", True)
PLAIN, CLOSED = (
    SwitchPort(5, "eth5", True),
    SwitchPort(5, "eth5", True, frozenset([Setting.NO_FORWARD])),
)


def snapshot(device: Device, *, is_restoring: bool = False) -> OvsdbSnapshot:
    bridge = BridgeRow(S1, "s1", "secure", "netdev", is_restoring=is_restoring)
    return OvsdbSnapshot(
        (bridge,), (InterfaceRow(S1, "s1", "eth5", ofport=Ofport(5), device=device),)
    )


def test_a_bridge_without_a_database_reports_settings_and_nothing_else() -> None:
    hops = Hops()
    assert hops.report_ports(S1, [BRIDGE, CLOSED])
    expected = Hop("s1", "eth5", settings=frozenset([Setting.NO_FORWARD]), is_reported=False)
    assert hops.known() == {AT: expected}


def test_both_reports_make_one_hop_and_equal_reports_change_nothing() -> None:
    hops = Hops()
    device = Device(mtu=1500, takes_any_length=False, rate_kbps=9000, is_protected=True)
    assert hops.report_interfaces(snapshot(device))
    assert hops.report_port(S1, PortChange(PortReason.MODIFIED, CLOSED))
    settings = frozenset([Setting.NO_FORWARD, Setting.PROTECTED])
    known = hops.known()
    assert known == {AT: Hop("s1", "eth5", 1500, 1500, 9000, settings)}
    assert not hops.report_port(S1, PortChange(PortReason.MODIFIED, CLOSED))
    assert not hops.report_interfaces(snapshot(device))
    assert hops.known() is known
    assert hops.report_port(S1, PortChange(PortReason.MODIFIED, PLAIN))
    assert hops.known()[AT].settings == {Setting.PROTECTED}


def test_a_switch_that_waits_for_a_restore_of_flows_is_known_at_all_its_ports() -> None:
    hops = Hops()
    hops.report_interfaces(snapshot(Device(), is_restoring=True))
    assert Setting.RESTORING in hops.known()[AT].settings
    assert hops.report_interfaces(snapshot(Device()))
    assert hops.known()[AT].settings == frozenset()


def test_a_port_that_is_gone_is_forgotten() -> None:
    hops = Hops()
    hops.report_ports(S1, [BRIDGE, PLAIN])
    assert hops.report_port(S1, PortChange(PortReason.DELETED, PLAIN))
    assert hops.known() == {}


def test_the_device_of_a_record() -> None:
    veth = {"driver": "veth", "mtu": 1500, "speed": 10_000_000_000}
    assert read_device(veth) == Device(1500, takes_any_length=False, is_virtual=True)
    assert read_device(veth | {"driver": "tun"}).takes_any_length
    assert read_device({"type": "dpdkvhostuser", "mtu": 1500, "driver": "x"}).takes_any_length
    assert read_device({"tree_states": ["blocking"]}).is_blocked
    assert not read_device({"tree_states": ["forwarding", "Forwarding"]}).is_blocked


def test_rates_that_limit_copies() -> None:
    def rate(**record: object) -> int | None:
        return read_device({"driver": "veth", "speed": 10_000_000_000, **record}).rate_kbps

    htb = {"type": "linux-htb", "max-rate": "10000000"}
    assert rate() is None
    assert rate(qos=htb) == 9000
    assert rate(qos=htb | {"queue": "5000000"}) == 4500
    assert rate(qos={"type": "linux-htb"}, speed=None) == 90_000, "its default is 100 Mbit/s"
    assert rate(qos={"type": "egress-policer", "cir": "1250000"}) == 9000
    assert rate(qos={"type": "linux-fq_codel", "max-rate": "1"}) is None
    assert rate(qos=htb | {"max-rate": "x" * 40}) == 9_000_000, "as Open vSwitch reads it: none"
    assert rate(driver="e1000e", speed=100_000_000) == 70_000
    assert rate(driver="e1000e", speed=1_000_000_000) == 700_000
    assert rate(driver="e1000e", speed=10_000_000_000) is None
    assert rate(driver="tun", speed=10_000_000) is None, "an old kernel says so of every tun device"
    assert rate(qos=htb | {"max-rate": "9" * 19}) is None, "no meter has such a rate"
    assert rate(qos={"type": "egress-policer", "cir": "9" * 19}) is None


def test_the_datapaths_of_bridges_that_databases_report() -> None:
    kinds = {Dpid(1): "", Dpid(2): "netdev", Dpid(3): "system", Dpid(4): "dummy"}
    reported = OvsdbSnapshot(
        tuple(BridgeRow(dpid, f"s{dpid}", "secure", kind) for dpid, kind in kinds.items())
    )
    hops, wanted = Hops(), {Dpid(n): {1} for n in (1, 2, 4, 5)}
    assert hops.datapaths(wanted) == {}
    assert hops.report_interfaces(reported)
    assert hops.datapaths(wanted) == {1: Datapath.KERNEL, 2: Datapath.USERSPACE}
    made_anew = tuple(replace(row, datapath_type="netdev") for row in reported.bridges)
    assert hops.report_interfaces(OvsdbSnapshot(made_anew))
    assert hops.datapaths(wanted)[Dpid(1)] is Datapath.USERSPACE
