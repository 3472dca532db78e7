"""`cloudtap restore` says when it cannot know which numbers bridges have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from controller.cli import main
from controller.store import Store


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_restore_without_a_state_says_what_to_look_after(tmp_path: Path, is_lost: bool) -> None:
    state, file = tmp_path / "state", tmp_path / "b.db"
    Store(state).close()

    def cloudtap(*words: str) -> str:
        done = CliRunner().invoke(main, words, env={"CLOUDTAP_STATE__DIRECTORY": str(state)})
        assert done.exit_code == 0, done.output
        return " ".join(done.output.split())

    cloudtap("backup", str(file))
    if is_lost:
        (state / "state.db").unlink()
    told = json.loads(cloudtap("restore", str(file), "-o", "json"))
    assert told["sessions"] == 0 and ("all bridges can connect" in str(told)) is is_lost
    if is_lost:
        (state / "state.db").write_bytes(b"")
    said = cloudtap("restore", str(file))
    assert "is the backup now, with 0 sessions" in said
    assert ("link tags" in said and "mod-port" in said) is is_lost
