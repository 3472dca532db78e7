"""Desired state to switches: one writer for each bridge."""

from controller.reconcile.finalizer import Finalizer
from controller.reconcile.hearing import Hearing
from controller.reconcile.limits import CHECK_S, LimitChecker
from controller.reconcile.mirror_demand import MirrorDemandLoop
from controller.reconcile.periodic import START_S, TICK_S, InventoryReload, Loop, Readiness, Upkeep
from controller.reconcile.reconciler import Reconciler
from controller.reconcile.snapshot import Snapshot, SnapshotBuilder
from controller.reconcile.start_report import StartReport
from controller.reconcile.tunnel_demand import TunnelDemandLoop
from controller.reconcile.untold import Untold
from controller.reconcile.writers import WriterLifecycle, Writers

__all__ = [
    "CHECK_S",
    "START_S",
    "TICK_S",
    "Finalizer",
    "Hearing",
    "InventoryReload",
    "LimitChecker",
    "Loop",
    "MirrorDemandLoop",
    "Readiness",
    "Reconciler",
    "Snapshot",
    "SnapshotBuilder",
    "StartReport",
    "TunnelDemandLoop",
    "Untold",
    "Upkeep",
    "WriterLifecycle",
    "Writers",
]
