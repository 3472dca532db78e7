"""Sessions on TCP in super-frames (TSO, GRO), what each promises, and whether that was kept.

A session copies what it promises, or says that it cannot: then nothing of the stream is copied in
part, and what was left out is counted and said in its status.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tests.kernel.tcp_coverage import Coverage

SIZE = 2_000_000
"""Bytes of each stream."""
FULL = 1514
"""Bytes of the longest frame of a network with an MTU of 1500."""
HEADERS = 14 + 20 + 32
"""Bytes of Ethernet, IPv4 and TCP with timestamps, as Linux sends data."""
SEGMENT = FULL - HEADERS
ADDED = {"vxlan": 36, "geneve": 36, "gre": 28, "erspan2": 36}
"""Bytes that a tunnel over IPv4 adds to an Ethernet frame, behind the outer Ethernet header."""


@dataclass(frozen=True)
class Row:
    """One session, and where its copies go.

    ``delivery`` is ``port`` (tap port ``tap``), or a tunnel on an underlay with an MTU of ``mtu``.
    """

    name: str
    delivery: str = "port"
    tap: str = "ids"
    mtu: int = 1600
    session: Mapping[str, object] = field(default_factory=dict)
    has_pair: bool = False
    """The bridge has a segmenting pair: what must be truncated may not be left out."""
    is_merged_on_arrival: bool = False
    """The workload sends segments, and the network card of the bridge merges them (GRO)."""

    @property
    def longest(self) -> int:
        """Bytes of a frame that may be copied whole."""
        asked = self.session.get("packet_length")
        most = FULL if asked is None else min(FULL, int(str(asked)))
        return most if self.delivery == "port" else min(most, self.mtu - ADDED[self.delivery])

    @property
    def skips(self) -> bool:
        """Whether the session asks to leave out what does not fit."""
        return self.session.get("oversize") == "skip"

    @property
    def promised(self) -> float:
        """The share of the stream that must be in copies: of each segment what fits."""
        return 0.0 if self.skips else (self.longest - HEADERS) / SEGMENT


@dataclass(frozen=True)
class Outcome:
    """What came out when a stream was sent."""

    coverage: Coverage
    longest_delivered: int
    """Bytes of the longest frame that production delivered."""
    longest_packet: int
    """Bytes of the longest packet on the underlay; 0 without a tunnel."""
    state: str
    reasons: tuple[str, ...]
    skipped: Mapping[str, object]

    @property
    def is_said(self) -> bool:
        """Whether the status says that copies were left out, and they are counted."""
        return bool(self.skipped and self.reasons and self.state != "active")

    def __str__(self) -> str:
        said = "; ".join(self.reasons) or "nothing"
        return f"{self.coverage}; {self.state}, says: {said}; skipped: {dict(self.skipped)}"


def problems(row: Row, outcome: Outcome) -> Iterator[str]:
    """What is not as a row promises.

    Raises:
        AssertionError: production had no super-frames, so the outcome says nothing.
    """
    found = outcome.coverage
    assert outcome.longest_delivered > FULL, f"no super-frames: {outcome.longest_delivered} bytes"
    if found.longest > FULL:
        yield f"a copy of {found.longest} bytes is longer than any frame of the network"
    elif found.longest > row.longest:
        yield f"a copy of {found.longest} bytes is longer than {row.longest}"
    if outcome.longest_packet > row.mtu:
        yield f"a tunnel packet of {outcome.longest_packet} bytes exceeds the MTU {row.mtu}"
    if found.wrong_checksums:
        yield f"wrong checksums in {found.wrong_checksums} of {found.frames} copies"
    left_out = f"{found.share:.1%} of the stream was copied"
    if row.skips:
        if found.cut:
            yield f"{found.cut} copies were cut, and none may be"
        if not outcome.skipped:
            yield f"{left_out}, and nothing is counted as skipped"
    elif found.share < row.promised or found.bytes_announced < found.size:
        if row.has_pair or not outcome.is_said:
            yield f"{left_out}, {row.promised:.1%} is promised, and nothing says so"
        elif found.cut:
            yield f"{left_out}, {row.promised:.1%} is promised, and {found.cut} copies were cut"
