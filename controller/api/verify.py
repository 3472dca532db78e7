"""/v1/sessions/{id}/verify: does a copy reach the sensor as it should?"""

from __future__ import annotations

import secrets

from flask import Response

from controller.api.answers import (
    SensorWitnessOut,
    VerificationOut,
    WayCheckedOut,
)
from controller.api.bodies import VerifyIn
from controller.api.context import answer, context, who
from controller.api.requests import OneQuery, Path
from controller.api.sessions import find_session, sessions
from controller.status import Verification
from flows.model import Session

__all__ = ["sessions"]

WITNESSES = (
    "`counted` and what tap ports sent hold real copies of the same moment, too: what arrived "
    "exactly is known at the sensor alone (`cloudtap session verify NAME --listen INTERFACE`)"
)
NOT_COUNTED = "beacons do not count as copies of the session, nor towards its limits"


@sessions.post("/<ref>/verify", responses={200: VerificationOut})
def verify_session(path: Path, query: OneQuery, body: VerifyIn) -> Response:
    """Send marked frames the way of its copies

    Production never sees them. The answer comes when all are sent; it says what the switches have
    counted.
    """
    parts = context()
    session = find_session(path.ref, query.tenant).session
    run = secrets.randbits(64)
    detail = {"run": f"{run:016x}", "count": body.count, "length": body.length}
    parts.store.deeds.note(session, who(), "verified", detail)
    found = parts.reconcile.verify(session.id, run, body.count, body.length)
    return answer(_shown(session, body, found))


def _shown(session: Session, body: VerifyIn, found: Verification) -> VerificationOut:
    inventory = context().inventory()
    networks = {network.id: network.name for network in inventory.networks}
    ports = {port.id: port.name for port in inventory.ports}
    return VerificationOut(
        session=session.name,
        session_id=session.id,
        run=f"{found.run:016x}",
        count=body.count,
        length=body.length,
        sent=sum(way.sent for way in found.ways),
        ways=[
            WayCheckedOut(
                bridge=way.bridge,
                bridge_id=f"{way.dpid:016x}",
                network=None if way.network is None else networks.get(way.network, way.network),
                network_number=way.network_number,
                tag=way.tag,
                length=way.length,
                sent=way.sent,
                counted=way.counted,
            )
            for way in found.ways
        ],
        sensors=[
            SensorWitnessOut(port=ports.get(s.port, s.port), bridge=s.bridge, sent=s.sent)
            for s in found.sensors
        ],
        not_verified=list(found.left_out),
        notes=[NOT_COUNTED, WITNESSES],
    )
