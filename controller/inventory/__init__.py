"""What exists, as its owner declares it."""

from controller.inventory.diff import InventoryDiff, Wanted, as_values, inventory_diff
from controller.inventory.draft import SeenInterface, Sight, draft
from controller.inventory.file import Caution, InventoryFile, parse
from controller.inventory.port_lines import port_line
from controller.inventory.values import (
    DeclaredBridge,
    InterfaceName,
    Inventory,
    InventoryChange,
    InventoryError,
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
    "InventoryDiff",
    "InventoryError",
    "InventoryFile",
    "LinkHint",
    "Pending",
    "SeenInterface",
    "Sight",
    "Wanted",
    "as_values",
    "draft",
    "inventory_diff",
    "parse",
    "port_line",
    "read_values",
]
