"""How much of a TCP stream a sensor gets in frames: the bytes that are there, and how they come."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

ETH_IPV4, ETH_VLAN, ETH_QINQ, TCP = b"\x08\x00", b"\x81\x00", b"\x88\xa8", 6
Span = tuple[int, int]
"""Sequence numbers of the first byte, and of the one behind the last."""


@dataclass(frozen=True)
class Segment:
    """One TCP segment over IPv4, as its headers announce it, and what of it is in the frame."""

    start: int
    """The sequence number of its first byte."""
    announced: int
    """Bytes of data by the length in the IP header."""
    there: int
    """Bytes of data in the frame."""
    has_right_checksums: bool
    """Of IP, and of TCP if the segment is whole; that of a cut one cannot be computed."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing was cut off."""
        return self.there == self.announced


@dataclass(frozen=True)
class Coverage:
    """What a sensor has got of a stream of ``size`` bytes."""

    size: int
    frames: int
    """Frames with data."""
    bytes_there: int
    """Distinct bytes of the stream."""
    bytes_announced: int
    """Distinct bytes of the stream that headers announce, cut off or not."""
    longest: int
    """Bytes of the longest frame."""
    cut: int
    """Frames that are not whole."""
    wrong_checksums: int

    @property
    def share(self) -> float:
        """The part of the stream that is there, 0 to 1."""
        return self.bytes_there / self.size

    def __str__(self) -> str:
        return (
            f"{self.share:.1%} of the data ({self.bytes_announced / self.size:.1%} announced) in "
            f"{self.frames} frames, {self.cut} of them cut, {self.wrong_checksums} with a wrong "
            f"checksum, the longest of {self.longest} bytes"
        )


def segment_in(frame: bytes, sender: int) -> Segment | None:
    """The TCP segment in a frame from a MAC address; None if it is something else."""
    if int.from_bytes(frame[6:12], "big") != sender:
        return None
    at = 12
    while frame[at : at + 2] in (ETH_VLAN, ETH_QINQ):
        at += 4
    packet = frame[at + 2 :]
    if frame[at : at + 2] != ETH_IPV4 or len(packet) < 40 or packet[9] != TCP:
        return None
    header = (packet[0] & 15) * 4
    length = int.from_bytes(packet[2:4], "big")
    body = packet[header:length]
    data_at = (body[12] >> 4) * 4 if len(body) > 12 else 20
    announced = length - header - data_at
    is_right = not _sum(packet[:header])
    if len(packet) >= length:
        pseudo = packet[12:20] + struct.pack("!HH", TCP, len(body))
        is_right = is_right and not _sum(pseudo + body)
    there = max(0, min(len(packet), length) - header - data_at)
    return Segment(int.from_bytes(body[4:8], "big"), announced, there, is_right)


def cover(frames: Iterable[bytes], sender: int, size: int) -> Coverage:
    """What these frames have of the stream of ``size`` bytes that ``sender`` sends."""
    found = [
        (len(frame), segment)
        for frame in frames
        if (segment := segment_in(frame, sender)) is not None and segment.announced > 0
    ]
    return Coverage(
        size=size,
        frames=len(found),
        bytes_there=_distinct((s.start, s.start + s.there) for _, s in found),
        bytes_announced=_distinct((s.start, s.start + s.announced) for _, s in found),
        longest=max((length for length, _ in found), default=0),
        cut=sum(not segment.is_whole for _, segment in found),
        wrong_checksums=sum(not segment.has_right_checksums for _, segment in found),
    )


def _distinct(spans: Iterable[Span]) -> int:
    """How many bytes are in at least one span; sequence numbers do not wrap."""
    total, end = 0, -1
    for start, behind in sorted(spans):
        total += max(0, behind - max(start, end))
        end = max(end, behind)
    return total


def _sum(data: bytes) -> int:
    """The Internet checksum (RFC 1071): 0 for data that contain the right one."""
    words = struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2))
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
