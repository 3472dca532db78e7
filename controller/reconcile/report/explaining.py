"""What happens to a frame of a port, when the port is one that can send."""

from __future__ import annotations

from controller.process.time_slices import TURNS
from flows.compile import Survey
from flows.errors import Refused
from flows.explain.explain import Explanation, explain
from flows.model.session import PortId, PortKind


def explain_frame(survey: Survey, port: PortId, frame: bytes) -> Explanation:
    """What happens to a frame that a port sends.

    Raises:
        Refused: the port is gone, on no bridge, or a tap port.
    """
    sender = survey.world.port_by_id.get(port)
    if sender is None:
        raise Refused(f"port {port!r} is in no inventory any more")
    if sender.kind is not PortKind.VM:
        raise Refused(f"port {sender.name!r} is a tap port: what it sends is dropped")
    if port not in survey.world.placements:
        raise Refused(f"port {sender.name!r} is on no bridge now, so it sends nothing")
    with TURNS.taken():
        return explain(survey, sender, frame, TURNS.pause)
