"""The TLS files for databases: looked at before each connection."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from controller.databases import TlsFiles
from controller.databases.remote import connect, explain


@pytest.mark.parametrize("kind", ["open", "fifo", "missing"])
def test_a_key_that_is_no_private_file_is_not_used(tmp_path: Path, kind: str) -> None:
    files = {name: tmp_path / name for name in ("key", "certificate", "authority")}
    for path in files.values():
        path.touch(mode=0o600)
    key = files["key"]
    if kind == "open":
        key.chmod(0o644)
    else:
        key.unlink()
    if kind == "fifo":
        os.mkfifo(key, 0o600)
    words = {
        "open": f"type `chmod g-w,o= {key}`",
        "fifo": "it is a FIFO",
        "missing": "does not exist",
    }

    with pytest.raises(OSError, match=words[kind]) as refused:
        TlsFiles(*map(str, files.values())).context()

    sentence = explain("ssl:192.0.2.7:6640", refused.value)
    assert sentence.startswith("ssl:192.0.2.7:6640 cannot be reached: ") and str(key) in sentence


@pytest.mark.parametrize("host", ["a" * 64, f"db.{'a' * 64}.example", "db..example"])
def test_a_host_that_cannot_be_looked_up_is_said(host: str) -> None:
    remote = f"tcp:{host}:6640"
    with pytest.raises(OSError) as refused:
        asyncio.run(connect(remote, None))
    assert explain(remote, refused.value) == (
        f"{remote} cannot be reached: {host!r} is no name of a host"
    )
