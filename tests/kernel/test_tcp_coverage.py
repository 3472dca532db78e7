"""What is missing, cut, too long or wrong in copies of a TCP stream is noticed."""

from __future__ import annotations

import struct

from tests import frames
from tests.kernel.tcp_coverage import Coverage, cover, segment_in

WEB, DB = 0x020000000001, 0x020000000002
SIZE, MSS = 10_000, 1000
HEADERS = 14 + 20 + 20


def segment(start: int, length: int, source: int = WEB) -> bytes:
    """A frame with these bytes of the stream; the stream begins at sequence number 1."""
    data = bytes(n % 251 for n in range(start, start + length))
    head = struct.pack("!HHIIBBHHH", 1000, 5001, 1 + start, 1, 5 << 4, 16, 512, 0, 0)
    pseudo = bytes((10, 0, 0, 1, 10, 0, 0, 2)) + struct.pack("!HH", 6, 20 + length)
    text = pseudo + head + data + bytes(length % 2)
    total = sum(struct.unpack(f"!{len(text) // 2}H", text))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    body = head[:16] + (~total & 0xFFFF).to_bytes(2, "big") + head[18:] + data
    return frames.ethernet(DB, source, 0x0800, frames.ipv4("10.0.0.1", "10.0.0.2", 6, body))


STREAM = [segment(start, MSS) for start in range(0, SIZE, MSS)]


def covered(sent: list[bytes]) -> Coverage:
    return cover(sent, WEB, SIZE)


def test_a_whole_stream_is_covered_once_however_often_it_comes() -> None:
    found = covered(STREAM + STREAM)
    assert (found.bytes_there, found.bytes_announced) == (SIZE, SIZE)
    assert (found.frames, found.cut, found.wrong_checksums) == (20, 0, 0)
    assert found.longest == HEADERS + MSS


def test_a_segment_that_is_missing_is_noticed() -> None:
    found = covered(STREAM[:4] + STREAM[5:])
    assert (found.bytes_there, found.bytes_announced) == (SIZE - MSS, SIZE - MSS)


def test_data_that_was_cut_off_is_announced_and_not_there() -> None:
    found = covered([frame[: HEADERS + 100] for frame in STREAM])
    assert (found.bytes_there, found.bytes_announced) == (SIZE // 10, SIZE)
    assert (found.cut, found.wrong_checksums) == (10, 0)


def test_a_super_frame_that_was_cut_has_little_of_what_it_announces() -> None:
    found = covered([segment(0, SIZE)[:200]])
    assert (found.bytes_there, found.bytes_announced) == (200 - HEADERS, SIZE)


def test_a_super_frame_is_seen_by_its_length() -> None:
    assert covered([segment(0, SIZE)]).longest == HEADERS + SIZE


def test_a_changed_bit_makes_a_checksum_wrong() -> None:
    damaged = bytearray(STREAM[3])
    damaged[-1] ^= 1
    assert covered([*STREAM[:3], bytes(damaged)]).wrong_checksums == 1
    header = bytearray(STREAM[3])
    header[22] ^= 1  # the time to live
    assert covered([bytes(header)]).wrong_checksums == 1


def test_tags_and_padding_do_not_matter() -> None:
    tagged = STREAM[0][:12] + bytes.fromhex("810000078100000b") + STREAM[0][12:] + bytes(5)
    found = covered([tagged])
    assert (found.bytes_there, found.wrong_checksums) == (MSS, 0)


def test_what_others_send_is_not_counted() -> None:
    assert segment_in(segment(0, 10, source=DB), WEB) is None
    assert segment_in(frames.ethernet(DB, WEB, 0x0806, bytes(46)), WEB) is None
    assert covered([segment(0, MSS, source=DB)]).frames == 0
