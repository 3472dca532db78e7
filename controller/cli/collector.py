"""cloudtap collector: where copies go."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

import click

from controller.cli.client import Api, Failure, Values
from controller.cli.command import Group
from controller.cli.options import (
    NAME_ARGUMENT,
    NUMBER,
    Option,
    fields_of,
    nullable,
    output_option,
    pass_api,
    read_number,
    tenant_option,
    with_options,
)
from controller.cli.output import Column, print_data, print_line, print_one
from controller.cli.resource import Resource, add_list
from controller.process import visible_lines
from controller.syntax import is_number

COLLECTOR_COLUMNS: tuple[Column, ...] = (
    ("collector", lambda c: c["name"]),
    ("tenant", lambda c: c["tenant"]),
    ("delivery", lambda c: c["delivery"]),
    ("sensors", lambda c: [sensor["words"] for sensor in c["sensors"]]),
    ("tag", lambda c: c["tenant_tag"]),
)
DELIVERIES = ("port", "vxlan", "gre", "erspan2", "erspan3", "geneve")
KEY_FIELDS = ("vni", "key", "session_id")
"""Fields of the API that hold the key of a tunnel, by delivery."""


def _read_tag(text: str) -> int | str:
    """An 802.1Q id, or auto."""
    if text != "auto" and not is_number(text):
        raise click.BadParameter(f"{text!r} is neither auto, none nor a number")
    return text if text == "auto" else int(text)


SENSOR_OPTIONS: tuple[Option, ...] = (
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
)
DELIVERY_OPTIONS: tuple[Option, ...] = (
    click.option(
        "--tag",
        "tenant_tag",
        callback=nullable(_read_tag),
        metavar="auto|none|NUMBER",
        help="802.1Q tag of copies; auto: the network's, once a sensor serves several. "
        "A new one has auto.",
    ),
    click.option(
        "--balance",
        type=click.Choice(["connection", "hosts"]),
        help="What picks one of several sensors; hosts keeps fragments together. A new one "
        "has connection.",
    ),
    click.option(
        "--path-mtu",
        callback=nullable(read_number),
        metavar="BYTES|none",
        help="Longest IP packet on the path to remote sensors, if the hosts can send longer.",
    ),
)


def _print(item: Values, output: str) -> None:
    keys = [(key.replace("_", " "), item[key]) for key in KEY_FIELDS if item[key] is not None]
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
            *((("notes", item["notes"]),) if item["notes"] else ()),
        ],
    )


@click.group(cls=Group)
def collector() -> None:
    """Where copies go."""


COLLECTOR_COMMANDS = Resource("collector", collector, _print)
add_list(
    collector,
    "collector",
    COLLECTOR_COLUMNS,
    "There are no collectors: create one, `cloudtap collector create`.",
    tenant_option,
)
COLLECTOR_COMMANDS.add_show("Show a collector, by name or id.")
COLLECTOR_COMMANDS.add_delete("Delete a collector that no session uses.")


@COLLECTOR_COMMANDS.create_command(
    *SENSOR_OPTIONS,
    click.option("--delivery", type=click.Choice(DELIVERIES), default="port", show_default=True),
    click.option("--vni", type=NUMBER, help="Of vxlan and geneve; chosen if left out."),
    click.option("--key", type=NUMBER, help="Of gre; chosen if left out."),
    click.option("--session-id", type=NUMBER, help="Of erspan2 and erspan3; chosen if left out."),
    *DELIVERY_OPTIONS,
)
def fields_of_new(
    sensors: tuple[str, ...],
    ports: tuple[str, ...],
    addresses: tuple[str, ...],
    probes: tuple[str, ...],
    **given: Any,
) -> Values:
    """Create a collector: where copies go.

    With several sensors each packet goes to one of them, both directions of a connection to the
    same one.
    """
    found = _read_sensors(sensors, ports, addresses, probes)
    if not found:
        raise click.UsageError("say where copies go: --sensor, --port or --address")
    return {"sensors": found} | fields_of(given)


@COLLECTOR_COMMANDS.set_command(
    *SENSOR_OPTIONS,
    click.option(
        "--add-sensor", multiple=True, metavar="PORT|ADDRESS", help="One more; may repeat."
    ),
    click.option(
        "--remove-sensor", multiple=True, metavar="PORT|ADDRESS", help="One fewer; may repeat."
    ),
    *DELIVERY_OPTIONS,
)
def changed_fields(
    sensors: tuple[str, ...],
    ports: tuple[str, ...],
    addresses: tuple[str, ...],
    probes: tuple[str, ...],
    add_sensor: tuple[str, ...],
    remove_sensor: tuple[str, ...],
    **given: Any,
) -> Values:
    """Change a collector; its sessions go on meanwhile.

    --sensor, --port and --address give the whole new list.
    """
    body: Values = {}
    if sensors or ports or addresses:
        body["sensors"] = _read_sensors(sensors, ports, addresses, probes)
    elif add_sensor or probes:
        body["add_sensors"] = _read_sensors(add_sensor, (), (), probes)
    if remove_sensor:
        body["remove_sensors"] = _read_sensors(remove_sensor, (), (), ())
    return body | fields_of(given)


@collector.command("sensor-config")
@with_options(
    NAME_ARGUMENT,
    click.option(
        "--for",
        "program",
        type=click.Choice(["suricata", "zeek"]),
        required=True,
        help="Which sensor.",
    ),
    click.option("--interface", help="Where the sensor listens; the API chooses eth0."),
    tenant_option,
    output_option,
    pass_api,
)
def sensor_config(
    api: Api, name: str, program: str, interface: str | None, tenant: str | None, output: str
) -> None:
    """Print the configuration that a sensor needs for the copies that it gets.

    The text goes to the standard output, for a file; notes go to the standard error.
    """
    query = {"for": program, "interface": interface, "tenant": tenant}
    found = api.get("collectors", name, "sensor-config", **query)
    if output != "table":
        print_data(found, output)
        return
    click.echo(visible_lines(found["text"]), nl=False)
    for note in found["notes"]:
        print_line(f"cloudtap: note: {note}", is_note=True)


def _read_sensors(
    sensors: Iterable[str], ports: Iterable[str], addresses: Iterable[str], probes: Iterable[str]
) -> list[Values]:
    """Sensors in the form of the API; a text that is an IP address names a remote sensor.

    Raises:
        Failure: a probe is for none of these sensors, or a sensor is given two.
    """
    named = [{"address" if _is_address(each) else "port": each} for each in sensors]
    named += [{"port": each} for each in ports] + [{"address": each} for each in addresses]
    by_name = {next(iter(each.values())): each for each in named}
    for text in probes:
        sensor, equals, url = text.partition("=")
        if not equals or sensor not in by_name:
            raise Failure(
                f"probe {text!r} is not SENSOR=URL with one of the sensors that are named"
            )
        if "probe" in by_name[sensor]:
            raise Failure(f"probe {text!r}: sensor {sensor!r} is given two probes")
        by_name[sensor]["probe"] = url
    return named


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _with_probe(sensor: Values) -> str:
    where = sensor["port"] or sensor["address"]
    return f"{where}, probe {sensor['probe']}" if sensor["probe"] else where
