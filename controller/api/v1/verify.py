"""/v1/sessions/{id}/verify: does a copy reach the sensor as it should?"""

from __future__ import annotations

import secrets

from flask import Response

from controller.api.schemas.responses import PortWitnessOut, VerificationOut, WayCheckedOut
from controller.api.schemas.request_bodies import VerifyIn
from controller.api.context import answer, context, who
from controller.api.problems import not_found
from controller.api.schemas.parameters import OneQuery, Path
from controller.api.v1.sessions import find_session, sessions
from controller.status.values import Check, Verification
from flows.errors import CloudtapError, Refused
from flows.model.session import PortId, Sensor, Session

__all__ = ["sessions"]

WITNESSES = (
    "`counted` and what ports sent hold real copies of the same moment, too: what arrived "
    "exactly is known at the sensor alone (`cloudtap session verify NAME --listen INTERFACE`)"
)
NOT_COUNTED = "these frames do not count as copies of the session, nor towards its limits"


@sessions.post("/<ref>/verify", responses={200: VerificationOut})
def verify_session(path: Path, query: OneQuery, body: VerifyIn) -> Response:
    """Send marked frames the way of its copies

    Production never sees them. The answer comes when all are sent; it says what the switches have
    counted.
    """
    parts = context()
    session = find_session(path.ref, query.tenant).session
    sensor = None if body.sensor is None else _sensor(body.sensor, session)
    wish = Check(secrets.randbits(64), body.count, body.length, sensor, body.may_be_cut)
    try:
        found = parts.reconcile.verify(session.id, wish)
    except Refused:
        raise  # nothing was sent
    except CloudtapError as problem:
        _note(session, wish, {"failed": str(problem)})
        raise
    _note(session, wish, {})
    return answer(_shown(session, wish, found))


def _note(session: Session, wish: Check, more: dict[str, object]) -> None:
    detail = {"run": f"{wish.run:016x}", "count": wish.count, "length": wish.length, **more}
    context().store.deeds.note(session, who(), "verified", detail)


def _sensor(ref: str, session: Session) -> Sensor:
    """The sensor of the session's collector that has this name, id or address."""
    records = context().store.collectors()
    sensors = [
        s for r in records if r.collector.id == session.collector for s in r.collector.sensors
    ]
    for sensor in sensors:
        if ref in (str(sensor), _name(sensor)):
            return sensor
    known = ", ".join(_name(sensor) for sensor in sensors)
    raise not_found("sensor", ref, "sensor", f" of session {session.name!r}: it has {known}")


def _name(sensor: Sensor) -> str:
    """What people call a sensor: the name of its tap port, or its address."""
    names = {port.id: port.name for port in context().inventory().ports}
    return names.get(PortId(str(sensor)), str(sensor))


def _shown(session: Session, wish: Check, found: Verification) -> VerificationOut:
    networks = {network.id: network.name for network in context().inventory().networks}
    return VerificationOut(
        session=session.name,
        session_id=session.id,
        run=f"{found.run:016x}",
        count=wish.count,
        length=wish.length,
        sent=sum(way.sent for way in found.ways),
        ways=[
            WayCheckedOut(
                bridge=way.bridge,
                bridge_id=f"{way.dpid:016x}",
                sensor=_name(way.sensor),
                sensor_position=way.position,
                network=None if way.network is None else networks.get(way.network, way.network),
                network_number=way.network_number,
                tag=way.tag,
                length=way.length,
                sent=way.sent,
                counted=way.counted,
            )
            for way in found.ways
        ],
        witnesses=[
            PortWitnessOut(
                bridge=w.bridge, sensors=[_name(s) for s in w.sensors], wanted=w.wanted, sent=w.sent
            )
            for w in found.witnesses
        ],
        not_verified=list(found.left_out),
        notes=[NOT_COUNTED, WITNESSES],
    )
