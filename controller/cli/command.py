"""Commands that refuse an option given twice: click would silently take the last value."""

from __future__ import annotations

from collections import Counter

import click


class Command(click.Command):
    """A command of `cloudtap`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments; raises click.UsageError."""
        _check_given_once(self, ctx, args)
        return super().parse_args(ctx, args)


class Group(click.Group):
    """A group of commands of `cloudtap`, each of which is a `Command`."""

    command_class = Command
    group_class = type

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options before the name of a command; raises click.UsageError."""
        _check_given_once(self, ctx, args)
        return super().parse_args(ctx, args)


def _check_given_once(command: click.Command, context: click.Context, args: list[str]) -> None:
    """Refuse an option that may not repeat and does, by whatever of its names.

    Raises:
        click.UsageError: that, or anything else that the parser refuses.
    """
    if context.resilient_parsing:
        return
    _, _, order = command.make_parser(context).parse_args(args=list(args))
    if any(parameter.is_eager for parameter in order):  # --help and --version end the command
        return
    for parameter, times in Counter(order).items():
        is_once = isinstance(parameter, click.Option) and not (
            parameter.multiple or parameter.count
        )
        if is_once and times > 1:
            names = " or ".join(parameter.opts)
            raise click.UsageError(f"Option {names} is given {times} times: give it once.", context)
