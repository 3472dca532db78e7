"""What exists, as its owner declares it."""

from controller.inventory.diff import InventoryDiff, Wanted, as_values, inventory_diff
from controller.inventory.draft import SeenInterface, Sight, draft
from controller.inventory.file import Caution, InventoryFile, parse
from controller.inventory.merge import merge
from controller.inventory.neutron import NeutronInventory
from controller.inventory.port_lines import port_line
from controller.inventory.sources import InventorySources
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
    "InventorySources",
    "LinkHint",
    "NeutronInventory",
    "Pending",
    "SeenInterface",
    "Sight",
    "Wanted",
    "as_values",
    "draft",
    "inventory_diff",
    "merge",
    "parse",
    "port_line",
    "read_values",
]
