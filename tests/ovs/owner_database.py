"""What a database of Open vSwitch holds, without counters, and our Mirrors as they are made."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tests.ovs.lab import vsctl

COUNTERS = {
    "Open_vSwitch": {"cur_cfg", "next_cfg", "statistics"},
    "Interface": {"statistics"},
    "Port": {"statistics", "rstp_statistics"},
    "Mirror": {"statistics"},
    "Controller": {"status", "is_connected", "role"},
    "Manager": {"status", "is_connected"},
}
"""Columns that ovs-vswitchd writes by itself as time passes."""
Rows = dict[tuple[str, str], dict[str, Any]]
"""The columns of rows, by table and uuid."""


def database_rows() -> Rows:
    """Every column of every row of the database, but counters and the like."""
    command = ["ovsdb-client", "--format=json", "dump", "Open_vSwitch"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: Rows = {}
    for line in text.splitlines():
        table = json.loads(line)
        name = table["caption"].removesuffix(" table")
        for values in table["data"]:
            row = dict(zip(table["headings"], map(_ordered, values), strict=True))
            uuid = row.pop("_uuid")[1]
            skipped = COUNTERS.get(name, set()) | {"_version"}
            found[name, uuid] = {k: v for k, v in row.items() if k not in skipped}
    return found


def difference(before: Rows, after: Rows) -> dict[tuple[str, str], Any]:
    """The rows that are not the same, with the columns that differ: (before, after)."""
    changed = {}
    for key in before.keys() | after.keys():
        old, new = before.get(key), after.get(key)
        if old is None or new is None:
            changed[key] = (old, new)
        elif old != new:
            names = [name for name in old if old[name] != new[name]]
            changed[key] = ({n: old[n] for n in names}, {n: new[n] for n in names})
    return changed


def add_mirror(owner: str, tap: str, digits: str, ports: list[str]) -> None:
    """A Mirror with its patch ports, as a controller makes them: one transaction."""
    near, far = f"ctm{digits}", f"ctp{digits}"
    mark = f"external_ids:cloudtap-mirror={near}"
    command = []
    for number, port in enumerate(ports):
        command += ["--", f"--id=@s{number}", "get", "Port", port]
    selected = ",".join(f"@s{number}" for number in range(len(ports)))
    for bridge, name, peer in ((owner, near, far), (tap, far, near)):
        command += ["--", "add-port", bridge, name]
        command += ["--", "set", "Interface", name, "type=patch", f"options:peer={peer}", mark]
        command += ["--", "set", "Port", name, mark]
    command += ["--", "set", "Port", near, "trunks=4095"]
    command += ["--", "--id=@out", "get", "Port", near]
    command += ["--", "--id=@m", "create", "Mirror", f"name={near}", mark, "output_port=@out"]
    command += [f"select_src_port={selected}", f"select_dst_port={selected}"]
    command += ["--", "add", "Bridge", owner, "mirrors", "@m"]
    vsctl(*command[1:])


def _ordered(value: Any) -> Any:
    """The value with the elements of sets and maps in one order."""
    match value:
        case [("set" | "map") as kind, list(elements)]:
            return [kind, sorted(elements, key=json.dumps)]
    return value
