"""What exists, as its owner declares it."""

from controller.inventory.draft import SeenInterface, Sight, draft
from controller.inventory.file import Caution, InventoryFile
from controller.inventory.port_lines import port_line
from controller.inventory.values import (
    DeclaredBridge,
    InterfaceName,
    Inventory,
    InventoryChange,
    LinkHint,
    Pending,
)
from controller.inventory.yaml_lines import BadYaml, read_values

__all__ = [
    "BadYaml",
    "Caution",
    "DeclaredBridge",
    "InterfaceName",
    "Inventory",
    "InventoryChange",
    "InventoryFile",
    "LinkHint",
    "Pending",
    "SeenInterface",
    "Sight",
    "draft",
    "port_line",
    "read_values",
]
