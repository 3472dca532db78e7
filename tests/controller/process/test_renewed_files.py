"""What is read from files that are replaced: the last valid content counts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from controller.process import (
    LOOK_AT_FILES_S,
    TOKEN_BYTES_MAX,
    Access,
    RenewedFiles,
    UnusableFile,
    read_file,
)


class Pair:
    """Two files that are read together; the content of both must be the same."""

    def __init__(self, folder: Path) -> None:
        self.paths = folder / "one", folder / "two"
        self.now = self.reads = 0.0
        self.renewed = RenewedFiles(
            self.paths, self.read, kept="the old one is kept", clock=lambda: self.now
        )

    def read(self) -> bytes:
        self.reads += 1
        one, two = (read_file(path, TOKEN_BYTES_MAX, Access.SECRET) for path in self.paths)
        if one != two:
            raise UnusableFile(self.paths[0], "they do not fit")
        return one

    def write(self, content: bytes, *paths: Path) -> None:
        for path in paths or self.paths:
            new = path.with_suffix(".new")
            new.touch(mode=0o600)
            new.write_bytes(content)
            new.replace(path)

    def look(self) -> bool:
        self.now += LOOK_AT_FILES_S
        return self.renewed.look_again()


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    made = Pair(tmp_path)
    made.write(b"first")
    assert made.renewed.value == b"first" and made.renewed.problem is None
    return made


def test_files_that_change_are_used_once_all_of_them_fit(pair: Pair) -> None:
    with capture_logs() as logs:
        pair.write(b"second", pair.paths[0])
        for _ in range(3):
            assert not pair.look()
            assert pair.renewed.value == b"first"
            assert pair.renewed.problem == f"the old one is kept: {pair.paths[0]}: they do not fit"
        pair.write(b"second", pair.paths[1])
        assert pair.look()
    assert pair.renewed.value == b"second" and pair.renewed.problem is None
    assert [each["event"] for each in logs] == ["changed files not used", "changed files used"]


@pytest.mark.parametrize("kind", ["open", "fifo", "missing", "folder"])
def test_a_file_that_cannot_be_used_leaves_the_old_one_in_use_until_it_is_back(
    pair: Pair, kind: str
) -> None:
    path = pair.paths[1]
    away = path.rename(path.with_suffix(".away"))
    if kind == "open":
        path.touch(mode=0o644)
    elif kind == "fifo":
        os.mkfifo(path, 0o600)
    elif kind == "folder":
        path.mkdir()
    assert not pair.look()
    assert pair.renewed.value == b"first"
    assert pair.renewed.problem is not None and str(path) in pair.renewed.problem
    if kind == "folder":
        path.rmdir()
    away.rename(path)
    pair.look()
    assert pair.renewed.value == b"first" and pair.renewed.problem is None


def test_files_that_stay_the_same_are_read_once_and_looked_at_once_a_second(pair: Pair) -> None:
    for _ in range(5):
        assert not pair.look()
    assert pair.reads == 1
    pair.write(b"second")
    assert not pair.renewed.look_again(), "the last look was in the same second"
    assert pair.look() and pair.renewed.value == b"second"


def test_files_with_the_same_content_and_times_that_were_exchanged_are_read(pair: Pair) -> None:
    found = pair.paths[0].stat()
    pair.write(b"other")
    for path in pair.paths:
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert pair.look() and pair.renewed.value == b"other"


def test_files_that_never_were_valid_are_an_error_and_used_once_they_are(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    with pytest.raises(FileNotFoundError):
        _ = pair.renewed.value
    assert pair.renewed.problem is None, "whoever takes the value says it"
    pair.write(b"first")
    assert pair.look() and pair.renewed.value == b"first"
