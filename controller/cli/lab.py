"""cloudtap lab: a lab of one's own with Mininet, to begin with and to edit."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

import click

from controller.cli.command import Group
from controller.cli.lab_files import (
    CONFIGURATION,
    HOSTS_MAX,
    INVENTORY,
    TOPOLOGY,
    Lab,
    write_lab,
)
from controller.cli.output import print_line


@click.group(cls=Group)
def lab() -> None:
    """A network of one's own to try things in, built by Mininet."""


@lab.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default="lab")
@click.option(
    "--hosts",
    type=click.IntRange(1, HOSTS_MAX),
    default=3,
    show_default=True,
    help="How many hosts each tenant has, called h1, h2 and so on.",
)
@click.option(
    "--host", "names", multiple=True, help="The name of a host, instead of --hosts; may repeat."
)
@click.option(
    "--tap", default="tap", show_default=True, help="The name of the tap port of each tenant."
)
@click.option("--tenant", "tenants", multiple=True, help="A tenant, else `red` alone; may repeat.")
def new(
    folder: Path, hosts: int, names: tuple[str, ...], tap: str, tenants: tuple[str, ...]
) -> None:
    """Write a lab into FOLDER: a Mininet topology, its inventory, a configuration.

    Each tenant has the same hosts and a tap port, on one switch. The files are short and meant to
    be edited. Files that exist are not overwritten.
    """
    wanted = Lab(tenants or ("red",), names or [f"h{n}" for n in range(1, hosts + 1)], tap)
    written = write_lab(wanted, folder)
    print_line(f"written to {folder}: {', '.join(file.name for file in written)}")
    for line in _next_steps(wanted, folder):
        print_line(line)


def _next_steps(lab: Lab, folder: Path) -> list[str]:
    """What to type next."""
    tenant, first = lab.tenants[0], lab.hosts[0]
    tap = next(host for host in lab.hosts if host.mac is None)
    owner = "" if len(lab.tenants) == 1 else f" --tenant {tenant}"
    other = lab.hosts[1] if len(lab.names) > 1 else first
    return [
        "Type next, as root, each of these in a terminal of its own:",
        f"  cloudtap up --config {quote(str(folder / CONFIGURATION))}",
        f"  mn --custom {quote(str(folder / TOPOLOGY))} --topo lab --controller remote",
        "then in a third one:",
        f"  cloudtap collector create {lab.tap}{owner} --port {lab.tap}",
        f"  cloudtap session create watch{owner} --source {first.name} --collector {lab.tap}",
        "and at the prompt of Mininet:",
        f"  {first.host} ping -i 0.2 {other.host} > /dev/null &",
        f"  {tap.host} tcpdump -n -e -c 4 icmp",
        f"Edit {TOPOLOGY} and {INVENTORY} together for more hosts, switches and tenants.",
    ]
