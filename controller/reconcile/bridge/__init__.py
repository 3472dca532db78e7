"""One bridge: what it has, what it should have, and its writer."""

from controller.reconcile.bridge.adoption import Adoption
from controller.reconcile.bridge.confirmed import AppliedPlan, Confirmed, WriterView, knows
from controller.reconcile.bridge.drift import contested_reason
from controller.reconcile.bridge.early_install import EarlyInstall
from controller.reconcile.bridge.program_cache import ProgramCache
from controller.reconcile.bridge.state import Depth, Phase
from controller.reconcile.bridge.turns import STAGE_S, TurnStep
from controller.reconcile.bridge.writer import BridgeWriter, WriterContext, WriterObserver

__all__ = [
    "STAGE_S",
    "Adoption",
    "AppliedPlan",
    "BridgeWriter",
    "Confirmed",
    "Depth",
    "EarlyInstall",
    "Phase",
    "ProgramCache",
    "TurnStep",
    "WriterContext",
    "WriterObserver",
    "WriterView",
    "contested_reason",
    "knows",
]
