"""Reconciles the tunnel ports in one database with the demand: adds, repairs and removes ports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog

from controller.southbound.ovsdb.rows import BridgeRow, DatabaseContent, InterfaceRow
from controller.southbound.ovsdb.tunnel_port import (
    TunnelDemand,
    tunnel_name,
    tunnel_options,
    tunnel_type,
)
from controller.southbound.ovsdb.wanted_rows import Changes, WantedRows
from flows.model import Dpid, TunnelKind

log = structlog.get_logger(__name__)


class TunnelRows(WantedRows[TunnelKind, TunnelDemand]):
    """Keeps the tunnel ports of one database as demanded."""

    def _rows_of(self, bridge: BridgeRow, content: DatabaseContent) -> frozenset[str]:
        return frozenset([bridge.row])

    def _changes(
        self, bridge: BridgeRow, demand: TunnelDemand, content: DatabaseContent
    ) -> Changes[TunnelKind]:
        dpid, ours = bridge.dpid, content.tunnels.get(bridge.row, ())
        present = {row.tunnel for row in ours if _has_our_name(dpid, row)}
        kept = {kind for kind in present if kind not in demand.unwanted}
        altered = {row.tunnel for row in ours if row.is_altered and _has_our_name(dpid, row)}
        return Changes(
            tuple(kind for kind in TunnelKind if kind in demand.wanted - present),
            tuple(kind for kind in TunnelKind if kind in altered & kept),
            tuple(r.name for r in ours if r.tunnel not in kept or not _has_our_name(dpid, r)),
        )

    def _request(
        self, bridge: BridgeRow, todo: Changes[TunnelKind], content: DatabaseContent
    ) -> dict[str, Any]:
        dpid = bridge.dpid
        return {
            "bridge": bridge.row,
            "do": "tunnels",
            "add": [{"kind": kind.value, **_port(dpid, kind)} for kind in todo.add],
            "repair": [_port(dpid, kind) for kind in todo.repair],
            "remove": list(todo.remove),
        }

    def _names(self, dpid: Dpid, key: TunnelKind) -> Sequence[str]:
        return (tunnel_name(dpid, key),)

    def _called(self, bridge: BridgeRow, key: TunnelKind) -> str:
        return f"the tunnel port for {key} of bridge {bridge.name}"

    def _identified(self, bridge: BridgeRow, key: TunnelKind) -> str:
        return f"the tunnel port for {key} of bridge {bridge.dpid:016x}"

    def _taken_sentence(self, bridge: BridgeRow, key: TunnelKind) -> str:
        return (
            f"bridge {bridge.name} cannot have its tunnel port for {key}: a port "
            f"{tunnel_name(bridge.dpid, key)!r} is there already and is not ours; give that "
            "another name"
        )

    def _log_changes(
        self, bridge: BridgeRow, made: Sequence[TunnelKind], done: Changes[TunnelKind]
    ) -> None:
        dpid = bridge.dpid
        log.info(
            "tunnel ports changed", dpid=f"{dpid:016x}",
            made=[kind.value for kind in made],
            mended=[tunnel_name(dpid, kind) for kind in done.repair],
            removed=list(done.remove),
        )  # fmt: skip


def _port(dpid: Dpid, kind: TunnelKind) -> dict[str, Any]:
    options = tunnel_options(dpid, kind)
    return {"name": tunnel_name(dpid, kind), "type": tunnel_type(kind), "options": options}


def _has_our_name(dpid: Dpid, row: InterfaceRow) -> bool:
    return row.tunnel is not None and row.name == tunnel_name(dpid, row.tunnel)
