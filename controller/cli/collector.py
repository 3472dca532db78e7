"""cloudtap collector: create, list, show, delete."""

from __future__ import annotations

import click

from controller.cli.client import Api, Values
from controller.cli.output import (
    Column,
    cell,
    console,
    output_option,
    pass_api,
    print_data,
    print_list,
    print_one,
    tenant_option,
)

COLUMNS: tuple[Column, ...] = (
    ("collector", lambda c: c["name"]),
    ("tenant", lambda c: c["tenant"]),
    ("delivery", lambda c: c["delivery"]),
    ("sensors", lambda c: _sensors(c)),
    ("tag", lambda c: c["tenant_tag"]),
)


TAG = "802.1Q tag of copies; auto: the network's, once the tap port serves several."


def tag_or_none(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> list[int | str | None] | None:
    """auto, none, or an 802.1Q id: in a list, so that none is not nothing."""
    if value is None:
        return None
    if value in ("auto", "none"):
        return [None if value == "none" else value]
    if not value.isdecimal():
        raise click.BadParameter(f"{value!r} is neither auto, none nor a number")
    return [int(value)]


@click.group()
def collector() -> None:
    """Where copies go."""


@collector.command()
@click.argument("name")
@click.option("--port", "-p", required=True, help="The tap port that receives the copies.")
@click.option(
    "--tag", callback=tag_or_none, metavar="auto|none|NUMBER", help=f"{TAG} The API chooses auto."
)
@tenant_option
@output_option
@pass_api
def create(
    api: Api,
    name: str,
    port: str,
    tag: list[int | str | None] | None,
    tenant: str | None,
    output: str,
) -> None:
    """Create a collector."""
    body: Values = {"name": name, "delivery": "port", "sensors": [{"port": port}]}
    if tag is not None:
        body["tenant_tag"] = tag[0]
    _print(api.post("collectors", body | ({"tenant": tenant} if tenant else {})), output)


@collector.command("list")
@tenant_option
@output_option
@pass_api
def list_(api: Api, tenant: str | None, output: str) -> None:
    """List collectors."""
    empty = "There are no collectors: create one, `cloudtap collector create`."
    print_list(api.all("collectors", tenant=tenant), output, COLUMNS, empty)


@collector.command()
@click.argument("name")
@tenant_option
@output_option
@pass_api
def show(api: Api, name: str, tenant: str | None, output: str) -> None:
    """Show a collector, by name or id."""
    _print(api.get("collectors", name, tenant=tenant), output)


@collector.command("set")
@click.argument("name")
@click.option("--name", "new_name", help="Give it another name.")
@click.option("--tag", callback=tag_or_none, metavar="auto|none|NUMBER", help=TAG)
@tenant_option
@output_option
@pass_api
def set_(
    api: Api,
    name: str,
    new_name: str | None,
    tag: list[int | str | None] | None,
    tenant: str | None,
    output: str,
) -> None:
    """Change the name or the tag of a collector."""
    body: Values = {"name": new_name} if new_name else {}
    if tag is not None:
        body["tenant_tag"] = tag[0]
    _print(api.patch("collectors", name, body, tenant=tenant), output)


@collector.command("sensor-config")
@click.argument("name")
@click.option(
    "--for", "program", type=click.Choice(["suricata", "zeek"]), required=True, help="Which sensor."
)
@click.option("--interface", help="Where the sensor listens; the API chooses eth0.")
@tenant_option
@output_option
@pass_api
def sensor_config(
    api: Api, name: str, program: str, interface: str | None, tenant: str | None, output: str
) -> None:
    """Print the configuration that a sensor needs for the copies that it gets.

    The text goes to the standard output, for a file; what to beware of is told beside it.
    """
    query = {"for": program, "interface": interface, "tenant": tenant}
    found = api.get("collectors", name, "sensor-config", **query)
    if output != "table":
        print_data(found, output)
        return
    click.echo(found["text"], nl=False)
    for note in found["notes"]:
        click.echo(f"cloudtap: note: {note}", err=True)


@collector.command()
@click.argument("name")
@tenant_option
@output_option
@pass_api
def delete(api: Api, name: str, tenant: str | None, output: str) -> None:
    """Delete a collector that no session uses."""
    api.delete("collectors", name, tenant=tenant)
    if output == "table":
        console().print(cell(f"collector {name!r} is deleted"))
    else:
        print_data({"deleted": True, "collector": name}, output)


def _print(item: Values, output: str) -> None:
    print_one(
        item,
        output,
        [
            ("collector", item["name"]),
            ("id", item["id"]),
            ("tenant", item["tenant"]),
            ("delivery", item["delivery"]),
            ("sensors", _sensors(item)),
            ("tag", item["tenant_tag"]),
        ],
    )


def _sensors(item: Values) -> list[str]:
    return [sensor["port"] for sensor in item["sensors"]]
