"""The reference page of the command line in Markdown, generated from the commands."""

from __future__ import annotations

from collections.abc import Iterator

import click

from controller.cli.main import main

CLI_INTRODUCTION = """\
# Command line

`cloudtap` is a client of the [API](api.md) and can run on any machine that reaches it.

- `CLOUDTAP_API` (or `--api`) is the URL of the controller, `CLOUDTAP_TENANT` the tenant that is
  meant where `--tenant` is not given. A token comes from `CLOUDTAP_TOKEN` or `--token-file`.
- Tables are for people; programs use `--output json` or `--output yaml`. `NO_COLOR` is respected.
- Exit status 0: done; 1: not done, with one sentence on stderr; 2: wrong use.
"""


def render() -> str:
    """The whole page."""
    context = click.Context(main, info_name="cloudtap")
    return "\n".join([CLI_INTRODUCTION, *_commands(main, context)]).rstrip("\n") + "\n"


def _commands(command: click.Command, context: click.Context) -> Iterator[str]:
    if isinstance(command, click.Group):
        if context.parent is None:
            yield from _page(command, context)
        for name in command.list_commands(context):
            child = command.commands[name]
            if child.hidden:
                continue
            yield from _commands(child, click.Context(child, info_name=name, parent=context))
    else:
        yield from _page(command, context)


def _page(command: click.Command, context: click.Context) -> Iterator[str]:
    arguments = [p.make_metavar(context) for p in command.params if isinstance(p, click.Argument)]
    yield from (f"## {' '.join([context.command_path, *arguments])}".rstrip(), "")
    yield from (f"{command.get_short_help_str(200)}", "")
    options = [p for p in command.params if isinstance(p, click.Option)]
    if options:
        yield from ("| option | |", "|---|---|")
        for option in options:
            record = option.get_help_record(context)
            if record is not None:
                names, text = (part.replace("|", "\\|").replace("  [", " [") for part in record)
                yield f"| `{names}` | {text} |"
        yield ""


if __name__ == "__main__":
    print(render(), end="")
