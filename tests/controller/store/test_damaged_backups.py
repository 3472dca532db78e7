"""What a restore accepts a start can use; everything else is refused, and nothing is changed."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.cli import main
from controller.store import (
    BridgeRecord,
    IdempotencyKey,
    InterfaceRecord,
    Limits,
    Store,
    StoreError,
    back_up,
    restore,
    tables,
)
from flows.model import (
    CollectorId,
    Dpid,
    FilterId,
    Names,
    NetworkId,
    PortId,
    SessionId,
    Source,
    SourceKind,
    TenantName,
)
from flows.openflow import PacketCount
from tests.controller.store.test_backup import names
from tests.controller.store.test_collectors import SOC
from tests.controller.store.test_directory import CHANGES, make_change
from tests.controller.store.test_filters import HTTP
from tests.controller.store.test_store import IDS, WEB, another

RED = TenantName("red")
S1 = Dpid(0x51)


def fill(state: Path) -> None:
    """Make a state database with rows in all tables."""
    store = Store(state)
    store.collectors.add(IDS, "tester", IdempotencyKey("once", "digest"))
    store.collectors.add(SOC, "tester", probes={SOC.sensors[0]: "tcp://192.0.2.9:22"})
    given_up = replace(SOC, id=CollectorId("c-9"), name="given-up", key=9)
    store.collectors.add(given_up, "tester")
    store.collectors.delete(given_up.id, "tester")
    store.filters.add(HTTP, "tester")
    labels = Source(kind=SourceKind.LABEL, labels=(("role", "web"),))
    limits = Limits(datetime(2100, 1, 1, tzinfo=UTC), 10, 1000, PacketCount(1, 60))
    store.sessions.add(replace(WEB, filter=HTTP.id), "tester", limits=limits)
    store.sessions.add(another(name="labels", source=labels), "tester")
    seen = (InterfaceRecord("s1-eth1", "web", 1), InterfaceRecord("s1-eth2", None, 2))
    store.placements.remember_bridges([BridgeRecord(S1, "s1", seen, "tcp:h:1", "row", "hv1")])
    store.placements.remember_places({"port web": (S1, "s1-eth1")})
    store.installed_sessions.replace(S1, [1, 2])
    store.limits.keep_counts({(WEB.id, S1, "made"): (PacketCount(-2, -90), PacketCount(5, 300))})
    store.numbers_for(
        Names(
            network={NetworkId("lan"): RED},
            port={PortId("web"): RED},
            session=[SessionId("old")],
            tag={"network:lan": RED},
            filter=[FilterId("old")],
            collector=[CollectorId("old")],
            meter=[WEB.id],
        )
    )
    store.close()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory, and ``good.db``, the backup of it, in a folder."""
    folder = tmp_path_factory.mktemp("good")
    fill(folder / "state")
    back_up(folder / "state", folder / "good.db")
    with closing(sqlite3.connect(folder / "good.db")) as connection:
        for table in tables.metadata.tables:
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0], table
    return folder


def content(state: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in state.iterdir() if file.name != "lock"}


def use(state: Path) -> None:
    """Start with a state, read everything in it, and change it."""
    store = Store(state)
    store.desired()
    store.audit.entries(limit=1000)
    store.audit.known("who")
    store.idempotency.find("once")
    store.limits.counts()
    store.placements.bridges()
    store.installed_sessions.sessions_by_bridge()
    numbered = store.numbered()
    names = Names(session=list(numbered.session), network={NetworkId("later"): RED})
    store.numbers_for(names)
    store.collectors.add(replace(IDS, id=CollectorId("c-new"), name="new"), "tester")
    store.close()


# --- damage that was seen -------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "words"), CHANGES)
def test_what_a_start_refuses_is_restored_by_nobody_and_backed_up_by_nobody(
    tmp_path: Path, change: str, words: str
) -> None:
    state, file = tmp_path / "state", tmp_path / "b.db"
    store = Store(state)
    store.collectors.add(IDS, "tester")
    store.sessions.add(WEB, "tester")
    store.installed_sessions.add(Dpid(1), [1])
    store.close()
    back_up(state, file)
    before = content(state)
    make_change(file, change)
    done = CliRunner().invoke(
        main, ["restore", str(file)], env={"CLOUDTAP_STATE__DIRECTORY": str(state)}
    )
    said = " ".join(done.output.split())
    assert done.exit_code == 1 and done.exception and "no state database that can be used" in said
    assert content(state) == before
    with pytest.raises(StoreError, match="no state database that can be used") as caught:
        restore(state, file)
    assert words in str(caught.value) and str(caught.value).isprintable()
    make_change(state / "state.db", change)
    with pytest.raises(StoreError, match="no state database that can be used"):
        back_up(state, tmp_path / "c.db")
    assert not (tmp_path / "c.db").exists()


def test_one_flipped_bit_in_a_rule_is_refused(good: Path, tmp_path: Path) -> None:
    state, file = tmp_path / "state", tmp_path / "b.db"
    shutil.copytree(good / "state", state)
    data = bytearray((good / "good.db").read_bytes())
    at = data.index(b'"tcp"')
    data[at + 2] ^= 1
    file.write_bytes(data)
    before = content(state)
    with pytest.raises(StoreError, match="filter 'http' cannot be read"):
        restore(state, file)
    assert content(state) == before


# --- any damage -----------------------------------------------------------------------------------

VALUES = (
    *(None, -1, 0, 1, 2, 4096, 65536, 99_999, 2**20, 2**31, 2**32, 2**62, 2**63 - 1, -(2**63), 1.5),
    *("", "x", "ü", "a\0b", "\x1b[31m", "vxlan", "port", "sctp", "[]", "{}", "null", "[" * 5000),
    *('{"ingress": 1}', "now", "12:00", "2026-01-01T00:00:00", "2026-01-01", "x" * 70_000),
    *("inf", "nan", "1e999", "0000000000000051", "::1", "1" * 5000, b"", b"\xff\xfe", b"{}"),
)
COLUMNS = [
    (name, column.name)
    for name, table in tables.metadata.tables.items()
    for column in table.columns
] + [("sqlite_sequence", "seq")]


def damage(file: Path, data: st.DataObject) -> None:
    """Flip bits of a file, or change values in it, or characters of values."""
    kind = data.draw(st.sampled_from(["bits", "values", "values", "characters"]))
    if kind == "bits":
        flipped = bytearray(file.read_bytes())
        for _ in range(data.draw(st.sampled_from([1, 1, 1, 5, 30]))):
            at = data.draw(st.integers(0, len(flipped) - 1))
            flipped[at] ^= 1 << data.draw(st.integers(0, 7))
        file.write_bytes(flipped)
        return
    with closing(sqlite3.connect(file)) as connection:
        connection.text_factory = bytes
        for _ in range(data.draw(st.integers(1, 2))):
            table, column = data.draw(st.sampled_from(COLUMNS))
            rows = connection.execute(f'SELECT rowid, "{column}" FROM {table}').fetchall()
            row, old = data.draw(st.sampled_from(rows))
            new: object = data.draw(st.sampled_from(VALUES))
            if kind == "characters" and isinstance(old, bytes) and old:
                at = data.draw(st.integers(0, len(old) - 1))
                new = old[:at] + bytes([data.draw(st.integers(0, 255))]) + old[at + 1 :]
            shown = "CAST(? AS TEXT)" if kind == "characters" else "?"
            try:
                connection.execute(
                    f'UPDATE {table} SET "{column}" = {shown} WHERE rowid = ?', (new, row)
                )
            except sqlite3.IntegrityError:
                continue
        connection.commit()


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_a_restore_of_any_file_is_refused_or_a_start_can_use_the_result(
    good: Path, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        state, file = folder / "state", folder / "b.db"
        shutil.copytree(good / "state", state)
        shutil.copy(good / "good.db", file)
        which = data.draw(st.sampled_from(["backup", "backup", "state", "both"]))
        if which != "state":
            damage(file, data)
        if which != "backup":
            damage(state / "state.db", data)
        before = content(state)
        try:
            restore(state, file)
        except StoreError as error:
            assert str(error).isprintable()
            assert which != "state", "what was there is not asked for"
            assert content(state) == before
            return
        assert (state / "state.db.before-restore").read_bytes() == before["state.db"]
        use(state)
        restore(state, good / "good.db")
        use(state)


# --- what was there is kept -----------------------------------------------------------------------


def test_what_a_restore_has_replaced_is_never_overwritten(good: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    shutil.copytree(good / "state", state)
    store = Store(state)
    store.sessions.add(another(id=SessionId("s-later"), name="later"), "tester")
    store.close()
    assert restore(state, good / "good.db").kept == state / "state.db.before-restore"
    (state / "state.db").write_bytes(b"damaged later")
    with pytest.raises(StoreError, match=r"for example .*state\.db\.before-restore, which the la"):
        Store(state)
    assert restore(state, good / "good.db").kept == state / "state.db.before-restore-2"
    assert (state / "state.db.before-restore-2").read_bytes() == b"damaged later"
    assert restore(state, good / "good.db").kept == state / "state.db.before-restore-3"
    done = CliRunner().invoke(
        main,
        ["restore", str(state / "state.db.before-restore")],
        env={"CLOUDTAP_STATE__DIRECTORY": str(state)},
    )
    assert done.exit_code == 0 and "state.db.before-restore-4" in " ".join(done.output.split())
    assert "later" in names(state)


@pytest.mark.parametrize(
    ("change", "is_known"),
    [
        ("UPDATE filters SET rules = '{}'", True),
        ("UPDATE audit SET at = 'now'", True),
        ("UPDATE collectors SET delivery = 'vxlan' WHERE delivery = 'port'", True),
        ("UPDATE collectors SET delivery = 'vxlan', key = 5 WHERE delivery = 'port'", False),
        ("UPDATE numbers SET number = number + 1048576", False),
    ],
)
def test_a_damaged_filter_takes_the_numbers_of_production_from_nobody(
    good: Path, tmp_path: Path, change: str, is_known: bool
) -> None:
    state = tmp_path / "state"
    shutil.copytree(good / "state", state)
    make_change(state / "state.db", change)
    assert restore(state, good / "good.db").knows_numbers is is_known
    use(state)
