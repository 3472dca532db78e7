"""cloudtap explain: why a packet is, or is not, copied."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import click

from controller.cli.client import Api, Failure, Values
from controller.cli.command import Command
from controller.cli.options import WholeNumberFrom, output_option, pass_api, tenant_option
from controller.cli.output import (
    Column,
    cell,
    console,
    print_data,
    print_line,
    print_table,
)

ETHERNET = 1
"""Link type of captures of Ethernet frames (LINKTYPE_ETHERNET)."""

EXPLAINED_COLUMNS: tuple[Column, ...] = (
    ("session", lambda a: a["session"]),
    ("tenant", lambda a: a["tenant"]),
    ("copied", lambda a: a["copied"]),
    ("bridge", lambda a: a["bridge"]),
    ("why", lambda a: a["sentence"]),
)


@click.command(cls=Command)
@click.option("--from", "port", required=True, help="The port that sends the packet.")
@click.option("--packet", help="In words, like 'tcp,destination=10.0.0.2,destination_port=80'.")
@click.option("--hex", "digits", help="A whole frame in hexadecimal digits.")
@click.option(
    "--pcap",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A capture file (pcap or pcapng) with the frame.",
)
@click.option(
    "--index", type=WholeNumberFrom(1), default=1, show_default=True, help="Which frame of it."
)
@click.option("--steps", is_flag=True, help="Show each flow that the packet meets, too.")
@tenant_option
@output_option
@pass_api
def explain(
    api: Api,
    port: str,
    packet: str | None,
    digits: str | None,
    pcap: Path | None,
    index: int,
    steps: bool,
    tenant: str | None,
    output: str,
) -> None:
    """Say what each session does with a packet, without sending one."""
    if sum(each is not None for each in (packet, digits, pcap)) != 1:
        raise click.UsageError("give the packet with one of --packet, --hex and --pcap")
    body: Values = {"port": port} | ({"tenant": tenant} if tenant else {})
    if packet is not None:
        body["packet"] = packet
    else:
        body["hex"] = digits if pcap is None else read_capture(pcap, index).hex()
    found = api.post("explain", body)
    if output != "table":
        print_data(found, output)
        return
    names = ", ".join(each["port"] for each in found["receivers"]) or "nobody"
    console().print(cell(f"from {found['port']}, received by {names}"))
    for obstacle in found["obstacles"]:
        console().print(cell(obstacle))
    if found["sessions"]:
        console().print()
        print_table(found["sessions"], EXPLAINED_COLUMNS)
    else:
        console().print(cell("there are no sessions"))
    for step in found["steps"] if steps else []:
        print_line(step)


def read_capture(file: Path, index: int) -> bytes:
    """One frame of a pcap or pcapng file, counted from 1.

    Raises:
        Failure: the file cannot be read, holds no Ethernet, or has fewer frames.
    """
    import dpkt  # only this command needs it

    try:
        with file.open("rb") as stream:
            reader = dpkt.pcap.UniversalReader(stream)
            if reader.datalink() != ETHERNET:
                raise Failure(f"{file} holds frames of link type {reader.datalink()}, not Ethernet")
            frames = [bytes(frame) for _, frame in islice(reader, index - 1, index)]
    except (OSError, ValueError, dpkt.Error) as error:
        raise Failure(f"{file} cannot be read as pcap or pcapng: {error}") from error
    if not frames:
        raise Failure(f"{file} has fewer than {index} frames")
    return frames[0]
