"""Runs ovs-vsctl for commands that set up something on the host where they are run."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from controller.cli.client import Failure

VSCTL = ("ovs-vsctl", "--timeout=10")


def vsctl_command(database: str | None) -> tuple[str, ...]:
    """The beginning of an ovs-vsctl command for a database; None: that of this host."""
    return (*VSCTL, *(() if database is None else (f"--db={database}",)))


def run(command: Sequence[str]) -> str:
    """What a command prints.

    Raises:
        Failure: it is missing, or has failed.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise Failure(f"cannot start {command[0]!r}: {error.strerror}") from error
    if done.returncode:
        raise Failure(done.stderr.strip() or f"{command[0]} has failed")
    return done.stdout
