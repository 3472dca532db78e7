"""The replica of a database reports exactly what is in it, whatever way it came to that."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest

from controller.databases.errors import BadPeer
from controller.databases.main import split
from controller.databases.program import PROGRAM
from controller.databases.replica import (
    CALM_MAX_S,
    ROW_PROBLEMS_MAX,
    ROWS_IN_A_SLICE,
    Replica,
    Report,
)
from controller.process import Message
from tests.controller.databases.random_databases import (
    EMPTY,
    RandomDatabase,
    Tables,
    initial2,
    updates,
    updates2,
    uuid_of,
)

LONG_S = 10 * CALM_MAX_S


class Reported:
    """What a replica has reported, put together."""

    def __init__(self) -> None:
        self.replica, self.now = Replica(), 0.0
        self.bridges: dict[str, Any] = {}
        self.interfaces: dict[str, Any] = {}
        self.settings: dict[str, Any] | None = None
        self.problems: list[str] = []
        self.unmade: list[dict[str, Any]] = [{"count": 0}]

    def take(self, changes: Any, *, are_differences: bool = True) -> Report:
        for _ in self.replica.apply(changes, are_differences=are_differences):
            pass
        return self.look()

    def load(self, tables: Tables) -> Report:
        self.replica.begin_load()
        for _ in self.replica.apply(initial2(tables), are_differences=True):
            pass
        for _ in self.replica.end_load():
            pass
        return self.look()

    def look(self) -> Report:
        (report,) = (found for found in self.replica.look(self.now) if found is not None)
        for rows, changes in (
            (self.bridges, report.bridges),
            (self.interfaces, report.interfaces),
        ):
            for uuid, record in changes.items():
                assert record != rows.get(uuid), "only what has changed is reported"
                if record is None:
                    del rows[uuid]
                else:
                    rows[uuid] = record
        self.settings = report.settings or self.settings
        self.problems = self.problems if report.problems is None else report.problems
        self.unmade = self.unmade if report.unmade is None else report.unmade
        return report

    @property
    def everything(self) -> tuple[Any, ...]:
        return self.bridges, self.interfaces, self.settings, self.problems, self.unmade


@pytest.mark.parametrize("seed", range(60))
def test_changes_lead_to_what_a_new_replica_would_report(seed: int) -> None:
    database = RandomDatabase(seed)
    reported = Reported()
    before = database.copy()
    reported.load(before)
    choose = random.Random(seed)
    for _ in range(30):
        database.change()
        after = database.copy()
        way = choose.choice(["update", "update2", "again"])
        reported.now += LONG_S
        if way == "update":
            reported.take(updates(before, after), are_differences=False)
        elif way == "update2":
            reported.take(updates2(before, after))
        else:
            reported.load(after)
        before = after
        fresh = Reported()
        fresh.load(after)
        assert reported.everything == fresh.everything, way
        assert counted(reported.replica) == held(reported.replica)


def counted(replica: Replica) -> int:
    """The elements of sets and maps that count for the limit."""
    return replica._elements


def held(replica: Replica) -> int:
    """The elements of sets and maps that there are."""
    values = [v for rows in replica.tables.values() for row in rows.values() for v in row.values()]
    return sum(len(value) for value in values if isinstance(value, (frozenset, dict)))


def small() -> RandomDatabase:
    """Bridge 2 with port 3 and interface 4."""
    database = RandomDatabase(0)
    database.add_bridge()
    database.add_port()
    return database


BRIDGE, PORT, INTERFACE = uuid_of(2), uuid_of(3), uuid_of(4)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("-1", "'-1' is not 16 hexadecimal digits"),
        ("xyz", "'xyz' is not 16 hexadecimal digits"),
        ("", "has no"),
        ("0x51", "is not 16 hexadecimal digits"),
        (" 51", "is not 16 hexadecimal digits"),
        ("5_1", "is not 16 hexadecimal digits"),
        ("51\n", "is not 16 hexadecimal digits"),
        ("\u0665\u0661", "is not 16 hexadecimal digits"),
        ("0" * 16, "is 0, which no bridge may have"),
        ("1" * 17, "is not 16 hexadecimal digits"),
        ("f" * 1_000_000, "..."),
    ],
)
def test_a_bridge_with_a_datapath_id_that_cannot_be_one_is_refused(value: str, words: str) -> None:
    database = small()
    database.tables["Bridge"][BRIDGE]["datapath_id"] = frozenset([value])
    reported = Reported()

    reported.load(database.tables)

    assert reported.bridges == reported.interfaces == {}
    if value:
        (problem,) = reported.problems
        assert problem.startswith("bridge 'br2' is not used: its datapath_id")
        assert words in problem and len(problem) < 200 and problem.isprintable()
    database.tables["Bridge"][BRIDGE]["datapath_id"] = frozenset(["51"])
    reported.load(database.tables)
    assert reported.bridges[BRIDGE]["dpid"] == 0x51
    assert set(reported.interfaces) == {INTERFACE}
    assert reported.problems == []


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("name", ""),
        ("name", "x" * 256),
        ("name", "tap\x1b[2J"),
        ("name", "tap\n1"),
        ("name", "tap\u202e1"),
        ("name", "tap\ud800"),
        ("external_ids", {"iface-id": "x" * 1_000_000}),
        ("external_ids", {"iface-id": "vm\0"}),
        ("external_ids", {"iface-id": "vm\x1b]0;x\x07"}),
    ],
)
def test_an_interface_with_a_name_that_cannot_be_one_is_refused_and_others_are_not(
    column: str, value: Any
) -> None:
    database = small()
    database.add_port()
    database.tables["Interface"][INTERFACE][column] = value
    reported = Reported()

    reported.load(database.tables)

    assert list(reported.interfaces) == [uuid_of(6)]
    (problem,) = reported.problems
    assert problem.startswith("interface ") and " is not used: its " in problem
    assert len(problem) < 300 and problem.isprintable() and problem.isascii()


def test_values_for_people_are_one_line_of_bounded_length() -> None:
    database = small()
    row = database.tables["Interface"][INTERFACE]
    row["error"] = frozenset(["could not\n\x1b[31madd " + "x" * 100_000])
    row["external_ids"] = {"attached-mac": "02:00:00:00:00:01:05", "iface-id": "vm"}
    row["ofport"] = frozenset([1 << 40])
    reported = Reported()

    reported.load(database.tables)

    record = reported.interfaces[INTERFACE]
    assert record["error"].startswith("could not ?[31madd xxx") and len(record["error"]) <= 300
    assert record["mac"] is None and record["ofport"] is None


def test_an_endless_value_is_not_kept_and_can_be_removed_by_its_difference() -> None:
    database, reported = small(), Reported()
    database.tables["Interface"][INTERFACE]["external_ids"] = {"iface-id": "y" * 1_000_000}
    before = database.copy()
    reported.load(before)
    kept = reported.replica.tables["Interface"][INTERFACE]["external_ids"]
    assert isinstance(kept, dict) and len(kept["iface-id"]) < 2000
    database.tables["Interface"][INTERFACE]["external_ids"] = {}

    reported.take(updates2(before, database.tables))

    assert reported.interfaces[INTERFACE]["iface_id"] is None and not reported.problems


def test_bridges_without_a_datapath_id_are_told_the_first_by_name_and_how_many() -> None:
    database, reported = small(), Reported()
    reported.load(database.copy())
    assert reported.unmade == [{"count": 0}]
    before = database.copy()
    for _ in range(30):
        database.add_bridge()
    for uuid, row in database.tables["Bridge"].items():
        if uuid != BRIDGE:
            row |= {"datapath_id": "", "datapath_type": "system"}
    reported.take(updates2(before, database.tables))

    names = sorted(row["name"] for u, row in database.tables["Bridge"].items() if u != BRIDGE)
    told = [{"name": name, "datapath_type": "system"} for name in names[:20]]
    assert reported.unmade == [*told, {"count": 30}]
    before = database.copy()
    for row in database.tables["Bridge"].values():
        row["datapath_id"] = row["datapath_id"] or "0" * 15 + "7"
    reported.take(updates2(before, database.tables))
    assert reported.unmade == [{"count": 0}] and len(reported.bridges) == 31


def test_who_had_a_name_first_keeps_it_until_it_goes() -> None:
    database, reported = small(), Reported()
    reported.load(database.copy())
    before = database.copy()
    database.add_bridge()
    rival = uuid_of(5)
    database.tables["Bridge"][rival]["name"] = "br2"

    reported.take(updates2(before, database.tables))

    assert set(reported.bridges) == {BRIDGE}
    (problem,) = reported.problems
    assert "had it before" in problem and "name of bridge 'br2'" in problem
    before = database.copy()
    database.tables["Bridge"][BRIDGE]["name"] = "br7"
    reported.take(updates2(before, database.tables))
    assert {u: r["name"] for u, r in reported.bridges.items()} == {BRIDGE: "br7", rival: "br2"}
    assert not reported.problems


def test_an_interface_of_two_ports_of_a_bridge_stays_as_it_was_and_both_are_said() -> None:
    database, reported = small(), Reported()
    database.tables["Port"][PORT] |= {"name": "web", "protected": True}
    reported.load(database.copy())
    was, before = dict(reported.interfaces), database.copy()
    rival = uuid_of(1)[:-2] + "99"
    row = {**EMPTY["Port"], "name": "aa", "interfaces": frozenset([INTERFACE])}
    database.tables["Port"][rival] = row
    database.tables["Bridge"][BRIDGE]["ports"] |= {rival}

    reported.take(updates2(before, database.tables))

    assert reported.interfaces == was and was
    (problem,) = reported.problems
    assert "in port 'aa' of bridge 'br2' and in port 'web' of bridge 'br2'" in problem
    assert "it counts in port 'web' of bridge 'br2' until it is in one only" in problem
    again = Reported()
    again.load(database.copy())
    assert again.interfaces.keys() == was.keys(), "there is one bridge only that it can be on"
    before = database.copy()
    del database.tables["Port"][rival]
    database.tables["Bridge"][BRIDGE]["ports"] -= {rival}
    reported.take(updates2(before, database.tables))
    assert reported.interfaces == was and not reported.problems


@pytest.mark.parametrize("shared", ["port", "interface"])
def test_a_port_of_two_bridges_stays_where_it_was_until_it_is_gone_there(shared: str) -> None:
    database, reported = small(), Reported()
    reported.load(database.copy())
    was, before = dict(reported.interfaces), database.copy()
    database.add_bridge()
    other, port = uuid_of(5), PORT
    if shared == "interface":
        port = database.new()
        row = {**EMPTY["Port"], "name": "zz", "interfaces": frozenset([INTERFACE])}
        database.tables["Port"][port] = row
    database.tables["Bridge"][other]["ports"] |= {port}

    reported.take(updates2(before, database.tables))

    assert reported.interfaces == was and was[INTERFACE]["bridge"] == BRIDGE
    (problem,) = reported.problems
    assert "of bridge 'br2' and in " in problem and "of bridge 'br5':" in problem
    assert "it counts in port" in problem
    fresh = Reported()
    fresh.load(database.copy())
    assert not fresh.interfaces, "nothing new is placed"
    (problem,) = fresh.problems
    assert "'br2'" in problem and "'br5'" in problem and "it is not used until" in problem
    before = database.copy()
    database.tables["Bridge"][BRIDGE]["ports"] = frozenset()
    for each in (reported, fresh):
        each.take(updates2(before, database.tables))
        assert each.interfaces[INTERFACE]["bridge"] == other and not each.problems


def test_two_that_claim_the_same_from_the_beginning_both_get_nothing() -> None:
    database, reported = small(), Reported()
    database.add_port()
    rows = database.tables["Interface"]
    rows[uuid_of(6)]["ofport"] = rows[INTERFACE]["ofport"]

    reported.load(database.tables)

    assert not reported.interfaces and len(reported.problems) == 2
    assert all("OpenFlow port number" in problem for problem in reported.problems)


def test_an_exchange_of_port_numbers_in_one_transaction_is_one_report() -> None:
    database, reported = small(), Reported()
    database.add_port()
    reported.load(database.copy())
    before, rows = database.copy(), database.tables["Interface"]
    a, b = rows[INTERFACE]["ofport"], rows[uuid_of(6)]["ofport"]
    rows[INTERFACE]["ofport"], rows[uuid_of(6)]["ofport"] = b, a

    report = reported.take(updates2(before, database.tables))

    numbers = {uuid: record["ofport"] for uuid, record in report.interfaces.items() if record}
    assert numbers == {INTERFACE: min(b), uuid_of(6): min(a)}
    assert not reported.problems


def test_a_link_that_flaps_is_reported_at_once_then_less_and_less_and_at_last_as_it_is() -> None:
    database, reported = small(), Reported()
    reported.load(database.copy())
    reports = 0
    for step in range(10_000):  # 100 s
        before, reported.now = database.copy(), step / 100
        row = database.tables["Interface"][INTERFACE]
        row["link_state"] = frozenset(["up" if step % 2 else "down"])
        found = reported.take(updates2(before, database.tables))
        reports += bool(found.interfaces)
        assert step or found.interfaces[INTERFACE]["is_up"] is False, "the first one at once"
    assert 10 <= reports <= 60
    while (due := reported.replica.due()) is not None:
        assert due <= reported.now + CALM_MAX_S
        reported.now = due
        reported.look()
    assert reported.interfaces[INTERFACE]["is_up"] is True


def test_a_port_number_is_never_held_back_while_a_link_flaps() -> None:
    database, reported = small(), Reported()
    reported.load(database.copy())
    for step in range(100):
        before = database.copy()
        row = database.tables["Interface"][INTERFACE]
        row["link_state"] = frozenset(["up" if step % 2 else "down"])
        row["ofport"] = frozenset([1000 + step])
        found = reported.take(updates2(before, database.tables))
        assert found.interfaces[INTERFACE]["ofport"] == 1000 + step


def test_a_thousand_bad_rows_make_few_sentences() -> None:
    database = small()
    database.add_ports(BRIDGE, 1000)
    for row in database.tables["Interface"].values():
        row["name"] = ""
    reported = Reported()

    reported.load(database.tables)

    assert len(reported.problems) == ROW_PROBLEMS_MAX + 1
    assert reported.problems[-1] == "981 more rows are not used, or not wholly"


@pytest.mark.parametrize("column", ["mtu", "link_speed"])
@pytest.mark.parametrize("number", [-(1 << 63), -1, 67, 65537, 10**13 + 1, (1 << 63) - 1])
def test_a_number_that_no_device_has_is_not_known_and_said(column: str, number: int) -> None:
    database, reported = small(), Reported()
    row = database.tables["Interface"][INTERFACE]
    row[column] = frozenset([number])
    reported.load(database.copy())

    found = reported.interfaces[INTERFACE]["device"]
    field = {"mtu": "mtu", "link_speed": "speed"}[column]
    if column == "link_speed" and number in (67, 65537):
        assert (found[field], reported.problems) == (number, [])
        return
    assert field not in found
    [sentence] = reported.problems
    assert f"its {column} {number} is not" in sentence

    before = database.copy()
    row[column] = frozenset([1500])
    reported.take(updates2(before, database.tables))
    assert reported.interfaces[INTERFACE]["device"][field] == 1500
    assert reported.problems == []


def test_ephemeral_columns_survive_a_restart_of_the_server() -> None:
    database, reported = small(), Reported()
    database.tables["Interface"][INTERFACE]["link_state"] = frozenset(["down"])
    reported.load(database.copy())
    database.tables["Interface"][INTERFACE]["link_state"] = frozenset()
    database.tables["Bridge"][BRIDGE]["datapath_id"] = frozenset()

    assert not reported.load(database.tables)


BLOCKING = {"status": {"stp_state": "blocking"}, "rstp_status": {"rstp_port_state": "Discarding"}}


@pytest.mark.parametrize("column", BLOCKING)
@pytest.mark.parametrize("is_on", [True, False])
def test_what_a_spanning_tree_blocks_is_known_over_a_restart_of_the_server(
    column: str, is_on: bool
) -> None:
    database, reported = small(), Reported()
    port, interface = database.tables["Port"][PORT], database.tables["Interface"][INTERFACE]
    interface["link_state"], port[column] = frozenset(["up"]), BLOCKING[column]
    reported.load(database.copy())
    [state] = BLOCKING[column].values()
    assert reported.interfaces[INTERFACE]["device"]["tree_states"] == [state]
    interface["link_state"], port[column] = frozenset(), {}
    for _ in range(2):
        assert not reported.load(database.copy()), "the server has restarted"
    before = database.copy()
    interface["link_state"], port[column] = frozenset(["up"]), BLOCKING[column] if is_on else {}
    reported.take(updates2(before, database.copy()))
    device = reported.interfaces[INTERFACE]["device"]
    assert device.get("tree_states") == ([state] if is_on else None)
    assert counted(reported.replica) == held(reported.replica)
    before = database.copy()
    port[column] = {}
    reported.take(updates2(before, database.copy()))
    assert "tree_states" not in reported.interfaces[INTERFACE]["device"], "it is off"


@pytest.mark.parametrize("column", BLOCKING)
def test_a_spanning_tree_that_was_switched_off_meanwhile_blocks_nothing(column: str) -> None:
    database, reported = small(), Reported()
    port, interface = database.tables["Port"][PORT], database.tables["Interface"][INTERFACE]
    interface["link_state"], port[column] = frozenset(["up"]), BLOCKING[column]
    reported.load(database.copy())
    port[column] = {}
    reported.load(database.copy())
    assert "tree_states" not in reported.interfaces[INTERFACE]["device"], "no server restarted"


def test_a_rate_of_a_queue_reaches_the_interfaces_of_its_port() -> None:
    database, reported = small(), Reported()
    tables = database.tables
    queue, qos = database.new(), database.new()
    tables["Queue"][queue] = {"other_config": {"max-rate": "1000000"}}
    shaped = {"type": "linux-htb", "other_config": {"max-rate": "9000000"}, "queues": {0: queue}}
    tables["QoS"][qos] = shaped
    tables["Port"][PORT]["qos"] = frozenset([qos])
    reported.load(database.copy())
    expected = {"type": "linux-htb", "max-rate": "9000000", "queue": "1000000"}
    assert reported.interfaces[INTERFACE]["device"]["qos"] == expected
    before = database.copy()
    tables["Queue"][queue]["other_config"] = {"max-rate": "2000000"}
    assert set(reported.take(updates2(before, database.copy())).interfaces) == {INTERFACE}
    assert reported.interfaces[INTERFACE]["device"]["qos"]["queue"] == "2000000"


def test_what_one_change_costs_does_not_depend_on_the_number_of_rows() -> None:
    database, reported = small(), Reported()
    database.add_ports(BRIDGE, 5000)
    reported.load(database.copy())
    update = {"Interface": {INTERFACE: {"modify": {"link_state": "down"}}}}
    steps = list(reported.replica.apply(update, are_differences=True))
    looks = list(reported.replica.look(0.0))
    assert len(steps) == 0 and len(looks) <= 3, "one row is looked at"


def mutations(document: Any, choose: random.Random) -> Any:
    """The same document with one part replaced by something else."""
    strange: list[Any] = [
        None, True, -1, 1 << 70, 1.5, "", "x" * 5000, [], ["set"], ["set", 5], ["map", [[1]]],
        ["uuid", 5], ["uuid", "x"], ["set", [["uuid", "x"]]], {}, {"new": 5}, {"initial": []},
        {"modify": None}, {"delete": 1}, [[[[]]]], ["map", [["iface-id", 5]]], "\ud800",
    ]  # fmt: skip
    document = copy.deepcopy(document)
    places: list[tuple[Any, Any]] = []
    todo: list[Any] = [document]
    while todo:
        part = todo.pop()
        keys = part if isinstance(part, dict) else range(len(part))
        for key in keys:
            places.append((part, key))
            if isinstance(part[key], (dict, list)):
                todo.append(part[key])
    part, key = choose.choice(places)
    if isinstance(part, dict) and choose.random() < 0.2:
        part[choose.choice(["x", "new", "_uuid", uuid_of(99)])] = part.pop(key)
    else:
        part[key] = choose.choice(strange)
    return document


@pytest.mark.parametrize("seed", range(20))
def test_updates_that_are_not_quite_right_are_refused_or_read_and_nothing_else(seed: int) -> None:
    choose = random.Random(seed)
    for _ in range(150):
        database = RandomDatabase(choose.randrange(1 << 30))
        for _ in range(5):
            database.change()
        document = initial2(database.tables)
        for _ in range(choose.randint(1, 3)):
            document = mutations(document, choose)
        reported = Reported()
        try:
            reported.take(document, are_differences=choose.random() < 0.7)
        except BadPeer as refused:
            assert str(refused).startswith("it ") and len(str(refused)) < 200
            continue
        assert all(len(problem) < 400 and problem.isascii() for problem in reported.problems)
        for record in reported.interfaces.values():
            assert record["bridge"] in reported.bridges and record["name"].isprintable()


@pytest.mark.parametrize(
    ("limit", "words"),
    [("ROWS_MAX", "rows in the table"), ("ALL_ELEMENTS_MAX", "elements in its sets and maps")],
)
def test_a_database_that_is_too_large_is_left(
    limit: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"controller.databases.replica.{limit}", 100)
    database = small()
    for _ in range(200):
        database.add_port()

    with pytest.raises(BadPeer, match=words):
        Reported().load(database.tables)


@pytest.mark.parametrize("limit", ["ROWS_MAX", "ALL_ELEMENTS_MAX"])
def test_a_database_that_was_too_large_is_read_as_soon_as_it_is_not(
    limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"controller.databases.replica.{limit}", 100)
    database, reported = small(), Reported()
    before = database.copy()
    reported.load(before)
    for _ in range(20):
        database.add_port()
    some = database.copy()
    for _ in range(200):
        database.add_port()
    too_much = database.copy()
    with pytest.raises(BadPeer):
        reported.take(updates2(some, too_much))
    with pytest.raises(BadPeer):
        reported.load(too_much)

    reported.load(some)

    fresh = Reported()
    fresh.load(some)
    assert reported.everything == fresh.everything
    assert counted(reported.replica) == held(reported.replica)


@pytest.mark.parametrize("limit", ["ROWS_MAX", "ALL_ELEMENTS_MAX"])
def test_a_database_that_was_made_anew_does_not_count_twice(
    limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = small(), small()
    first.add_ports(BRIDGE, 30)
    second._last = 1000
    second.add_ports(BRIDGE, 30)
    reported, fresh = Reported(), Reported()
    reported.load(first.tables)
    fresh.load(second.tables)
    most = {"ROWS_MAX": 31, "ALL_ELEMENTS_MAX": held(fresh.replica)}[limit]
    monkeypatch.setattr(f"controller.databases.replica.{limit}", most)

    reported.load(second.tables)

    assert reported.everything == fresh.everything


def test_ephemeral_values_that_are_kept_count_once() -> None:
    database, reported = small(), Reported()
    database.tables["Interface"][INTERFACE]["status"] = {"driver_name": "veth"}
    reported.load(database.tables)
    for state in ("up", "down", "up"):
        changes = {"new": {"name": "tap4", "link_state": state}}
        reported.take({"Interface": {INTERFACE: changes}}, are_differences=False)
        assert counted(reported.replica) == held(reported.replica)


def test_the_longest_rows_fit_in_the_messages_to_the_controller() -> None:
    text = "\U0001f600" * 2000
    database, reported = small(), Reported()
    database.add_ports(BRIDGE, ROWS_IN_A_SLICE)
    tables = database.tables
    queue, qos = database.new(), database.new()
    tables["Queue"][queue] = {"other_config": {"max-rate": text}}
    rates = {"max-rate": text, "cir": text}
    tables["QoS"][qos] = {"type": text, "other_config": rates, "queues": {0: queue}}
    for port in tables["Port"].values():
        states = {"rstp_status": {"rstp_port_state": text}, "status": {"stp_state": text}}
        port |= {"qos": frozenset([qos]), **states}
    for number, row in enumerate(tables["Interface"].values()):
        ids = {"iface-id": text[:255], "cloudtap-tunnel": text}
        options = {f"{number}{text}": text for number in range(100)}
        row |= {"name": f"{number:03}{text[:252]}", "external_ids": ids, "options": options}
        row |= {"type": text, "error": frozenset([text]), "status": {"driver_name": text}}

    report = reported.load(tables)

    assert len(report.interfaces) > ROWS_IN_A_SLICE and not reported.problems
    for head in split(report):
        Message(head).packed(PROGRAM.max_message)


def test_the_model_knows_the_columns_that_are_watched() -> None:
    from controller.databases.columns import WATCHED

    assert {t: set(c) for t, c in WATCHED.items()} == {t: set(c) for t, c in EMPTY.items()}
