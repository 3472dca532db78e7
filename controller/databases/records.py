"""Rows of a database as the records that are reported: checked, and of bounded size."""

from __future__ import annotations

from collections.abc import Iterable

from controller.databases.checks import (
    OPTION_MAX,
    OPTIONS_MAX,
    check_name,
    clean,
    read_datapath_id,
    read_iface_id,
    read_mac,
)
from controller.databases.columns import HOST_NAMES, MARK, PAIR_MARK, Row
from controller.databases.program import Record

SETTINGS = ("userspace-tso-enable", "flow-restore-wait")
"""Settings in other_config of Open_vSwitch that concern copies."""
NUMBER_MAX = 0xFFFF
"""The highest port number of OpenFlow 1.0, which is that of OVSDB."""


def read_settings(rows: Iterable[Row]) -> Record:
    """What the rows of Open_vSwitch say of the whole host."""
    settings: Record = {"ovs_version": "", "other_config": {}, "hosts": []}
    for row in rows:
        if row["ovs_version"]:
            settings["ovs_version"] = clean(str(row["ovs_version"]))
        names = strings(row, "external_ids")
        hosts = [clean(names[key]) for key in HOST_NAMES if names.get(key)]
        settings["hosts"] = list(dict.fromkeys((*settings["hosts"], *hosts)))[: len(HOST_NAMES)]
        config = strings(row, "other_config")
        settings["other_config"] |= {key: clean(config[key]) for key in SETTINGS if key in config}
    return settings


def read_bridge(row: Row) -> Record | None:
    """The record of a bridge; None until Open vSwitch has given it a datapath id.

    Raises:
        BadValue: a value cannot be used.
    """
    name = check_name(str(row["name"]))
    if not row["datapath_id"]:
        return None
    return {
        "dpid": read_datapath_id(str(row["datapath_id"])),
        "name": name,
        "fail_mode": clean(str(row["fail_mode"] or "")),
        "datapath_type": clean(str(row["datapath_type"])),
    }


def read_unmade(row: Row) -> Record:
    """What is known of a bridge that Open vSwitch has not created (yet).

    Raises:
        BadValue: its name cannot be used.
    """
    datapath_type = clean(str(row["datapath_type"]))
    return {"name": check_name(str(row["name"])), "datapath_type": datapath_type}


def read_interface(row: Row, bridge: str, device: Record) -> Record:
    """The record of an interface of a bridge, given by its uuid.

    Raises:
        BadValue: a value cannot be used.
    """
    external_ids = strings(row, "external_ids")
    number = row["ofport"]
    record: Record = {
        "bridge": bridge,
        "name": check_name(str(row["name"])),
        "iface_id": read_iface_id(external_ids),
        "mac": read_mac(external_ids),
        "ofport": number if isinstance(number, int) and 1 <= number <= NUMBER_MAX else None,
        "is_up": {"up": True, "down": False}.get(str(row["link_state"])),
        "error": clean(str(row["error"] or "")),
        "device": device,
    }
    if PAIR_MARK in external_ids:
        record["pair_end"] = external_ids[PAIR_MARK][:OPTION_MAX]
    if MARK in external_ids:
        options = list(strings(row, "options").items())[:OPTIONS_MAX]
        some = {key[:OPTION_MAX]: value[:OPTION_MAX] for key, value in options}
        kind, type_ = external_ids[MARK][:OPTION_MAX], str(row["type"])[:OPTION_MAX]
        record["tunnel"] = {"kind": kind, "type": type_, "options": some}
    return record


def strings(row: Row, column: str) -> dict[str, str]:
    """A map of a row; empty if it has none."""
    value = row.get(column)
    return value if isinstance(value, dict) else {}
