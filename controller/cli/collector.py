"""cloudtap collector: create, list, show, set, delete."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from controller.cli.client import Api, Failure, Values
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


TAG = "802.1Q tag of copies; auto: the network's, once a sensor serves several."
DELIVERIES = ("port", "vxlan", "gre", "erspan2", "erspan3", "geneve")
KEYS = ("vni", "key", "session_id")

Command = TypeVar("Command", bound=Callable[..., Any])


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


def mtu_or_none(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> list[int | None] | None:
    """A number of bytes, or none: in a list, so that none is not nothing."""
    if value is not None and value != "none" and not value.isdecimal():
        raise click.BadParameter(f"{value!r} is neither a number nor none")
    return None if value is None else [None if value == "none" else int(value)]


def sensor_options(command: Command) -> Command:
    """The options that name sensors, the same for create and set."""
    options = [
        click.option(
            "--sensor",
            "-s",
            "sensors",
            multiple=True,
            metavar="PORT|ADDRESS",
            help="A tap port, or the address of a remote sensor; may repeat.",
        ),
        click.option("--port", "-p", "ports", multiple=True, help="A tap port; may repeat."),
        click.option("--address", "addresses", multiple=True, help="An address; may repeat."),
        click.option(
            "--probe",
            "probes",
            multiple=True,
            metavar="SENSOR=URL",
            help="How to see that a sensor is well, like ids-1=tcp://192.0.2.1:22; may repeat.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def shape_options(command: Command) -> Command:
    """The options of both create and set that say how copies are delivered."""
    options = [
        click.option(
            "--tag",
            callback=tag_or_none,
            metavar="auto|none|NUMBER",
            help=f"{TAG} A new one has auto.",
        ),
        click.option(
            "--balance",
            type=click.Choice(["connection", "hosts"]),
            help="What picks one of several sensors; hosts keeps fragments together. A new one "
            "has connection.",
        ),
        click.option(
            "--path-mtu",
            callback=mtu_or_none,
            metavar="BYTES|none",
            help="Longest IP packet on the path to remote sensors, if the hosts can send longer.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.group()
def collector() -> None:
    """Where copies go."""


@collector.command()
@click.argument("name")
@sensor_options
@click.option("--delivery", type=click.Choice(DELIVERIES), default="port", show_default=True)
@click.option("--vni", type=int, help="Of vxlan and geneve; chosen if left out.")
@click.option("--key", type=int, help="Of gre; chosen if left out.")
@click.option("--session-id", type=int, help="Of erspan2 and erspan3; chosen if left out.")
@shape_options
@tenant_option
@output_option
@pass_api
def create(api: Api, /, name: str, tenant: str | None, output: str, **given: Any) -> None:
    """Create a collector: where copies go.

    With several sensors each packet goes to one of them, both directions of a connection to the
    same one.
    """
    sensors = _read_sensors(**_taken(given, "sensors", "ports", "addresses", "probes"))
    if not sensors:
        raise click.UsageError("say where copies go: --sensor, --port or --address")
    body: Values = {"name": name, "sensors": sensors} | _read_shape(given)
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
@sensor_options
@click.option("--add-sensor", multiple=True, metavar="PORT|ADDRESS", help="One more; may repeat.")
@click.option(
    "--remove-sensor", multiple=True, metavar="PORT|ADDRESS", help="One fewer; may repeat."
)
@shape_options
@tenant_option
@output_option
@pass_api
def set_(
    api: Api, /, name: str, new_name: str | None, tenant: str | None, output: str, **given: Any
) -> None:
    """Change a collector; its sessions go on meanwhile.

    --sensor, --port and --address give the whole new list.
    """
    body: Values = {"name": new_name} if new_name else {}
    named = _taken(given, "sensors", "ports", "addresses")
    probes, added = given.pop("probes"), given.pop("add_sensor")
    if any(named.values()):
        body["sensors"] = _read_sensors(**named, probes=probes)
    elif added or probes:
        body["add_sensors"] = _read_sensors(added, (), (), probes)
    if removed := given.pop("remove_sensor"):
        body["remove_sensors"] = _read_sensors(removed, (), (), ())
    body |= _read_shape(given)
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


def _read_sensors(
    sensors: Iterable[str], ports: Iterable[str], addresses: Iterable[str], probes: Iterable[str]
) -> list[Values]:
    """Sensors as bodies name them; what looks like an address is one."""
    named = [{"address" if _is_address(each) else "port": each} for each in sensors]
    named += [{"port": each} for each in ports] + [{"address": each} for each in addresses]
    by_name = {next(iter(each.values())): each for each in named}
    for text in probes:
        sensor, equals, url = text.partition("=")
        if not equals or sensor not in by_name:
            raise Failure(
                f"probe {text!r} is not SENSOR=URL with one of the sensors that are named"
            )
        by_name[sensor]["probe"] = url
    return named


def _read_shape(given: Values) -> Values:
    """The fields of a body that the other options name."""
    body: Values = {}
    for key, value in given.items():
        if value is not None:
            is_in_list = key in ("tag", "path_mtu")
            body["tenant_tag" if key == "tag" else key] = value[0] if is_in_list else value
    return body


def _taken(given: Values, *keys: str) -> Values:
    return {key: given.pop(key) for key in keys}


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _print(item: Values, output: str) -> None:
    keys = [(key.replace("_", " "), item[key]) for key in KEYS if item[key] is not None]
    is_pool = len(item["sensors"]) > 1
    print_one(
        item,
        output,
        [
            ("collector", item["name"]),
            ("id", item["id"]),
            ("tenant", item["tenant"]),
            ("delivery", item["delivery"]),
            *keys,
            ("sensors", [_with_probe(sensor) for sensor in item["sensors"]]),
            *((("balance", item["balance"]),) if is_pool else ()),
            *((("path mtu", item["path_mtu"]),) if item["path_mtu"] is not None else ()),
            ("tag", item["tenant_tag"]),
        ],
    )


def _with_probe(sensor: Values) -> str:
    where = sensor["port"] or sensor["address"]
    return f"{where}, probe {sensor['probe']}" if sensor["probe"] else where


def _sensors(item: Values) -> list[str]:
    return [sensor["words"] for sensor in item["sensors"]]
