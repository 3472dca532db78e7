"""What real Open vSwitch did when the matrix was played, and whether it was this matrix."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

from flows.model import Placement
from tests.matrix.scenes import Scene

RECORD = Path(__file__).with_name("seen.json")


@dataclass(frozen=True)
class Seen:
    """A run over the whole matrix; ``digest`` stands for everything that was expected."""

    scenes: int
    cells: int
    packets: int
    copies: int
    missing: int
    extra: int
    digest: str
    open_vswitch: str

    def __str__(self) -> str:
        return (
            f"cells={self.cells} packets={self.packets} copies={self.copies} "
            f"missing={self.missing} extra={self.extra}"
        )


def digest_of(scenes: Iterable[Scene]) -> str:
    """A short text that changes with any cell, session or frame of the matrix."""
    found = blake2b(digest_size=16)
    for scene in scenes:
        found.update(f"{scene.name} {scene.cells} {scene.world.sessions}".encode())
        for line in sorted(f"{n} {_show(at)} {f.hex()}" for (at, f), n in scene.expected.items()):
            found.update(line.encode())
    return found.hexdigest()


def _show(at: object) -> str:
    if isinstance(at, Placement):
        return f"Placement(dpid={at.dpid}, ofport={at.ofport})"
    return str(at)


def keep(seen: Seen) -> None:
    """Write down a run."""
    RECORD.write_text(json.dumps(asdict(seen), indent=1) + "\n")


def kept() -> Seen | None:
    """The run that was written down; None: none was yet."""
    return Seen(**json.loads(RECORD.read_text())) if RECORD.exists() else None
