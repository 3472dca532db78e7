"""Where every port, link and tunnel is now, and whether it works."""

from controller.topology.offloads import HostDevices, OffloadWatch, TapOffloads
from controller.topology.pairs import HostPairs, PairWatch
from controller.topology.placements import Placements
from controller.topology.routes import RouteTable
from controller.topology.sensor_health import SensorHealth
from controller.topology.tracker import PlacementTracker
from controller.topology.tunnels import TunnelPorts

__all__ = [
    "HostDevices",
    "HostPairs",
    "OffloadWatch",
    "PairWatch",
    "PlacementTracker",
    "Placements",
    "RouteTable",
    "SensorHealth",
    "TapOffloads",
    "TunnelPorts",
]
