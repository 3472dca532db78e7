"""Resolves a world: which sessions are served, by which ports, and why others are not."""

from flows.resolve.arbitration import Arbitration, Chain, Cohort
from flows.resolve.bridge_view import BridgeView, LocalWorkload
from flows.resolve.capacity import (
    COHORTS_PER_NETWORK,
    EXCLUSIVE_WEIGHT,
    FAR_WEIGHT,
    FILTERED_WEIGHT,
    SESSIONS_PER_NETWORK,
    STAGED_WEIGHT,
)
from flows.resolve.mirrors import (
    MirrorUse,
    Taken,
    Vlans,
    networks_of,
    owner_port,
    told_by_address,
)
from flows.resolve.obstacles import (
    at_links,
    at_receiver,
    at_sender,
    undelivered,
    without_link,
)
from flows.resolve.output_count import OUTPUTS_MAX, CrowdedNetwork
from flows.resolve.reach import (
    sensor_notes,
    unprepared_bridges,
    unseen_segmenter,
    why_not_segmented,
)
from flows.resolve.session import ResolvedSession
from flows.resolve.world import ResolvedWorld

__all__ = [
    "COHORTS_PER_NETWORK",
    "EXCLUSIVE_WEIGHT",
    "FAR_WEIGHT",
    "FILTERED_WEIGHT",
    "OUTPUTS_MAX",
    "SESSIONS_PER_NETWORK",
    "STAGED_WEIGHT",
    "Arbitration",
    "BridgeView",
    "Chain",
    "Cohort",
    "CrowdedNetwork",
    "LocalWorkload",
    "MirrorUse",
    "ResolvedSession",
    "ResolvedWorld",
    "Taken",
    "Vlans",
    "at_links",
    "at_receiver",
    "at_sender",
    "networks_of",
    "owner_port",
    "sensor_notes",
    "told_by_address",
    "undelivered",
    "unprepared_bridges",
    "unseen_segmenter",
    "why_not_segmented",
    "without_link",
]
