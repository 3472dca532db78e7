"""What must survive a restart: sessions, filters, collectors, numbers, placements, audit."""

from controller.store.backup import back_up, restore
from controller.store.counts import StoredCounts
from controller.store.directory import INVENTORY_KEPT, NEUTRON_KEPT
from controller.store.errors import (
    AlreadyRunning,
    InUse,
    NameTaken,
    NewerSchema,
    NotFound,
    NumberTaken,
    Repeated,
    StoreError,
)
from controller.store.store import Store
from controller.store.values import (
    AuditedAction,
    AuditedKind,
    BridgeRecord,
    CollectorRecord,
    DesiredState,
    FilterRecord,
    IdempotencyKey,
    InterfaceRecord,
    Limits,
    Place,
    SessionRecord,
)

__all__ = [
    "INVENTORY_KEPT",
    "NEUTRON_KEPT",
    "AlreadyRunning",
    "AuditedAction",
    "AuditedKind",
    "BridgeRecord",
    "CollectorRecord",
    "DesiredState",
    "FilterRecord",
    "IdempotencyKey",
    "InUse",
    "InterfaceRecord",
    "Limits",
    "NameTaken",
    "NewerSchema",
    "NotFound",
    "NumberTaken",
    "Place",
    "Repeated",
    "SessionRecord",
    "Store",
    "StoreError",
    "StoredCounts",
    "back_up",
    "restore",
]
