"""Meters as OpenFlow 1.3 bytes, and the meters and meter statistics of a switch back as values.

Layouts: OpenFlow Switch Specification 1.3.5, sections 7.3.4.4 (meter-mod) and 7.3.5.12 to 14.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from struct import Struct, error

from controller.southbound.errors import WireError
from controller.southbound.wire.header import (
    HEADER,
    METER_MOD,
    MULTIPART_HEAD,
    MULTIPART_REQUEST,
    encode_message,
)
from flows.model import RATES, Rate, RateUnit
from flows.openflow import MeterCount, PacketCount
from flows.plan import Meter

METER_STATS, METER_CONFIG, METER_FEATURES = 9, 10, 11
ALL_METERS = 0xFFFFFFFF
BAND_DROP = 1
UNIT_FLAGS = {RateUnit.KBPS: 1 << 0, RateUnit.PPS: 1 << 1}
BURST, STATS = 1 << 2, 1 << 3
"""Flags: the bands have a burst size; count packets and bytes."""

METER_MOD_BODY = Struct("!HHI")
DROP_BAND = Struct("!HHII4x")
METER_REQUEST = Struct("!I4x")
CONFIG_ENTRY = Struct("!HHI")
STATS_ENTRY = Struct("!IH6xIQQII")
BAND_STATS = Struct("!QQ")
FEATURES_BODY = Struct("!IIIBB2x")


class MeterCommand(IntEnum):
    """The command of a meter-mod."""

    ADD = 0
    """A new meter; the switch refuses it if it has the number."""
    MODIFY = 1
    """New bands for an existing meter; flows keep using it."""
    DELETE = 2
    """Deletes the meter and every flow that uses it; no error if there is none."""


def encode_meter_mod(command: MeterCommand, meter: Meter, xid: int) -> bytes:
    """The meter-mod that adds a meter or changes its rate."""
    flags = UNIT_FLAGS[meter.rate.unit] | BURST | STATS
    body = METER_MOD_BODY.pack(command, flags, meter.number)
    band = DROP_BAND.pack(BAND_DROP, DROP_BAND.size, meter.rate.value, meter.burst)
    return encode_message(METER_MOD, xid, body + band)


def encode_meter_delete(number: int, xid: int) -> bytes:
    """The meter-mod that deletes one meter, and with it every flow that uses it."""
    return encode_message(METER_MOD, xid, METER_MOD_BODY.pack(MeterCommand.DELETE, 0, number))


def encode_meter_config_request(xid: int) -> bytes:
    """The request for the configuration of every meter."""
    return _request(METER_CONFIG, xid, METER_REQUEST.pack(ALL_METERS))


def encode_meter_stats_request(xid: int, number: int = ALL_METERS) -> bytes:
    """The request for the statistics of one meter, or of every meter."""
    return _request(METER_STATS, xid, METER_REQUEST.pack(number))


def encode_meter_features_request(xid: int) -> bytes:
    """The request for the meter features of the switch."""
    return _request(METER_FEATURES, xid, b"")


def decode_meter_config(message: bytes) -> Iterator[tuple[int, Meter | None]]:
    """The meters of one meter-config reply by number; None for one that is not like ours.

    Raises:
        WireError: the message is cut off or its lengths do not add up.
    """
    at, end = HEADER.size + MULTIPART_HEAD.size, len(message)
    try:
        while at < end:
            length, flags, number = CONFIG_ENTRY.unpack_from(message, at)
            if length < CONFIG_ENTRY.size or at + length > end:
                raise WireError(f"a list of meters with impossible lengths at byte {at}")
            yield number, _meter(number, flags, message[at + CONFIG_ENTRY.size : at + length])
            at += length
    except error as problem:
        raise WireError(f"a list of meters is cut off at byte {at}") from problem


def decode_meter_stats(message: bytes) -> Iterator[tuple[int, MeterCount]]:
    """The counters of each meter in one meter-stats reply, by number; drops of all bands added.

    Raises:
        WireError: the message is cut off or its lengths do not add up.
    """
    at, end = HEADER.size + MULTIPART_HEAD.size, len(message)
    try:
        while at < end:
            number, length, _, seen, seen_bytes, *_ = STATS_ENTRY.unpack_from(message, at)
            if length < STATS_ENTRY.size or at + length > end:
                raise WireError(f"counters of meters with impossible lengths at byte {at}")
            packets = size = 0
            for band in BAND_STATS.iter_unpack(message[at + STATS_ENTRY.size : at + length]):
                packets, size = packets + band[0], size + band[1]
            yield number, MeterCount(PacketCount(seen, seen_bytes), PacketCount(packets, size))
            at += length
    except error as problem:
        raise WireError(f"counters of meters are cut off at byte {at}") from problem


def decode_meter_features(message: bytes) -> int:
    """How many meters the switch supports; 0 if it has no drop band.

    Open vSwitch puts a count into ``max_meter`` and accepts any meter number; in the specification
    the field is the highest number.

    Raises:
        WireError: the message is cut off.
    """
    try:
        features = FEATURES_BODY.unpack_from(message, HEADER.size + MULTIPART_HEAD.size)
    except error as problem:
        raise WireError(f"features of meters of {len(message)} bytes are cut off") from problem
    most, bands, _, bands_each, _ = features
    return int(most) if bands & 1 << BAND_DROP and bands_each else 0


def _request(kind: int, xid: int, body: bytes) -> bytes:
    return encode_message(MULTIPART_REQUEST, xid, MULTIPART_HEAD.pack(kind, 0) + body)


def _meter(number: int, flags: int, bands: bytes) -> Meter | None:
    """The meter; None if it is not exactly what ``encode_meter_mod`` would send."""
    if len(bands) != DROP_BAND.size:
        return None
    kind, _, rate, burst = DROP_BAND.unpack(bands)
    for unit, flag in UNIT_FLAGS.items():
        if (kind, flags) == (BAND_DROP, flag | BURST | STATS) and rate in RATES:
            meter = Meter(number, Rate(unit, rate))
            return meter if meter.burst == burst else None
    return None
