"""The command `cloudtap` and what all its commands share: which controller, which token."""

from __future__ import annotations

import os
from pathlib import Path

import click

from controller.cli.client import DEFAULT_API, Api, Failure
from controller.cli.collector import collector
from controller.cli.inventory import bridge, network, port, tenant
from controller.cli.explain import explain
from controller.cli.filter import filters
from controller.cli.session import session
from controller.cli.system import controller, inventory, status
from controller.cli.verify import verify


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
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
@click.version_option(package_name="cloudtap", prog_name="cloudtap")
@click.pass_context
def main(context: click.Context, api: str, token_file: Path | None) -> None:
    """A network TAP for every tenant of an Open vSwitch cloud."""
    context.obj = Api(api, _token(token_file))


COMMANDS = (
    *(session, collector, filters, port, network, tenant, bridge),
    *(explain, status, controller, inventory),
)
for command in COMMANDS:
    main.add_command(command)
session.add_command(verify)


def _token(file: Path | None) -> str | None:
    if file is None:
        token = os.environ.get("CLOUDTAP_TOKEN", "")
    else:
        try:
            token = file.read_text()
        except (OSError, UnicodeError) as error:
            raise Failure(f"token file {str(file)!r} cannot be read: {error}") from error
    token = token.strip()
    if not (token.isascii() and token.isprintable()):
        raise Failure("the token holds characters that a token cannot have")
    return token or None
