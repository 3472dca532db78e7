"""A backup is of one moment and whole; a restore is refused, or complete."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from controller.store import (
    AlreadyRunning,
    BridgeRecord,
    InterfaceRecord,
    NewerSchema,
    Store,
    StoreError,
    back_up,
    restore,
)
from flows.errors import KeyHeld
from flows.model import (
    NUMBER_RANGES,
    CollectorId,
    Dpid,
    FilterId,
    Names,
    NetworkId,
    Numbers,
    PortId,
    SessionId,
    TenantName,
)
from tests.controller.store.test_collectors import SOC
from tests.controller.store.test_store import IDS, WEB, another

RED, BLUE = TenantName("red"), TenantName("blue")
S1, S2 = Dpid(0x51), Dpid(0x52)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def opened(state: Path) -> Store:
    store = Store(state)
    if not store.collectors.all():
        store.collectors.add(IDS, "tester")
        store.sessions.add(WEB, "tester")
    return store


def names(state: Path) -> list[str]:
    store = Store(state)
    found = [record.session.name for record in store.sessions.all() if not record.is_deleting]
    store.close()
    return found


def test_a_backup_of_a_running_controller_has_all_that_was_confirmed(
    state: Path, tmp_path: Path
) -> None:
    store = opened(state)
    store.sessions.add(another(name="two"), "tester")
    store.sessions.delete(WEB.id, "tester")
    store.sessions.finish_deletions([WEB.id])
    assert back_up(state, tmp_path / "b.db") == 1
    shutil.copy(state / "state.db", tmp_path / "copy.db")
    store.close()
    assert (tmp_path / "b.db").stat().st_mode & 0o777 == 0o600
    assert sorted(file.name for file in tmp_path.iterdir()) == ["b.db", "copy.db", "state"]
    restore(state, tmp_path / "b.db")
    assert names(state) == ["two"], "a deleted session is not back"
    if restorable(state, tmp_path / "copy.db"):
        assert names(state) != ["two"], "why copying the file alone is no backup"


def restorable(state: Path, file: Path) -> bool:
    try:
        restore(state, file)
    except StoreError:
        return False
    return True


def test_backups_while_sessions_are_written_are_all_whole(state: Path, tmp_path: Path) -> None:
    store, is_over = opened(state), threading.Event()

    def write() -> None:
        for n in range(200):
            if is_over.is_set():
                return
            store.sessions.add(another(id=SessionId(f"n-{n}"), name=f"n-{n}"), "tester")

    writer = threading.Thread(target=write)
    writer.start()
    counts = [back_up(state, tmp_path / f"{n}.db") for n in range(5)]
    is_over.set()
    writer.join()
    store.close()
    assert counts == sorted(counts)
    for n, count in enumerate(counts):
        assert restore(state, tmp_path / f"{n}.db").sessions == count
        assert len(names(state)) == count


def test_a_restore_is_refused_while_a_controller_runs(state: Path, tmp_path: Path) -> None:
    store = opened(state)
    back_up(state, tmp_path / "b.db")
    with pytest.raises(AlreadyRunning):
        restore(state, tmp_path / "b.db")
    assert [record.session for record in store.sessions.all()] == [WEB]
    store.close()


def refuse_link(old: Path, new: Path) -> None:
    """As on a file system without hard links."""
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize("link", [os.link, refuse_link], ids=["links", "no links"])
def test_a_restore_can_be_undone(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: Callable[..., None]
) -> None:
    monkeypatch.setattr(os, "link", link)
    store = opened(state)
    back_up(state, tmp_path / "b.db")
    store.sessions.add(another(name="two"), "tester")
    store.close()
    restore(state, tmp_path / "b.db")
    assert names(state) == ["web"]
    restore(state, state / "state.db.before-restore")
    assert names(state) == ["two", "web"]
    assert (state / "state.db.before-restore").stat().st_mode & 0o777 == 0o600


def test_a_restore_makes_a_damaged_state_good_again(state: Path, tmp_path: Path) -> None:
    opened(state).close()
    back_up(state, tmp_path / "b.db")
    (state / "state.db").write_bytes(b"")
    with pytest.raises(StoreError, match="cloudtap restore FILE"):
        Store(state)
    restore(state, tmp_path / "b.db")
    assert names(state) == ["web"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_restore_that_fails_at_the_last_moment_changes_nothing(
    state: Path, tmp_path: Path, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(state)
    back_up(state, tmp_path / "b.db")
    store.sessions.add(another(name="two"), "tester")
    crashed = tmp_path / "crashed"
    shutil.copytree(state, crashed)
    store.close()
    assert (crashed / "state.db-wal").exists(), "that is what a crash leaves"
    seen: list[bool] = []

    def fail(*arguments: object) -> None:
        seen.append((crashed / "state.db").exists())
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os if failing == "fsync" else Path, failing, fail)
        with pytest.raises(StoreError, match="cannot be written"):
            restore(crashed, tmp_path / "b.db")
    assert seen and all(seen), "there is a database at every moment"
    assert names(crashed) == ["two", "web"]
    restore(crashed, tmp_path / "b.db")
    assert names(crashed) == ["web"]


def test_a_restore_into_a_new_machine(state: Path, tmp_path: Path) -> None:
    opened(state).close()
    back_up(state, tmp_path / "b.db")
    restore(tmp_path / "new" / "state", tmp_path / "b.db")
    assert names(tmp_path / "new" / "state") == ["web"]


@pytest.mark.parametrize("damage", ["empty", "text", "short", "flipped", "row", "newer", "none"])
def test_a_file_that_is_no_whole_backup_is_refused_and_nothing_is_changed(
    state: Path, tmp_path: Path, damage: str
) -> None:
    opened(state).close()
    file = tmp_path / "b.db"
    back_up(state, file)
    content = file.read_bytes()
    if damage in ("row", "newer"):
        with sqlite3.connect(file) as connection:
            connection.execute(
                "UPDATE schema SET version = 99"
                if damage == "newer"
                else "UPDATE sessions SET direction = 7, enabled = 9"
            )
        connection.close()
    elif damage == "none":
        file.unlink()
    else:
        file.write_bytes(
            {
                "empty": b"",
                "text": b"tenants: []" * 100,
                "short": content[: len(content) // 2],
                "flipped": content[:4096] + b"\xa5" * 20_000 + content[24_096:],
            }[damage]
        )
    before = (state / "state.db").read_bytes()
    error = NewerSchema if damage == "newer" else StoreError
    with pytest.raises(error) as caught:
        restore(state, file)
    assert str(file) in str(caught.value) and str(caught.value).isprintable()
    assert (state / "state.db").read_bytes() == before
    assert names(state) == ["web"]


def test_a_backup_never_overwrites_and_leaves_nothing_half(state: Path, tmp_path: Path) -> None:
    opened(state).close()
    (tmp_path / "b.db").write_text("mine")
    with pytest.raises(StoreError, match="exists: name a new file"):
        back_up(state, tmp_path / "b.db")
    assert (tmp_path / "b.db").read_text() == "mine"
    with pytest.raises(StoreError, match="there is no state database"):
        back_up(tmp_path / "none", tmp_path / "c.db")
    with pytest.raises(StoreError, match="cannot be written"):
        back_up(state, tmp_path / "no" / "folder.db")
    (state / "state.db").write_bytes(b"")
    with pytest.raises(StoreError, match="no state database that can be used"):
        back_up(state, tmp_path / "c.db")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["b.db", "state"]


# --- what bridges have is not set back ------------------------------------------------------------


def names_of(*names: str, tenant: TenantName = RED) -> Names:
    """Names of every kind."""
    sessions = [SessionId(name) for name in names]
    return Names(
        network={NetworkId(name): tenant for name in names},
        port={PortId(name): tenant for name in names},
        session=sessions,
        tag={f"network:{name}": tenant for name in names},
        filter=[FilterId(name) for name in names],
        collector=[CollectorId(name) for name in names],
        meter=sessions,
    )


MANY = 200


def given(numbers: Numbers) -> dict[str, set[int]]:
    """The numbers of each kind."""
    return {kind: set(getattr(numbers, kind).values()) for kind in NUMBER_RANGES}


def share(one: Numbers, other: Numbers) -> bool:
    """Whether any number of one is in the other, too."""
    both = given(other)
    return any(numbers & both[kind] for kind, numbers in given(one).items())


@pytest.mark.parametrize("is_closed", [True, False], ids=["closed", "crashed"])
def test_numbers_that_bridges_have_are_given_to_nobody_else_after_a_restore(
    state: Path, tmp_path: Path, is_closed: bool
) -> None:
    store = opened(state)
    old = store.numbers_for(names_of("old"))
    back_up(state, tmp_path / "b.db")
    new = store.numbers_for(names_of("new"))
    store.sessions.add(another(name="two"), "tester")
    last = max(store.numbered().session.values())
    if is_closed:
        store.close()
    else:
        crashed = tmp_path / "crashed"
        shutil.copytree(state, crashed)
        store.close()
        state = crashed
    assert restore(state, tmp_path / "b.db").knows_numbers

    store = Store(state)
    assert [record.session.name for record in store.sessions.all()] == ["web"]
    later = store.numbers_for(names_of("later", tenant=BLUE))
    assert not share(later, new) and not share(later, old)
    assert min(given(later)["session"]) > last, "what counts the copies of gone sessions"
    assert store.numbers_for(names_of("old")) == old
    assert store.numbers_for(names_of("new")) == new
    store.close()


def test_what_was_seen_of_bridges_is_not_set_back(state: Path, tmp_path: Path) -> None:
    """Numbers are released when all bridges were told: none that may be away is missing."""
    store = opened(state)
    first = BridgeRecord(S1, "s1", (InterfaceRecord("s1-eth1", "web", 1),))
    store.placements.remember_bridges([first])
    store.installed_sessions.replace(S1, [1])
    back_up(state, tmp_path / "b.db")
    second = BridgeRecord(S2, "s2", (InterfaceRecord("s2-eth1", "db", 1),), "", "row", None)
    store.placements.remember_bridges([second])
    store.placements.remember_places({"port db": (S2, "s2-eth1")})
    store.installed_sessions.replace(S2, [1, 2])
    store.close()
    restore(state, tmp_path / "b.db")
    store = Store(state)
    assert store.placements.bridges() == (first, second)
    assert store.placements.places() == {"port db": (S2, "s2-eth1")}
    assert store.installed_sessions.sessions_by_bridge() == {S1: {1}, S2: {1, 2}}
    store.close()


def test_names_that_only_the_backup_has_keep_numbers_that_are_free(
    state: Path, tmp_path: Path
) -> None:
    """As when somebody began with no sessions, and has found a backup later."""
    store = opened(state)
    old = store.numbers_for(names_of("old"))
    taken = store.numbers_for(names_of("x"))
    store.close()
    back_up(state, tmp_path / "b.db")

    shutil.rmtree(state)
    store = Store(state)
    new = store.numbers_for(names_of("new"))
    assert share(new, old) or share(new, taken), "it begins at the start"
    store.close()
    restore(state, tmp_path / "b.db")
    store = Store(state)
    assert store.numbers_for(names_of("new")) == new
    kept = [store.numbered(), store.numbers_for(names_of("old")), store.numbers_for(names_of("x"))]
    assert store.numbered().session.keys() >= {WEB.id}, "a session goes on to count"
    for kind, numbers in given(kept[0]).items():
        assert len(numbers) == len(getattr(kept[0], kind)), f"a {kind} number is shared"
    assert kept[2].network == taken.network, "nobody has it"
    assert not share(kept[1], new)
    store.close()


def make_old(file: Path) -> None:
    """Have the numbers kept as by a version that did not know whose they are."""
    with sqlite3.connect(file) as connection:
        connection.execute(
            "UPDATE numbers SET key = substr(key, instr(key, '/') + 1) WHERE key LIKE '%/%'"
        )
        connection.execute("UPDATE schema SET version = 8")
    connection.close()


@pytest.mark.parametrize("older", ["backup", "state", "both"])
def test_numbers_without_a_tenant_are_given_to_nobody_else_after_a_restore(
    state: Path, tmp_path: Path, older: str
) -> None:
    store = opened(state)
    old = store.numbers_for(names_of("old"))
    back_up(state, tmp_path / "b.db")
    new = store.numbers_for(names_of("new"))
    store.close()
    for name, file in (("backup", tmp_path / "b.db"), ("state", state / "state.db")):
        if older in (name, "both"):
            make_old(file)
    assert restore(state, tmp_path / "b.db").knows_numbers
    store = Store(state)
    red = names_of("old"), names_of("new")
    if store.lacks_tenants:
        store.give_tenants(names_of("old", "new"))
    assert store.numbers_for(red[0]) == old and store.numbers_for(red[1]) == new
    for name in ("old", "new", "later"):
        blue = store.numbers_for(replace(names_of(f"{name}-2"), tag={f"network:{name}": BLUE}))
        assert not share(blue, old) and not share(blue, new)
    store.close()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda file: file.write_bytes(b""),
    "text": lambda file: file.write_bytes(b"tenants: []" * 1000),
    "cut off": lambda file: os.truncate(file, 5000),
    "newer": lambda file: change(file, "UPDATE schema SET version = 99"),
    "row": lambda file: change(file, "UPDATE numbers SET number = -number"),
}


def change(file: Path, statement: str) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize("damage", DAMAGES)
def test_without_the_state_new_numbers_begin_after_a_gap(
    state: Path, tmp_path: Path, damage: str
) -> None:
    store = opened(state)
    old = store.numbers_for(names_of("old"))
    back_up(state, tmp_path / "b.db")
    new = store.numbers_for(names_of(*(f"new-{n}" for n in range(MANY))))
    store.close()
    DAMAGES[damage](state / "state.db")
    assert not restore(state, tmp_path / "b.db").knows_numbers
    store = Store(state)
    assert store.numbers_for(names_of("old")) == old
    later = store.numbers_for(names_of(*(f"later-{n}" for n in range(MANY)), tenant=BLUE))
    assert not share(later, old) and not share(later, new)
    store.close()


def test_what_comes_back_without_the_state_shares_no_link_tag_with_what_came_after_the_backup(
    state: Path, tmp_path: Path
) -> None:
    """It was removed after the backup; a bridge that is away has what was given meanwhile."""
    store = opened(state)
    store.numbers_for(names_of("old"))
    back_up(state, tmp_path / "b.db")
    store.release_all_but(Numbers())
    tags: set[int] = set()
    for n in range(MANY):  # each is told to all bridges, and goes
        tags |= {*store.numbers_for(names_of(f"new-{n}", tenant=BLUE)).tag.values()}
        store.release_all_but(Numbers())
    store.close()
    (state / "state.db").unlink()
    restore(state, tmp_path / "b.db")
    store = Store(state)
    assert tags and not tags & {*store.numbers_for(names_of("old")).tag.values()}
    store.close()


def test_numbers_of_a_state_that_was_moved_away_are_not_the_first_ones_to_be_given(
    state: Path,
) -> None:
    store = opened(state)
    old = store.numbers_for(names_of(*(f"old-{n}" for n in range(MANY))))
    store.close()
    (state / "state.db").unlink()
    store = Store(state)
    later = store.numbers_for(names_of(*(f"later-{n}" for n in range(MANY)), tenant=BLUE))
    assert not share(later, old)
    store.close()


def test_all_numbers_can_be_given_after_a_gap(state: Path, tmp_path: Path) -> None:
    opened(state).close()
    back_up(state, tmp_path / "b.db")
    (state / "state.db").unlink()
    restore(state, tmp_path / "b.db")
    store = Store(state)
    tags = store.numbers_for(Names(tag={f"network:{n}": RED for n in range(5000)})).tag
    assert sorted(tags.values()) == list(NUMBER_RANGES["tag"])
    store.close()


@pytest.mark.parametrize("given_up", [False, True], ids=["in use", "held"])
def test_tunnel_keys_that_bridges_may_send_with_are_held_after_a_restore(
    state: Path, tmp_path: Path, given_up: bool
) -> None:
    store = opened(state)
    back_up(state, tmp_path / "b.db")
    store.collectors.add(SOC, "tester")
    if given_up:
        store.collectors.delete(SOC.id, "tester")
    store.close()
    restore(state, tmp_path / "b.db")

    store = Store(state)
    theirs = replace(SOC, id=CollectorId("c-9"), tenant=BLUE, name="theirs")
    with pytest.raises(KeyHeld):
        store.collectors.add(theirs, "tester")
    store.release_keys(store.desired().last_held)
    store.collectors.add(theirs, "tester")
    store.close()
