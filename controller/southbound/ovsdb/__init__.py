"""Open vSwitch databases (OVSDB): their bridges and interfaces, and our tunnel ports in them."""

from controller.databases import MARK, MIRROR_MARK, TAPS, TlsFiles, peer_name
from controller.southbound.ovsdb.database import RemoteState
from controller.southbound.ovsdb.device import Device
from controller.southbound.ovsdb.expected import ExpectedDatabases
from controller.southbound.ovsdb.mirror import MirrorDemand, MirrorId, mirror_name
from controller.southbound.ovsdb.rows import (
    BridgeKey,
    BridgeRow,
    InterfaceRow,
    InterfacesByBridge,
    MirrorRow,
    OvsdbSnapshot,
    segmenter_of,
)
from controller.southbound.ovsdb.tunnel_port import (
    TunnelDemand,
    TunnelKey,
    in_key,
    tunnel_name,
    tunnel_options,
    tunnel_type,
)
from controller.southbound.ovsdb.watcher import OvsdbWatcher

__all__ = [
    "MARK",
    "MIRROR_MARK",
    "TAPS",
    "BridgeKey",
    "BridgeRow",
    "Device",
    "ExpectedDatabases",
    "InterfaceRow",
    "InterfacesByBridge",
    "MirrorDemand",
    "MirrorId",
    "MirrorRow",
    "OvsdbSnapshot",
    "OvsdbWatcher",
    "RemoteState",
    "TlsFiles",
    "TunnelDemand",
    "TunnelKey",
    "in_key",
    "mirror_name",
    "peer_name",
    "segmenter_of",
    "tunnel_name",
    "tunnel_options",
    "tunnel_type",
]
