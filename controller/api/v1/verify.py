"""/v1/sessions/{id}/verify: sends marked frames to check that copies reach their sensors."""

from __future__ import annotations

import secrets

from flask import Response

from controller.api.context import actor, answer, context
from controller.api.problems import not_found
from controller.api.schemas import (
    OneQuery,
    Path,
    PathCheckedOut,
    PortWitnessOut,
    VerificationOut,
    VerifyIn,
)
from controller.api.v1.sessions import find_session, sessions
from controller.status import Check, Verification
from flows.errors import CloudtapError, Refused
from flows.model import PortId, Sensor, Session

__all__ = ["sessions"]

WITNESSES = (
    "`counted` and what ports sent hold real copies of the same moment, too: what arrived "
    "exactly is known at the sensor alone (`cloudtap session verify NAME --listen INTERFACE`)"
)
NOT_COUNTED_NOTE = "these frames do not count as copies of the session, nor towards its limits"


@sessions.post("/<ref>/verify", responses={200: VerificationOut})
def verify_session(path: Path, query: OneQuery, body: VerifyIn) -> Response:
    """Send marked frames along the paths of its copies

    They are never delivered to production. The answer is sent when all frames are; it has what the
    switches have counted.
    """
    parts = context()
    session = find_session(path.ref, query.tenant).session
    sensor = None if body.sensor is None else _sensor(body.sensor, session)
    check = Check(secrets.randbits(64), body.count, body.length, sensor, body.may_be_cut)
    try:
        found = parts.inspector.verify(session.id, check)
    except Refused:
        raise  # nothing was sent
    except CloudtapError as problem:
        _record(session, check, {"failed": str(problem)})
        raise
    _record(session, check, {})
    return answer(_shown(session, check, found))


def _record(session: Session, check: Check, more: dict[str, object]) -> None:
    detail = {"run": f"{check.run:016x}", "count": check.count, "length": check.length, **more}
    context().store.audit.add(session, actor(), "verified", detail)


def _sensor(ref: str, session: Session) -> Sensor:
    """The sensor of the session's collector that has this name, id or address."""
    found = context().store.collectors.find(session.collector)
    sensors = () if found is None else found.collector.sensors
    for sensor in sensors:
        if ref in (str(sensor), _name(sensor)):
            return sensor
    known = ", ".join(_name(sensor) for sensor in sensors)
    raise not_found("sensor", ref, "sensor", f" of session {session.name!r}: it has {known}")


def _name(sensor: Sensor) -> str:
    """The name of a sensor's tap port, or its address."""
    names = {port.id: port.name for port in context().inventory().ports}
    return names.get(PortId(str(sensor)), str(sensor))


def _shown(session: Session, check: Check, found: Verification) -> VerificationOut:
    networks = {network.id: network.name for network in context().inventory().networks}
    return VerificationOut(
        session=session.name,
        session_id=session.id,
        run=f"{found.run:016x}",
        count=check.count,
        length=check.length,
        sent=sum(way.sent for way in found.ways),
        ways=[
            PathCheckedOut(
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
        notes=[NOT_COUNTED_NOTE, WITNESSES],
    )
