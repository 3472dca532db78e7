"""Who may speak for a bridge or a port: the first one stays, others move nothing and are named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from controller.inventory import DeclaredBridge, InterfaceName, Inventory, LinkHint
from controller.inventory.values import PortHint
from controller.southbound import PortChange, PortReason, SwitchPort
from controller.southbound.ovsdb import BridgeRow, InterfaceRow, OvsdbSnapshot
from controller.topology import Placements
from flows.model import Dpid, Link, Ofport, PortId
from tests.controller.topology.test_placements import S1, S2, at, inventory, switch_ports

S3 = Dpid(3)
HOST1, HOST2 = "tcp:192.0.2.1:6640", "tcp:192.0.2.2:6640"
Ports = Mapping[str, tuple[int | None, str | None]]


def said(
    dpid: Dpid, name: str, database: str, ports: Ports, row: str = "", host: str = ""
) -> OvsdbSnapshot:
    """What one database says of one bridge; its row has a uuid of its own."""
    row = row or f"row of {name} at {database}"
    hosts = (host,) if host else ()
    bridge = BridgeRow(dpid, name, "secure", "netdev", database, row, hosts=hosts)
    interfaces = tuple(
        InterfaceRow(
            dpid, name, port, iface_id, None, None if number is None else Ofport(number),
            database=database, bridge_row=row,
        )
        for port, (number, iface_id) in ports.items()
    )  # fmt: skip
    return OvsdbSnapshot((bridge,), interfaces)


def together(*parts: OvsdbSnapshot) -> OvsdbSnapshot:
    return OvsdbSnapshot(
        tuple(sorted(row for part in parts for row in part.bridges)),
        tuple(row for part in parts for row in part.interfaces),
    )


def declaring(of: Inventory, *bridges: DeclaredBridge) -> Inventory:
    return replace(of, bridges=bridges)


WEB = {"e1": (1, "web")}


class TestASecondDatabaseThatClaimsABridge:
    def test_its_rows_move_nothing_and_rename_nothing_and_both_are_named(self) -> None:
        places = Placements()
        places.declare(inventory({"web": None, "db": None}))
        first = said(S1, "s1", HOST1, {"e1": (1, "web"), "e2": (2, "db")})
        places.report_ports(S1, switch_ports("s1", e1=1, e2=2))
        places.report_interfaces(first)
        before = places.snapshot()
        assert before.placements == {"web": at(S1, 1), "db": at(S1, 2)}
        second = said(S1, "evil", HOST2, {"e1": (1, "db"), "e2": (2, "web")})
        for order in ((first, second), (second, first)):
            places.report_interfaces(together(*order))
            snapshot = places.snapshot()
            assert snapshot.placements == before.placements
            assert places.bridge_name(S1) == "s1"
            (problem,) = snapshot.problems
            assert HOST1 in problem and HOST2 in problem and "'evil'" in problem
            assert places.doubts_of(S1) == (problem,)
            assert places.believed == first
        places.report_interfaces(first)
        assert not places.snapshot().problems and places.doubts_of(S1) == ()

    def test_a_database_that_two_targets_lead_to_is_one(self) -> None:
        places = Placements()
        places.declare(inventory({"web": None}))
        places.report_ports(S1, switch_ports("s1", e1=1))
        one = said(S1, "s1", HOST1, WEB, row="the row")
        other = said(S1, "s1", HOST2, WEB, row="the row")
        places.report_interfaces(together(one, other))
        snapshot = places.snapshot()
        assert snapshot.placements == {"web": at(S1, 1)} and not snapshot.problems

    def test_the_first_speaks_for_it_also_after_a_restart_whoever_reports_first(self) -> None:
        first = said(S1, "s1", HOST1, WEB)
        second = said(S1, "s1", HOST2, {"e1": (1, "db")})
        before = Placements()
        before.declare(inventory({"web": None, "db": None}))
        before.report_ports(S1, switch_ports("s1", e1=1))
        before.report_interfaces(first)
        expected = before.snapshot()
        after = Placements()
        after.remember(expected.records, expected.places)
        after.declare(inventory({"web": None, "db": None}))
        after.report_interfaces(second)
        after.report_ports(S1, switch_ports("s1", e1=1))
        assert after.snapshot().placements == {"web": at(S1, 1)}
        assert HOST1 in after.doubts_of(S1)[0] and "first" in after.doubts_of(S1)[0]
        after.report_interfaces(together(second, first))
        assert after.snapshot().placements == {"web": at(S1, 1)}

    def test_of_two_that_come_together_none_is_believed_until_one_is_declared(self) -> None:
        places = Placements()
        declared = inventory({"web": None, "db": None})
        places.declare(declared)
        places.report_ports(S1, switch_ports("s1", e1=1))
        both = together(said(S1, "s1", HOST1, WEB), said(S1, "s1", HOST2, {"e1": (1, "db")}))
        places.report_interfaces(both)
        assert not places.snapshot().placements
        assert "none is believed" in places.doubts_of(S1)[0]
        places.declare(declaring(declared, DeclaredBridge(S1, database=HOST2)))
        assert places.snapshot().placements == {"db": at(S1, 1)}
        places.declare(declaring(declared, DeclaredBridge(S1, database=HOST1)))
        assert places.snapshot().placements == {"web": at(S1, 1)}

    def test_a_host_whose_database_has_moved_is_believed_once_the_old_one_is_not_configured(
        self,
    ) -> None:
        configured = [HOST1, HOST2]
        places = Placements(lambda: configured)
        places.declare(inventory({"web": None}))
        places.report_ports(S1, switch_ports("s1", e1=1))
        places.report_interfaces(said(S1, "s1", HOST1, WEB, row="the row"))
        moved = said(S1, "s1", HOST2, {"e1": (1, None)}, row="the row")
        places.report_interfaces(moved)
        assert places.snapshot().problems, "the first one may come back"
        configured.remove(HOST1)
        places.report_interfaces(said(S1, "s1", HOST2, WEB, row="the row"))
        snapshot = places.snapshot()
        assert snapshot.placements == {"web": at(S1, 1)} and not snapshot.problems


class TestAPlaceThatAnotherHostClaims:
    def places(self) -> Placements:
        places = Placements()
        places.declare(inventory({"web": None}))
        places.report_ports(S1, switch_ports("s1", e1=1))
        places.report_ports(S2, switch_ports("s2", e9=9))
        self.here = said(S1, "s1", HOST1, WEB)
        self.there = said(S2, "s2", HOST2, {"e9": (9, "web")})
        places.report_interfaces(self.here)
        assert places.snapshot().placements == {"web": at(S1, 1)}
        return places

    def test_the_running_port_stays_and_the_other_place_is_named(self) -> None:
        places = self.places()
        places.report_interfaces(together(self.here, self.there))
        snapshot = places.snapshot()
        assert snapshot.placements == {"web": at(S1, 1)}
        assert snapshot.contests == {"web": (at(S2, 9),)}
        doubt = snapshot.doubts[PortId("web")]
        assert "'e1' of bridge 's1'" in doubt and "'e9' of bridge 's2'" in doubt
        places.report_interfaces(self.here)
        assert not places.snapshot().doubts

    def test_the_other_place_counts_once_the_first_is_gone(self) -> None:
        places = self.places()
        places.report_interfaces(together(self.here, self.there))
        places.snapshot()
        places.report_interfaces(together(said(S1, "s1", HOST1, {}), self.there))
        snapshot = places.snapshot()
        assert snapshot.placements == {"web": at(S2, 9)} and not snapshot.problems

    def test_it_is_not_gone_while_its_bridge_starts_again(self) -> None:
        places = self.places()
        places.report_interfaces(together(self.here, self.there))
        places.snapshot()
        places.report_ports(S1, switch_ports("s1"))
        assert not places.snapshot().placements
        again = said(S1, "s1", HOST1, {"e1": (None, "web")})
        places.report_interfaces(together(again, self.there))
        snapshot = places.snapshot()
        assert not snapshot.placements and "its database has it there still" in (
            snapshot.doubts[PortId("web")].replace("whose", "its")
        )
        places.report_ports(S1, switch_ports("s1", e1=4))
        places.report_interfaces(together(said(S1, "s1", HOST1, {"e1": (4, "web")}), self.there))
        assert places.snapshot().placements == {"web": at(S1, 4)}

    def test_it_stays_over_a_restart_whoever_reports_first(self) -> None:
        places = self.places()
        places.report_interfaces(together(self.here, self.there))
        expected = places.snapshot()
        after = Placements()
        after.remember(expected.records, expected.places)
        after.declare(inventory({"web": None}))
        after.report_interfaces(self.there)
        after.report_ports(S2, switch_ports("s2", e9=9))
        assert after.snapshot().placements == {"web": at(S1, 1)}
        after.report_interfaces(together(self.there, self.here))
        after.report_ports(S1, switch_ports("s1", e1=1))
        assert after.snapshot().placements == {"web": at(S1, 1)}

    def test_an_id_at_another_host_does_not_unplace_a_port_that_a_hint_has_placed(self) -> None:
        places = Placements()
        places.declare(inventory({"web": PortHint("s1", "e1")}))
        places.report_ports(S1, switch_ports("s1", e1=1))
        assert places.snapshot().placements == {"web": at(S1, 1)}
        places.report_ports(S2, switch_ports("s2", e9=9))
        places.report_interfaces(said(S2, "s2", HOST2, {"e9": (9, "web")}))
        snapshot = places.snapshot()
        assert snapshot.placements == {"web": at(S1, 1)} and snapshot.doubts

    def test_a_host_moves_its_own_ports(self) -> None:
        places = Placements()
        places.declare(inventory({"web": PortHint("s1", "e1")}))
        places.report_ports(S1, switch_ports("s1", e1=1, e2=2))
        places.report_interfaces(said(S1, "s1", HOST1, {"e1": (1, None), "e2": (2, None)}))
        assert places.snapshot().placements == {"web": at(S1, 1)}
        places.report_interfaces(said(S1, "s1", HOST1, {"e1": (1, None), "e2": (2, "web")}))
        assert places.snapshot().placements == {"web": at(S1, 2)}


CABLE = LinkHint(InterfaceName("s1", "x"), InterfaceName("s2", "x"))


class TestAStrangersBridge:
    @pytest.mark.parametrize("name", ["s1", "stranger"])
    @pytest.mark.parametrize("hint", [PortHint("s1", "e1"), PortHint(None, "e1")])
    def test_its_ports_unplace_and_move_nothing(self, hint: PortHint, name: str) -> None:
        places = Placements()
        places.declare(inventory({"web": hint}, (CABLE,)))
        places.report_ports(S1, switch_ports("s1", e1=1, x=9))
        places.report_ports(S2, switch_ports("s2", x=8))
        before = places.snapshot()
        assert before.placements and before.links == (Link(at(S1, 9), at(S2, 8)),)
        places.report_ports(S3, switch_ports(name, e1=1, x=9))
        during = places.snapshot()
        assert (during.placements, during.links) == (before.placements, before.links)
        assert during.places == before.places
        assert places.strangers() == {S3}

        after = Placements()
        after.remember([r for r in during.records if r.dpid != S3], during.places)
        after.declare(inventory({"web": hint}, (CABLE,)))
        after.report_ports(S3, switch_ports(name, e1=1, x=9))
        again = after.snapshot()
        assert (again.placements, again.links) == (before.placements, before.links)

    def test_a_name_means_the_bridge_that_had_it_also_while_its_port_is_gone(self) -> None:
        places = Placements()
        places.declare(inventory({"web": PortHint("s1", "e1")}, (CABLE,)))
        places.report_ports(S1, switch_ports("s1", e1=1, x=9))
        places.report_ports(S2, switch_ports("s2", x=8))
        assert places.snapshot().links
        places.report_ports(S3, switch_ports("s1", e1=1, x=9))
        for name, number in (("e1", 1), ("x", 9)):
            gone = PortChange(PortReason.DELETED, SwitchPort(number, name, False))
            places.report_port(S1, gone)
        snapshot = places.snapshot()
        assert not snapshot.placements and not snapshot.links
        places.report_ports(S1, switch_ports("s1", e1=2, x=9))
        snapshot = places.snapshot()
        assert snapshot.placements == {"web": at(S1, 2)} and snapshot.links

    def test_it_leaves_no_trace_once_it_is_gone(self) -> None:
        places = Placements()
        places.declare(inventory({"web": PortHint("s1", "e1")}))
        places.report_ports(S1, switch_ports("s1", e1=1))
        places.report_ports(S3, switch_ports("s3", e1=1))
        assert places.snapshot().placements == {"web": at(S1, 1)}
        assert set(places.bridge_names()) == {S1, S3}
        assert places.strangers() == {S3}
        assert not places.drop_stranger(S1), "a port of ours is there"
        assert places.drop_stranger(S3)
        assert set(places.bridge_names()) == {S1}
        assert not places.snapshot().problems


class TestABridgeWithAnotherDatapathId:
    @pytest.mark.parametrize("row", ["the same row", "a new row"])
    def test_the_same_row_or_name_is_the_same_bridge(self, row: str) -> None:
        places = Placements()
        places.declare(inventory({"web": PortHint("s1", "e1")}, (CABLE,)))
        places.report_ports(S1, switch_ports("s1", e1=1, x=9))
        places.report_ports(S2, switch_ports("s2", x=8))
        ports: Ports = {"e1": (1, None), "x": (9, None)}
        places.report_interfaces(said(S1, "s1", HOST1, ports, row="the same row"))
        assert places.snapshot().placements == {"web": at(S1, 1)}
        places.report_interfaces(OvsdbSnapshot())
        places.snapshot()
        places.report_interfaces(said(S3, "s1", HOST1, ports, row=row))
        places.report_ports(S3, switch_ports("s1", e1=1, x=9))
        snapshot = places.snapshot()
        assert snapshot.placements == {"web": at(S3, 1)}
        assert snapshot.links == (Link(at(S2, 8), at(S3, 9)),)
        assert not snapshot.problems
        assert places.replaced() == {S1: S3} and places.take_moves() == [{S1: S3}]
        assert places.bridge_names() == {S2: "s2", S3: "s1"}
        places.retire(S1)
        assert places.replaced() == {}

    def test_an_id_that_comes_back_is_not_waited_for(self) -> None:
        places = Placements()
        places.declare(inventory({"web": PortHint("s1", "e1")}))
        ports: Ports = {"e1": (1, None)}
        for dpid in (S1, S3, S2, S1):
            places.report_interfaces(said(dpid, "s1", HOST1, ports, row="r"))
            places.report_ports(dpid, switch_ports("s1", e1=1))
            assert places.snapshot().placements == {"web": at(dpid, 1)}
        assert places.replaced() == {S3: S1, S2: S1}

    def test_a_bridge_does_not_become_another_hosts_bridge(self) -> None:
        places = Placements()
        places.declare(inventory({"web": None, "db": None}))
        for dpid, name in ((S1, "s1"), (S2, "s2")):
            places.report_ports(dpid, switch_ports(name, e1=1))
        here = said(S1, "s1", HOST1, WEB, row="one")
        there = said(S2, "s2", HOST2, {"e1": (1, "db")}, row="two")
        places.report_interfaces(together(here, there))
        before = places.snapshot().placements
        assert before == {"web": at(S1, 1), "db": at(S2, 1)}
        places.report_interfaces(together(here, said(S1, "s2", HOST2, WEB, row="two")))
        assert places.snapshot().placements["web"] == at(S1, 1)
        assert places.replaced() == {} and places.doubts_of(S1)


class TestABridgeThatHasTheIdOfAnotherHostsBridge:
    """As after an exchange, while the database of the second bridge does not say so."""

    def places(self, second: str) -> Placements:
        """Two bridges; the first one has taken the id of the second one, whose port is this."""
        places = Placements()
        places.declare(inventory({"web": None, "db": None}))
        there = said(S2, "s2", HOST2, {second: (1, "db")}, row="two")
        for dpid in (S1, S2):
            here = said(dpid, "s1", HOST1, WEB, row="one")
            places.report_interfaces(together(here, there))
        return places

    @pytest.mark.parametrize(
        ("second", "ports"), [("e1", {"e1"}), ("e2", {"e1"}), ("e2", {"e3"}), ("e2", set())]
    )
    def test_a_connection_under_it_may_be_either_unless_its_ports_tell(
        self, second: str, ports: set[str]
    ) -> None:
        why = self.places(second).why_another(S2, ports)
        assert f"{HOST1} (bridge 's1') had datapath id 0000000000000001" in why
        assert f"0000000000000002 now, which {HOST2} (bridge 's2') has" in why

    def test_a_connection_with_the_ports_of_the_bridge_that_has_it_is_that_bridge(self) -> None:
        assert self.places("e2").why_another(S2, {"e2"}) == ""

    def test_a_connection_under_the_id_that_it_had_may_be_another_bridge(self) -> None:
        why = self.places("e2").why_another(S1, {"e2"})
        assert f"{HOST1} (bridge 's1') had" in why and f"which {HOST2} (bridge 's2') has" in why

    def test_all_is_clear_once_the_other_database_says_that_they_have_exchanged_them(self) -> None:
        places = self.places("e1")
        now = (said(S2, "s1", HOST1, WEB, row="one"), said(S1, "s2", HOST2, WEB, row="two"))
        places.report_interfaces(together(*now))
        assert places.why_another(S1, {"e1"}) == places.why_another(S2, {"e1"}) == ""
        assert places.believed == together(*now)

    def test_a_bridge_that_nobody_knew_takes_no_doubt_to_another_one(self) -> None:
        places = Placements()
        places.declare(inventory({"web": None}))
        first = said(S1, "s1", HOST1, WEB)
        places.report_interfaces(first)
        places.report_interfaces(together(first, said(S1, "evil", HOST2, WEB)))
        assert places.doubts_of(S1) and places.why_another(S1, {"e1"}) == ""


def moved(places: Placements, ids: Mapping[str, Dpid], is_seen: bool = True) -> None:
    """One transaction gives bridges these ids; each has port 1, e1, without an iface-id."""
    parts = [said(dpid, name, HOST1, {"e1": (1, None)}, row=name) for name, dpid in ids.items()]
    places.report_interfaces(together(*parts))
    if is_seen:
        for name, dpid in ids.items():
            places.report_ports(dpid, switch_ports(name, e1=1))


HINTS = {name: PortHint(f"s{name}", "e1") for name in "abc"}


class TestIdsThatMoveOnTogether:
    def places(self) -> Placements:
        places = Placements()
        places.declare(inventory(HINTS))
        for name, dpid in (("sa", S1), ("sb", S2)):
            places.report_ports(dpid, switch_ports(name, e1=1))
        moved(places, {"sa": S1, "sb": S2})
        assert places.snapshot().placements == {"a": at(S1, 1), "b": at(S2, 1)}
        return places

    @pytest.mark.parametrize("is_seen", [True, False])
    def test_each_bridge_of_a_chain_keeps_what_is_known_of_it(self, is_seen: bool) -> None:
        places = self.places()
        moved(places, {"sa": S2, "sb": S3}, is_seen)
        snapshot = places.snapshot()
        assert snapshot.places == {"port a": (S2, "e1"), "port b": (S3, "e1")}
        assert snapshot.placements == {"a": at(S2, 1), "b": at(S3, 1)}
        assert not snapshot.problems and places.doubts_of(S2) == ()
        assert places.bridge_names() == {S2: "sa", S3: "sb"}
        assert places.replaced() == {S1: S2}
        assert places.take_moves() == [{S1: S2, S2: S3}] and places.take_moves() == []
        for old in places.replaced():
            places.retire(old)
        snapshot = places.snapshot()
        assert snapshot.placements == {"a": at(S2, 1), "b": at(S3, 1)}
        assert places.bridge_names() == {S2: "sa", S3: "sb"} and places.replaced() == {}

    def test_two_bridges_exchange_their_ids(self) -> None:
        places = self.places()
        moved(places, {"sa": S2, "sb": S1})
        snapshot = places.snapshot()
        assert snapshot.places == {"port a": (S2, "e1"), "port b": (S1, "e1")}
        assert snapshot.placements == {"a": at(S2, 1), "b": at(S1, 1)}
        assert not snapshot.problems and places.replaced() == {}
        assert places.take_moves() == [{S1: S2, S2: S1}]

    def test_a_chain_that_ends_at_another_hosts_bridge_takes_nothing_from_it(self) -> None:
        places = self.places()
        places.report_ports(S3, switch_ports("sc", e1=1))
        other = said(S3, "sc", HOST2, {"e1": (1, None)}, row="sc")
        here = [said(d, n, HOST1, {"e1": (1, None)}, row=n) for n, d in (("sa", S1), ("sb", S2))]
        places.report_interfaces(together(other, *here))
        claims = [said(d, n, HOST1, {"e1": (1, None)}, row=n) for n, d in (("sa", S2), ("sb", S3))]
        places.report_interfaces(together(other, *claims))
        snapshot = places.snapshot()
        assert [p for p, place in snapshot.placements.items() if place.dpid == S3] == ["c"]
        assert places.doubts_of(S3) and places.replaced() == {}

    @pytest.mark.parametrize("how", ["moved", "new"])
    def test_an_id_that_another_bridge_gets_is_not_waited_for(self, how: str) -> None:
        places = self.places()
        moved(places, {"sa": S3, "sb": S2}, is_seen=False)
        assert places.replaced() == {S1: S3}
        if how == "moved":
            moved(places, {"sa": S3, "sb": S1}, is_seen=False)
            assert places.replaced() == {S2: S1}
            assert places.take_moves() == [{S1: S3}, {S2: S1}]
        else:
            moved(places, {"sa": S3, "sb": S2, "sc": S1}, is_seen=False)
            assert places.replaced() == {}
            assert places.take_moves() == [{S1: S3}]


class TestABridgeThatConnectsBeforeItsDatabaseTellsItsNewId:
    def places(self) -> Placements:
        places = Placements()
        places.declare(inventory({"a": PortHint("sa", "a1"), "b": PortHint("sb", "b2")}))
        self.report(places, {"sa": S1, "sb": S2})
        self.connect(places, {"sa": S1, "sb": S2})
        assert places.snapshot().placements == {"a": at(S1, 1), "b": at(S2, 2)}
        return places

    def report(self, places: Placements, ids: Mapping[str, Dpid]) -> None:
        ports: dict[str, Ports] = {"sa": {"a1": (1, None)}, "sb": {"b2": (2, None)}}
        parts = [said(dpid, name, HOST1, ports[name], row=name) for name, dpid in ids.items()]
        places.report_interfaces(together(*parts))

    def connect(self, places: Placements, ids: Mapping[str, Dpid]) -> None:
        ports = {"sa": switch_ports("sa", a1=1), "sb": switch_ports("sb", b2=2)}
        for name, dpid in ids.items():
            places.report_ports(dpid, ports[name])

    @pytest.mark.parametrize("early", [["sa"], ["sb"], ["sa", "sb"], []])
    @pytest.mark.parametrize("is_restarted", [False, True])
    @pytest.mark.parametrize("ids", [{"sa": S2, "sb": S1}, {"sa": S2, "sb": S3}])
    def test_its_ports_are_its_own(
        self, ids: Mapping[str, Dpid], is_restarted: bool, early: list[str]
    ) -> None:
        places = self.places()
        if is_restarted:
            seen, places = places.snapshot(), Placements()
            places.remember(seen.records, seen.places)
            places.declare(inventory({"a": PortHint("sa", "a1"), "b": PortHint("sb", "b2")}))
        self.connect(places, {name: ids[name] for name in early})
        places.snapshot()
        self.report(places, ids)
        self.connect(places, {name: ids[name] for name in ids if name not in early})
        snapshot = places.snapshot()
        assert snapshot.placements == {"a": at(ids["sa"], 1), "b": at(ids["sb"], 2)}
        assert not snapshot.problems


class TestNamesThatSeveralBridgesHave:
    def places(self, *bridges: DeclaredBridge) -> Placements:
        places = Placements()
        for dpid, database, host in ((S1, HOST1, "hv1"), (S2, HOST2, "hv2")):
            places.report_ports(dpid, switch_ports("br-int", tap0=1, x=9))
            self.reports = [*getattr(self, "reports", []), (dpid, database, host)]
        ports: Ports = {"tap0": (1, None), "x": (9, None)}
        parts = [said(d, "br-int", database, ports, host=h) for d, database, h in self.reports]
        places.report_interfaces(together(*parts))
        return places

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("br-int@hv1", "br-int@hv2"),
            ("0x1", "0x2"),
            ("0000000000000001", "0000000000000002"),
            ("br-int@hv1", "0x2"),
        ],
    )
    def test_host_or_datapath_id_tells_them_apart(self, one: str, other: str) -> None:
        places = self.places()
        cable = LinkHint(InterfaceName(one, "x"), InterfaceName(other, "x"))
        hints = {"web": PortHint(one, "tap0"), "db": PortHint(other, "tap0")}
        places.declare(inventory(hints, (cable,)))
        snapshot = places.snapshot()
        assert snapshot.placements == {"web": at(S1, 1), "db": at(S2, 1)}
        assert snapshot.links == (Link(at(S1, 9), at(S2, 9)),) and not snapshot.problems

    def test_a_name_alone_places_nothing_and_the_sentence_says_what_to_write(self) -> None:
        places = self.places()
        places.declare(inventory({"web": PortHint("br-int", "tap0")}))
        snapshot = places.snapshot()
        assert not snapshot.placements
        assert "'tap0' of bridge 'br-int' (0000000000000001)" in snapshot.problems[0]

    def test_declared_hosts_and_names_count(self) -> None:
        places = self.places()
        declared = inventory({"web": PortHint("br-int@left", "tap0"), "db": PortHint("b", "tap0")})
        bridges = (DeclaredBridge(S1, host="left"), DeclaredBridge(S2, name="b"))
        places.declare(declaring(declared, *bridges))
        assert places.snapshot().placements == {"web": at(S1, 1), "db": at(S2, 1)}

    def test_the_name_in_a_verified_certificate_is_that_of_the_host(self) -> None:
        places = Placements()
        places.declare(inventory({"web": PortHint("vmbr0@hv7", "tap0")}))
        places.report_ports(S1, switch_ports("vmbr0", tap0=1), "hv7")
        places.report_ports(S2, switch_ports("vmbr0", tap0=1), "hv8")
        assert places.snapshot().placements == {"web": at(S1, 1)}


class TestTheCertificateOfABridge:
    def test_the_first_one_counts_also_after_a_restart(self) -> None:
        places = Placements()
        places.declare(inventory({"web": PortHint("s1", "e1")}))
        places.report_ports(S1, switch_ports("s1", e1=1), "hv1")
        places.report_ports(S1, switch_ports("s1", e1=1), "hv2")
        assert places.certificate_of(S1) == "hv1"
        seen = places.snapshot()
        after = Placements()
        after.remember(seen.records, seen.places)
        assert after.certificate_of(S1) == "hv1"

    def test_the_declared_one_counts_more(self) -> None:
        places = Placements()
        places.report_ports(S1, switch_ports("s1", e1=1), "hv1")
        places.declare(Inventory(bridges=(DeclaredBridge(S1, certificate="hv1-renewed"),)))
        assert places.certificate_of(S1) == "hv1-renewed"
