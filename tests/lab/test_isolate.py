"""tools/isolate hides the state of cloudtap and the tmux servers of the machine that it runs on.

The tests run in one isolated place already; it is the machine outside for a second one.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.conftest import ROOT

OUTSIDE = {key: value for key, value in os.environ.items() if key != "CLOUDTAP_ISOLATED"}


def isolated(*command: str, **environment: str) -> str:
    """What a command prints in a second isolated place."""
    return subprocess.run(
        [ROOT / "tools" / "isolate", "--no-ovs", *command],
        env=OUTSIDE | environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


@pytest.mark.parametrize("folder", ["/var/lib/cloudtap", "/etc/cloudtap", "/run/cloudtap"])
def test_folders_of_cloudtap_are_empty_inside_and_untouched_outside(folder: str) -> None:
    file = Path(folder, "of-the-machine")
    file.write_text("as it was")
    try:
        seen = isolated("sh", "-c", f"find {folder} -type f; echo changed > {file}; cat {file}")

        assert seen == "changed\n"
        assert file.read_text() == "as it was"
    finally:
        file.unlink()


@pytest.mark.parametrize("folder", [".local/state", "elsewhere"])
def test_the_state_of_a_user_is_hidden_and_keeps_its_owner(folder: str, tmp_path: Path) -> None:
    state = tmp_path / folder / "cloudtap"
    state.mkdir(parents=True, mode=0o700)
    (state / "state.db").write_text("sessions")
    os.chown(state, 65534, 65534)
    settings = {"HOME": str(tmp_path)}
    if folder == "elsewhere":
        settings["XDG_STATE_HOME"] = str(tmp_path / folder)

    seen = isolated("sh", "-c", f"ls {state}; stat -c '%u %a' {state}", **settings)

    assert seen == "65534 700\n"
    assert (state / "state.db").read_text() == "sessions"


def test_a_missing_state_folder_is_made_for_the_owner_of_the_home(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    isolated("true", HOME=str(tmp_path), XDG_STATE_HOME="")

    for folder in (".local", ".local/state", ".local/state/cloudtap"):
        found = (tmp_path / folder).stat()
        assert (found.st_uid, found.st_mode & 0o777) == (65534, 0o700)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A tmux server outside: the environment of a shell in it."""
    environment = OUTSIDE | {"TMUX_TMPDIR": str(tmp_path), "TERM": "xterm"}
    environment.pop("TMUX", None)
    tmux = ["tmux", "-f", "/dev/null"]
    start = [*tmux, "new-session", "-d", "-s", "outside", "-P", "-F", "#{socket_path},#{pid},0"]
    told = subprocess.run(start, env=environment, check=True, capture_output=True, text=True)
    yield {"TMUX_TMPDIR": str(tmp_path), "TMUX": told.stdout.strip(), "TERM": "xterm"}
    subprocess.run([*tmux, "kill-server"], env=environment, check=True)


def test_tmux_inside_joins_no_server_outside(server: dict[str, str]) -> None:
    inside = "tmux -f /dev/null new-session -d -s inside && tmux list-sessions -F '#{session_name}'"

    assert isolated("sh", "-c", inside, **server) == "inside\n"
    assert isolated("sh", "-c", 'echo "${TMUX:-none}"', **server) == "none\n"
    listed = subprocess.run(
        ["tmux", "list-sessions", "-F", "#{session_name}"],
        env=OUTSIDE | server,
        check=True,
        capture_output=True,
        text=True,
    )
    assert listed.stdout == "outside\n"
