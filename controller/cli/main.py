"""The command `cloudtap`, and the options that all its commands share: URL, token and CA."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO

import click

from controller.cli.attach import attach, detach
from controller.cli.check import check
from controller.cli.client import DEFAULT_API, HAS_CHANGED, Api, Failure
from controller.cli.collector import collector
from controller.cli.command import Group
from controller.cli.doctor import doctor
from controller.cli.draft import draft
from controller.cli.explain import explain
from controller.cli.filter import filters
from controller.cli.inventory import bridge, network, port, tenant
from controller.cli.lab import lab
from controller.cli.segmenter import prepare
from controller.cli.session import session
from controller.cli.state import backup, restore
from controller.cli.system import controller, inventory, status, up
from controller.cli.tap_port import tap_port
from controller.cli.verify import verify
from controller.process import TOKEN_BYTES_MAX, Access, UnusableFile, read_file


class CommandLine(Group):
    """All commands; output that cannot be written is one sentence, too."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command; see click."""
        HAS_CHANGED.set(False)
        try:
            try:
                return super().main(*args, **extra)
            finally:
                if sys.stdout is not None and not sys.stdout.closed:
                    sys.stdout.flush()
        except BrokenPipeError:
            _give_up("")
        except OSError as error:
            if error.filename is not None:
                raise
            sentence = f"the output cannot be written: {error.strerror}"
            if HAS_CHANGED.get():
                sentence = f"what was asked for is done, but {sentence}"
            _give_up(sentence)


def _give_up(sentence: str) -> NoReturn:
    """End with a sentence, if there is anywhere to write it; the rest of the output is lost."""
    _discard_output(sys.stdout)
    try:
        if sentence:
            Failure(sentence).show()
            if sys.stderr is not None:
                sys.stderr.flush()
    except (OSError, ValueError):
        _discard_output(sys.stderr)
    sys.exit(1)


def _discard_output(stream: TextIO) -> None:
    """Send what is buffered nowhere: else Python tries once more at the end, with status 120."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@click.group(
    cls=CommandLine,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--api",
    envvar="CLOUDTAP_API",
    default=DEFAULT_API,
    show_default=True,
    show_envvar=True,
    help="URL of the controller.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the token of the API; else CLOUDTAP_TOKEN holds the token itself.",
)
@click.option(
    "--ca-file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="CLOUDTAP_CA_FILE",
    show_envvar=True,
    help="File with the certificates that sign that of an https: URL; else those of the system.",
)
@click.option(
    "--insecure",
    is_flag=True,
    envvar="CLOUDTAP_INSECURE",
    show_envvar=True,
    help="Send the token to another machine although the URL is http:.",
)
@click.version_option(package_name="cloudtap", prog_name="cloudtap")
@click.pass_context
def main(
    context: click.Context, api: str, token_file: Path | None, ca_file: Path | None, insecure: bool
) -> None:
    """A network TAP for every tenant of an Open vSwitch cloud."""
    context.obj = Api(api, _token(token_file), ca_file, insecure)


COMMANDS = (
    *(session, collector, filters, port, network, tenant, bridge),
    *(explain, status, up, controller, inventory, lab, doctor, backup, restore, tap_port),
)
for command in COMMANDS:
    main.add_command(command)
session.add_command(verify)
bridge.add_command(prepare)
bridge.add_command(attach)
bridge.add_command(detach)
inventory.add_command(check)
inventory.add_command(draft)


def _token(file: Path | None) -> str | None:
    if file is None:
        token = os.environ.get("CLOUDTAP_TOKEN", "")
    else:
        try:
            token = read_file(file, TOKEN_BYTES_MAX, Access.SECRET).decode()
        except (FileNotFoundError, UnicodeError) as error:
            raise Failure(f"token file {str(file)!r} cannot be read: {error}") from error
        except UnusableFile as error:
            raise Failure(f"token file {error}") from error
    token = token.strip()
    if not (token.isascii() and token.isprintable()):
        raise Failure("the token holds characters that a token cannot have")
    return token or None
