"""What must survive a restart: sessions, filters, collectors, numbers, placements, audit."""

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
    AuditEntry,
    BridgeRecord,
    CollectorRecord,
    Counted,
    Desired,
    FilterRecord,
    InterfaceRow,
    Limits,
    OnceKey,
    SessionRecord,
)

__all__ = [
    "AlreadyRunning",
    "AuditEntry",
    "BridgeRecord",
    "CollectorRecord",
    "Counted",
    "Desired",
    "FilterRecord",
    "InUse",
    "InterfaceRow",
    "Limits",
    "NameTaken",
    "NewerSchema",
    "NotFound",
    "NumberTaken",
    "OnceKey",
    "Repeated",
    "SessionRecord",
    "Store",
    "StoreError",
]
