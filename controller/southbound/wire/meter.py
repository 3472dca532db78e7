"""Meters as OpenFlow 1.3 bytes, and what a switch says of its meters back as values.

Layouts: OpenFlow Switch Specification 1.3.5, sections 7.3.4.4 (meter mod) and 7.3.5.12 to 14.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from struct import Struct, error

from controller.southbound.errors import WireError
from controller.southbound.switch import Metering
from controller.southbound.wire.flow import (
    HEADER,
    MULTIPART_HEAD,
    MULTIPART_REQUEST,
    encode_message,
)
from controller.status.values import Copies
from flows.plan.meters import Meter
from flows.model.session import RATES, Rate, RateUnit

METER_MOD = 29
METER_STATS, METER_CONFIG, METER_FEATURES = 9, 10, 11
ALL_METERS = 0xFFFFFFFF
DROP = 1
UNITS = {RateUnit.KBPS: 1 << 0, RateUnit.PPS: 1 << 1}
BURST, STATS = 1 << 2, 1 << 3

METER_MOD_BODY = Struct("!HHI")
DROP_BAND = Struct("!HHII4x")
METER_REQUEST = Struct("!I4x")
CONFIG = Struct("!HHI")
COUNTERS = Struct("!IH6xIQQII")
BAND_COUNTERS = Struct("!QQ")
FEATURES = Struct("!IIIBB2x")


class MeterChange(IntEnum):
    """What a meter mod asks for."""

    ADD = 0
    """A meter that must not be there yet."""
    MODIFY = 1
    """Other rates for a meter that must be there; flows that use it go on."""
    DELETE = 2
    """It goes, and every flow that uses it; nothing happens when it is not there."""


def encode_meter(change: MeterChange, meter: Meter, xid: int) -> bytes:
    """The message that adds a meter, or gives it another rate."""
    flags = UNITS[meter.rate.unit] | BURST | STATS
    body = METER_MOD_BODY.pack(change, flags, meter.number)
    band = DROP_BAND.pack(DROP, DROP_BAND.size, meter.rate.value, meter.burst)
    return encode_message(METER_MOD, xid, body + band)


def encode_meter_delete(number: int, xid: int) -> bytes:
    """The message that deletes one meter, and with it every flow that uses it."""
    return encode_message(METER_MOD, xid, METER_MOD_BODY.pack(MeterChange.DELETE, 0, number))


def encode_meters_request(xid: int) -> bytes:
    """Ask for every meter, as it was told."""
    return _request(METER_CONFIG, xid, METER_REQUEST.pack(ALL_METERS))


def encode_meter_counters_request(xid: int, number: int = ALL_METERS) -> bytes:
    """Ask what one meter, or each, has dropped."""
    return _request(METER_STATS, xid, METER_REQUEST.pack(number))


def encode_meter_features_request(xid: int) -> bytes:
    """Ask how many meters the switch may have."""
    return _request(METER_FEATURES, xid, b"")


def decode_meters(message: bytes) -> Iterator[tuple[int, Meter | None]]:
    """The meters of one reply by number; None for one that does other than ours do.

    Raises:
        WireError: the message is cut off or its lengths do not add up.
    """
    at, end = HEADER.size + MULTIPART_HEAD.size, len(message)
    try:
        while at < end:
            length, flags, number = CONFIG.unpack_from(message, at)
            if length < CONFIG.size or at + length > end:
                raise WireError(f"a list of meters with impossible lengths at byte {at}")
            yield number, _meter(number, flags, message[at + CONFIG.size : at + length])
            at += length
    except error as problem:
        raise WireError(f"a list of meters is cut off at byte {at}: {problem}") from problem


def decode_meter_counters(message: bytes) -> Iterator[tuple[int, Metering]]:
    """What each meter of one reply has counted, by number; drops of all bands together.

    Raises:
        WireError: the message is cut off or its lengths do not add up.
    """
    at, end = HEADER.size + MULTIPART_HEAD.size, len(message)
    try:
        while at < end:
            number, length, _, came, came_bytes, *_ = COUNTERS.unpack_from(message, at)
            if length < COUNTERS.size or at + length > end:
                raise WireError(f"counters of meters with impossible lengths at byte {at}")
            packets = size = 0
            for band in BAND_COUNTERS.iter_unpack(message[at + COUNTERS.size : at + length]):
                packets, size = packets + band[0], size + band[1]
            yield number, Metering(Copies(came, came_bytes), Copies(packets, size))
            at += length
    except error as problem:
        raise WireError(f"counters of meters are cut off at byte {at}: {problem}") from problem


def decode_meter_features(message: bytes) -> int:
    """How many meters the switch may have; 0 when it can drop by none.

    Open vSwitch counts so, and takes any number as a meter's name; the specification has the
    highest number here.

    Raises:
        WireError: the message is cut off.
    """
    try:
        features = FEATURES.unpack_from(message, HEADER.size + MULTIPART_HEAD.size)
    except error as problem:
        raise WireError(f"the features of meters are cut off: {problem}") from problem
    most, bands, _, bands_each, _ = features
    return int(most) if bands & 1 << DROP and bands_each else 0


def _request(kind: int, xid: int, body: bytes) -> bytes:
    return encode_message(MULTIPART_REQUEST, xid, MULTIPART_HEAD.pack(kind, 0) + body)


def _meter(number: int, flags: int, bands: bytes) -> Meter | None:
    """A meter of ours; None when it is not exactly what we would have told."""
    if len(bands) != DROP_BAND.size:
        return None
    kind, _, rate, burst = DROP_BAND.unpack(bands)
    for unit, flag in UNITS.items():
        if (kind, flags) == (DROP, flag | BURST | STATS) and rate in RATES:
            meter = Meter(number, Rate(unit, rate))
            return meter if meter.burst == burst else None
    return None
