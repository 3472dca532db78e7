"""What must survive a restart: sessions, collectors, numbers, placements, audit."""

from controller.store.errors import (
    AlreadyRunning,
    InUse,
    NameTaken,
    NewerSchema,
    NotFound,
    Repeated,
    StoreError,
)
from controller.store.store import Store
from controller.store.values import (
    AuditEntry,
    BridgeRecord,
    CollectorRecord,
    Desired,
    InterfaceRow,
    OnceKey,
    SessionRecord,
)

__all__ = [
    "AlreadyRunning",
    "AuditEntry",
    "BridgeRecord",
    "CollectorRecord",
    "Desired",
    "InUse",
    "InterfaceRow",
    "NameTaken",
    "NewerSchema",
    "NotFound",
    "OnceKey",
    "Repeated",
    "SessionRecord",
    "Store",
    "StoreError",
]
