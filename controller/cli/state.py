"""cloudtap backup, restore: the state database of this machine, as one file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import click

from controller.cli.client import HAS_CHANGED, Failure
from controller.cli.options import output_option, with_options
from controller.cli.output import print_done
from flows.errors import CloudtapError

CONFIG_OPTION = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Configuration file; else CLOUDTAP_CONFIG, else /etc/cloudtap/cloudtap.toml.",
)


@click.command()
@with_options(click.argument("file", type=click.Path(path_type=Path)), CONFIG_OPTION, output_option)
def backup(file: Path, config: Path | None, output: str) -> None:
    """Copy the state database to a new FILE.

    The controller may run meanwhile. Run it on the machine of the controller, as the same user. The
    file holds everything that users have created: sessions, filters, collectors, the audit log.
    """
    from controller.store import back_up

    folder, count = _run(config, lambda folder: back_up(folder, file))
    sentence = f"backup of {folder} with {count} sessions is in {str(file)!r}"
    print_done(sentence, {"file": str(file), "sessions": count}, output)


@click.command()
@with_options(click.argument("file", type=click.Path(path_type=Path)), CONFIG_OPTION, output_option)
def restore(file: Path, config: Path | None, output: str) -> None:
    """Put a backup FILE in the place of the state database.

    Refused while a controller runs. What was there before is kept beside it, as
    `state.db.before-restore`. Sessions that were deleted after the backup are back.
    """
    from controller.store import restore

    folder, count = _run(config, lambda folder: restore(folder, file))
    sentence = f"state database of {folder} is the backup now, with {count} sessions"
    print_done(sentence, {"directory": str(folder), "sessions": count}, output)


def _run(config: Path | None, work: Callable[[Path], int]) -> tuple[Path, int]:
    """Run work on the state directory of the configuration; returns it and the result."""
    from controller.config import load

    try:
        folder = load(config, dict(os.environ)).state.directory
        count = work(folder)
    except CloudtapError as error:
        raise Failure(str(error)) from error
    HAS_CHANGED.set(True)
    return folder, count
