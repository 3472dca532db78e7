"""The status of sessions and bridges as values, and the arithmetic of their counters."""

from controller.status.caps import caps_on, words_of_caps
from controller.status.left_out import LeftOut, UndeclaredInterface, UnopenedInterface
from controller.status.losses import (
    LATELY,
    uncounted_sentence,
    with_counts,
    with_shed,
    with_uncounted,
    with_uncounted_bridge,
)
from controller.status.service import Inspecting, Reconciling, Vitals
from controller.status.session_counters import (
    MEASURES,
    NO_BEACONS,
    NOTHING_UNTOLD,
    RECENT_S,
    SessionCounters,
    SessionCountersByBridge,
    ids_of,
    joined,
    own_meters,
)
from controller.status.starvation import with_starvation
from controller.status.values import (
    BridgeShare,
    BridgeStatus,
    Losses,
    Measure,
    PortPlace,
    SessionStatus,
    State,
    Uncounted,
)
from controller.status.verify import Check, PathChecked, PortWitness, Verification

__all__ = [
    "LATELY",
    "MEASURES",
    "NOTHING_UNTOLD",
    "NO_BEACONS",
    "RECENT_S",
    "BridgeShare",
    "BridgeStatus",
    "Check",
    "Inspecting",
    "LeftOut",
    "Losses",
    "Measure",
    "PathChecked",
    "PortPlace",
    "PortWitness",
    "Reconciling",
    "SessionCounters",
    "SessionCountersByBridge",
    "SessionStatus",
    "State",
    "Uncounted",
    "UndeclaredInterface",
    "UnopenedInterface",
    "Verification",
    "Vitals",
    "caps_on",
    "ids_of",
    "joined",
    "own_meters",
    "uncounted_sentence",
    "with_counts",
    "with_shed",
    "with_starvation",
    "with_uncounted",
    "with_uncounted_bridge",
    "words_of_caps",
]
