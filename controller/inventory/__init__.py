"""What exists, as its owner declares it."""

from controller.inventory.file import Caution, InventoryFile
from controller.inventory.values import (
    DeclaredBridge,
    InterfaceName,
    Inventory,
    InventoryChange,
    LinkHint,
    Pending,
)

__all__ = [
    "Caution",
    "DeclaredBridge",
    "InterfaceName",
    "Inventory",
    "InventoryChange",
    "InventoryFile",
    "LinkHint",
    "Pending",
]
