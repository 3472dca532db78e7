"""The commands that every kind of named thing has: create, list, show, set and delete."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from controller.cli.client import Api, Failure, Values
from controller.cli.options import (
    NAME_ARGUMENT,
    NEW_NAME_OPTION,
    Option,
    output_option,
    pass_api,
    tenant_option,
    with_options,
)
from controller.cli.output import Column, print_data, print_done, print_list

ReadFields = Callable[..., Values]
"""Turns the options of a command into fields of a request body; its docstring is the help."""


def add_list(
    group: click.Group,
    noun: str,
    columns: Sequence[Column],
    empty: str,
    *options: Option,
    help: str = "",
) -> None:
    """Add `list` to a group; the options become the query.

    ``empty`` is the sentence that is shown for a list without items.
    """

    @group.command("list", help=help or f"List {noun}s.")
    @with_options(*options, output_option, pass_api)
    def list_(api: Api, /, output: str, **query: str | None) -> None:
        print_list(api.all(f"{noun}s", **query), output, columns, empty)


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of named thing that the API keeps, and the group of its commands.

    ``print_item`` prints one of them, in the format of --output.
    """

    noun: str
    group: click.Group
    print_item: Callable[[Values, str], None]

    @property
    def path(self) -> str:
        """The path of the collection in the API."""
        return f"{self.noun}s"

    def create(self, api: Api, name: str, tenant: str | None, fields: Values) -> Values:
        """Create one by the API; returns it."""
        owner = {} if tenant is None else {"tenant": tenant}
        return api.post(self.path, {"name": name} | fields | owner)

    def create_command(self, *options: Option) -> Callable[[ReadFields], ReadFields]:
        """Decorator: add `create`, from a function that turns these options into fields."""

        def add(read: ReadFields) -> ReadFields:
            def run(api: Api, /, name: str, tenant: str | None, output: str, **given: Any) -> None:
                self.print_item(self.create(api, name, tenant, read(**given)), output)

            self._add("create", read.__doc__, run, *options)
            return read

        return add

    def set_command(self, *options: Option) -> Callable[[ReadFields], ReadFields]:
        """Decorator: add `set`, which can also rename; otherwise as ``create_command``."""
        return self.change_command("set", NEW_NAME_OPTION, *options)

    def change_command(self, command: str, *options: Option) -> Callable[[ReadFields], ReadFields]:
        """Decorator: add a command that changes one, from a function as for ``create_command``."""

        def add(read: ReadFields) -> ReadFields:
            def run(
                api: Api,
                /,
                name: str,
                tenant: str | None,
                output: str,
                new_name: str | None = None,
                **given: Any,
            ) -> None:
                body = read(**given) | ({} if new_name is None else {"name": new_name})
                self.print_item(api.patch(self.path, name, body, tenant=tenant), output)

            self._add(command, read.__doc__, run, *options)
            return read

        return add

    def add_show(self, help: str) -> None:
        """Add `show`."""

        def run(api: Api, name: str, tenant: str | None, output: str) -> None:
            self.print_item(api.get(self.path, name, tenant=tenant), output)

        self._add("show", help, run)

    def add_delete(self, help: str) -> None:
        """Add `delete`, which fails while the controller is still deleting it."""

        def run(api: Api, name: str, tenant: str | None, output: str) -> None:
            left = api.delete(self.path, name, tenant=tenant)
            if left is None:
                done = {"deleted": True, self.noun: name}
                print_done(f"{self.noun} {name!r} is deleted", done, output)
                return
            if output != "table":
                print_data({"deleted": False, self.noun: left}, output)
            raise Failure(
                f"{self.noun} {name!r} is not gone yet: {'; '.join(left['status']['reasons'])}; "
                "the controller finishes it by itself"
            )

        self._add("delete", help, run)

    def _add(
        self, command: str, help: str | None, run: Callable[..., None], *options: Option
    ) -> None:
        every: tuple[Option, ...] = (
            NAME_ARGUMENT,
            *options,
            tenant_option,
            output_option,
            pass_api,
        )
        self.group.command(command, help=help)(with_options(*every)(run))
