"""The state directory: closed to others, no symbolic links, and whole or not used at all."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from controller.store import AlreadyRunning, NewerSchema, Store, StoreError, tables
from controller.store.content_check import COLUMN_RULES
from controller.store.database import APPLICATION_ID
from flows.errors import CloudtapError
from flows.model import Dpid
from tests.controller.store.test_store import IDS, WEB, another


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with one session, one placement and one counter, after an orderly end."""
    folder = tmp_path / "state"
    store = Store(folder)
    store.collectors.add(IDS, "tester")
    store.sessions.add(WEB, "tester")
    store.installed_sessions.add(Dpid(1), [1])
    store.close()
    return folder


def refusal(state: Path) -> str:
    """Why a store cannot be opened; the database must be left as it is."""
    file = state / "state.db"
    before = file.read_bytes() if file.is_file() else None
    with pytest.raises(StoreError) as caught:
        Store(state)
    assert before == (file.read_bytes() if before is not None else None)
    return str(caught.value)


# --- permissions and links -----------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o770, 0o777, 0o701])
def test_a_state_directory_that_is_open_to_others_is_refused_with_what_to_type(
    state: Path, mode: int
) -> None:
    state.chmod(mode)
    said = refusal(state)
    assert f"state directory {state}: is open to other users of this machine" in said
    subprocess.run(said.partition("type `")[2].removesuffix("`"), shell=True, check=True)
    Store(state).close()


def test_a_new_state_directory_and_all_its_files_belong_to_their_owner_alone(state: Path) -> None:
    store = Store(state)
    assert state.stat().st_mode & 0o777 == 0o700
    for file in state.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600, file
    store.close()


def test_files_of_an_earlier_version_are_closed_to_others(state: Path) -> None:
    (state / "state.db").chmod(0o644)
    Store(state).close()
    assert (state / "state.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["lock", "state.db", "state.db-wal"])
def test_a_symbolic_link_in_the_state_directory_is_refused_and_its_target_left_alone(
    state: Path, tmp_path: Path, name: str
) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    (state / name).unlink(missing_ok=True)
    (state / name).symlink_to(target)
    said = refusal(state)
    assert str(state / name) in said and "remove it" in said
    assert target.read_text() == "precious"


@pytest.mark.parametrize("name", ["lock", "state.db"])
def test_a_fifo_or_a_directory_in_place_of_a_file_is_refused_at_once(
    state: Path, name: str
) -> None:
    (state / name).unlink()
    os.mkfifo(state / name, 0o600)
    assert str(state / name) in refusal(state)
    (state / name).unlink()
    (state / name).mkdir()
    assert str(state / name) in refusal(state)


# --- damage --------------------------------------------------------------------------------


def empty(file: Path) -> None:
    file.write_bytes(b"")


def short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:5000])


def text(file: Path) -> None:
    file.write_text("tenants: [red]\n" * 1000)


def foreign(file: Path) -> None:
    file.unlink()
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE other (x)")
    connection.close()


def of_another_program(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA application_id = 7")
    connection.close()


@pytest.mark.parametrize("damage", [empty, short, text, foreign, of_another_program])
def test_a_file_that_is_no_state_database_is_never_taken_for_a_new_one(
    state: Path, damage: Callable[[Path], None]
) -> None:
    damage(state / "state.db")
    said = refusal(state)
    assert "is damaged" in said and "cloudtap restore FILE" in said


def test_a_log_without_its_database_is_not_a_new_beginning(state: Path) -> None:
    (state / "state.db").rename(state / "state.db-wal")
    assert "is missing, and state.db-wal of it is there" in refusal(state)


CHANGES = [
    ("UPDATE schema SET version = 0", "its schema version is [0]"),
    ("UPDATE schema SET version = -3", "its schema version is [-3]"),
    ("UPDATE schema SET version = 'x'", "its schema version is"),
    ("DELETE FROM schema", "its schema version is []"),
    ("INSERT INTO schema VALUES (6)", "its schema version is ["),
    ("DROP TABLE counts", "table 'counts' is missing"),
    ("DROP TABLE schema", "it has no table of cloudtap"),
    ("ALTER TABLE sessions DROP COLUMN stopped", "column 'stopped' of table 'sessions'"),
    ("UPDATE holdings SET bridge = '-1'", "bridge is '-1'"),
    ("UPDATE holdings SET bridge = 'xyz'", "bridge is 'xyz'"),
    ("UPDATE holdings SET session = 'many'", "session is 'many'"),
    ("UPDATE numbers SET kind = 'planet'", "kind is 'planet'"),
    ("UPDATE numbers SET number = 'x'", "number is 'x'"),
    ("INSERT INTO bridges VALUES ('0x00000000000001', 's1')", "dpid is '0x00000000000001'"),
    ("UPDATE sessions SET name = 'a' || char(27) || '[31m'", "name is 'a\\x1b[31m'"),
    ("UPDATE sessions SET name = 'a' || char(0) || 'b'", "name is 'a\\x00b'"),
    ("UPDATE sqlite_sequence SET seq = 9223372036854775807", "seq is 9223372036854775807"),
    (
        "CREATE TRIGGER t AFTER INSERT ON audit BEGIN DELETE FROM sessions; END",
        "it has a trigger 't'",
    ),
    ("CREATE VIEW v AS SELECT * FROM sessions", "it has a view 'v'"),
    ("UPDATE sessions SET direction = 'up'", "session 'web' cannot be read"),
    ("UPDATE sessions SET mode = 'x'", "session 'web' cannot be read"),
    ("UPDATE sessions SET number = 99999", "session 'web' cannot be read"),
    ("UPDATE sessions SET enabled = 7", "enabled is 7"),
    ("UPDATE sessions SET created_at = 'now-ish'", "created_at is 'now-ish'"),
    ("UPDATE sessions SET max_packets = -5", "max_packets is -5"),
    ("UPDATE sessions SET collector = 'gone'", "refers to nothing"),
    ("UPDATE collectors SET delivery = 'post'", "collector 'ids' cannot be read"),
    ("UPDATE collectors SET tenant_tag = 'x'", "collector 'ids' cannot be read"),
    ("DELETE FROM sensors", "collector 'ids' cannot be read"),
    (
        "INSERT INTO filters VALUES ('f', 'red', 'f', '2026-01-01T00:00:00', 1, '[')",
        "rules is '['",
    ),
    (
        "INSERT INTO filters VALUES ('f', 'red', 'f', '2026-01-01T00:00:00', 1, '{}')",
        "filter 'f' cannot be read",
    ),
    ("ALTER TABLE sessions DROP COLUMN oversize", "column 'oversize' of table 'sessions'"),
    ("ALTER TABLE once DROP COLUMN answer", "column 'answer' of table 'once' is missing"),
    ("UPDATE sessions SET rate_unit = 'pps', rate = -1", "session 'web' cannot be read"),
    ("UPDATE sessions SET rate = 5", "session 'web' cannot be read"),
    ("UPDATE sessions SET created_at = '2026-01-01T00:00:00'", "has no time zone"),
    ("UPDATE collectors SET delivery = 'vxlan', key = 5", "collector 'ids' cannot be read"),
    ("UPDATE collectors SET delivery = 'gre', key = -5", "collector 'ids' cannot be read"),
    ("UPDATE numbers SET number = 1048576 WHERE kind = 'session'", "number is 1048576"),
    ("INSERT INTO holdings VALUES ('0000000000000001', 1048576)", "session is 1048576"),
    ("UPDATE audit SET at = 'now'", "the audit log cannot be read"),
    ("UPDATE audit SET at = '2026-01-01T00:00:00'", "has no time zone"),
    ("UPDATE audit SET detail = '[7]'", "'[7]' is no object of JSON"),
    ("UPDATE audit SET detail = '{'", "the audit log cannot be read"),
    (f"UPDATE audit SET detail = '{'[' * 100_000}'", "the audit log cannot be read"),
    ("UPDATE audit SET number = 9223372036854775807 WHERE number = 1", "number is 922337203"),
    ("UPDATE audit SET who = CAST(x'ff' AS TEXT)", "Could not decode"),
    (
        "INSERT INTO once VALUES ('k', 'd', 'o', NULL, '2026-01-01T00:00:00', 'red')",
        "an Idempotency-Key cannot be read",
    ),
    (
        "INSERT INTO held_keys VALUES (1, 'red', 'vxlan', 5, 'nowhere')",
        "held key 1 cannot be read",
    ),
    (
        "PRAGMA writable_schema = 1; UPDATE sqlite_schema SET sql = replace(sql, 'oversize', "
        "'oversizf') WHERE name = 'sessions'",
        "column 'oversize' of table 'sessions'",
    ),
    ("UPDATE schema SET version = 1", "already exists"),
]
"""What no database of ours has, and what is said of it."""


def make_change(file: Path, change: str) -> None:
    """Change a database as SQL says."""
    with sqlite3.connect(file) as connection:
        connection.executescript(change)
    connection.close()


@pytest.mark.parametrize(("change", "words"), CHANGES)
def test_what_comes_out_of_the_database_is_checked_like_input(
    state: Path, change: str, words: str
) -> None:
    make_change(state / "state.db", change)
    said = refusal(state)
    assert words in said, said
    assert "is damaged" in said and said.isprintable() and "cloudtap restore FILE" in said


def test_every_table_that_is_read_at_the_start_has_rules_for_its_values() -> None:
    assert set(COLUMN_RULES) == set(tables.metadata.tables) - {"schema"}
    for table, rules in COLUMN_RULES.items():
        assert set(rules) <= set(tables.metadata.tables[table].columns.keys())


def test_a_newer_schema_is_said_before_its_rows_are_looked_at(state: Path) -> None:
    with sqlite3.connect(state / "state.db") as connection:
        connection.execute("UPDATE schema SET version = 99")
        connection.execute("DROP TABLE counts")
    connection.close()
    with pytest.raises(NewerSchema, match="start the newer cloudtap"):
        Store(state)


@pytest.mark.parametrize("seed", range(40))
def test_flipped_bytes_are_a_sentence_or_change_a_value_that_may_be(
    state: Path, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    copy = tmp_path / "copy"
    shutil.copytree(state, copy)
    content = bytearray((copy / "state.db").read_bytes())
    for _ in range(chance.choice([1, 3, 30])):
        at = chance.randrange(100 if seed % 4 == 0 else len(content))
        content[at] ^= 1 << chance.randrange(8)
    (copy / "state.db").write_bytes(content)
    try:
        store = Store(copy)
    except StoreError as error:
        assert str(error).isprintable()
        return
    try:  # what was not found at the start is a sentence later
        store.desired()
        store.audit.entries()
        store.sessions.add(another(name="more"), "tester")
    except CloudtapError as error:
        assert str(error).isprintable()
    finally:
        store.close()


def test_a_database_of_ours_says_so_in_its_header(state: Path) -> None:
    with sqlite3.connect(state / "state.db") as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        connection.execute("PRAGMA application_id = 0")
    connection.close()
    Store(state).close()
    with sqlite3.connect(state / "state.db") as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    connection.close()


# --- while running -------------------------------------------------------------------------


def test_nothing_is_written_into_a_database_that_was_removed(state: Path, tmp_path: Path) -> None:
    store = Store(state)
    shutil.rmtree(state)
    store.retry()
    assert "was removed or replaced while the controller runs" in store.problem
    with pytest.raises(StoreError, match="was removed or replaced"):
        store.sessions.add(another(name="other"), "tester")
    with pytest.raises(StoreError, match="was removed or replaced"):
        store.prove_writable()
    assert not state.exists()
    store.close()


@pytest.mark.parametrize("name", ["state.db", "state.db-wal"])
def test_nothing_is_written_while_a_file_is_away_and_all_goes_on_when_it_is_back(
    state: Path, name: str
) -> None:
    store = Store(state)
    (state / name).rename(state / "away")
    with pytest.raises(StoreError, match="was removed or replaced"):
        store.sessions.add(another(name="other"), "tester")
    (state / name).write_bytes((state / "away").read_bytes())
    with pytest.raises(StoreError, match="was removed or replaced"):
        store.sessions.add(another(name="other"), "tester")
    (state / "away").rename(state / name)
    store.retry()
    assert not store.problem
    store.sessions.add(another(name="other"), "tester")
    store.close()
    again = Store(state)
    assert [record.session.name for record in again.sessions.all()] == ["other", "web"]
    again.close()


def test_the_lock_cannot_be_taken_by_removing_its_file_which_is_made_again(state: Path) -> None:
    store = Store(state)
    for remake in (store.retry, store.prove_writable):
        (state / "lock").unlink()
        with pytest.raises(AlreadyRunning, match=r"another controller \(pid unknown\)"):
            Store(state)
        with capture_logs() as logs:
            remake()
        assert [entry["event"] for entry in logs] == ["lock file made again"]
        assert not store.problem
        with pytest.raises(AlreadyRunning, match=rf"another controller \(pid {os.getpid()}\)"):
            Store(state)
    (state / "lock").rename(state / "old")
    (state / "lock").write_text("1\n")
    store.retry()
    assert (state / "lock").read_text() == f"{os.getpid()}\n"
    store.close()
    Store(state).close()


def test_who_has_lost_the_lock_file_to_another_process_writes_nothing_and_says_so(
    state: Path,
) -> None:
    store = Store(state)
    (state / "lock").unlink()
    with (state / "lock").open("w") as taken:  # by a version that knows only this lock
        taken.write("4711\n")
        taken.flush()
        fcntl.flock(taken, fcntl.LOCK_EX)
        store.retry()
        assert "another controller (pid 4711) uses state directory" in store.problem
        with pytest.raises(StoreError, match="another controller"):
            store.sessions.add(another(name="other"), "tester")
    store.retry()
    assert not store.problem
    store.sessions.add(another(name="other"), "tester")
    store.close()


def test_a_link_in_place_of_the_lock_file_is_said_and_its_target_left_alone(
    state: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    store = Store(state)
    (state / "lock").unlink()
    (state / "lock").symlink_to(target)
    store.retry()
    assert "lock is a symbolic link, not a file of cloudtap's: remove it" in store.problem
    assert target.read_text() == "precious"
    (state / "lock").unlink()
    store.retry()
    assert not store.problem
    store.close()


def test_the_user_of_a_directory_of_another_one_is_named(state: Path) -> None:
    os.chown(state, 65534, 65534)
    words = refusal(state)
    assert "belongs to user nobody" in words and "`runuser -u nobody -- ...`" in words, words
    os.chown(state, 54321, 0)
    assert "belongs to user 54321" in refusal(state)


@pytest.mark.parametrize("name", ["state.db", "lock"])
def test_a_file_of_root_in_the_directory_of_another_user_is_named_with_what_to_type(
    name: str,
) -> None:
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        folder = Path(place) / "state"
        Store(folder).close()
        for each in (folder, *folder.iterdir()):
            os.chown(each, 65534, 65534)
        os.chown(folder / name, 0, 0)
        (folder / name).chmod(0o600)
        os.seteuid(65534)
        try:
            with pytest.raises(StoreError, match=f"`chown nobody {folder / name}` as root"):
                Store(folder)
        finally:
            os.seteuid(0)
