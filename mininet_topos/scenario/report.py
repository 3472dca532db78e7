"""The table at the end of a scenario, as plain text; colours only for people."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from scenario.check import Comparison, Deviation, Row
from scenario.frames import describe

_SHOWN = 8
_HEADER = (
    *("tenant", "what", "sent by", "frames", "delivered"),
    *("copied to", "expected", "seen", "missing", "extra"),
)
_NUMBERS = {"frames", "delivered", "expected", "seen", "missing", "extra"}
_RED, _GREEN, _BOLD = 31, 32, 1


def show(comparison: Comparison) -> None:
    """Print who sent what, where it arrived, what is wrong, and a closing line."""
    rows = sorted(comparison.rows, key=lambda row: row.kind)
    tenants = dict.fromkeys(row.tenant for row in comparison.rows)
    cells = [_cells(row) for tenant in tenants for row in rows if row.tenant == tenant]
    widths = [max(len(line[i]) for line in [_HEADER, *cells]) for i in range(len(_HEADER))]
    print(_colour(_aligned(_HEADER, widths), _BOLD))
    for line in cells:
        is_right = line[-2:] == ("0", "0")
        print(_aligned(line, widths) if is_right else _colour(_aligned(line, widths), _RED))
    print()
    for deviation in comparison.deviations[:_SHOWN]:
        print(_colour(_sentence(deviation), _RED))
    if len(comparison.deviations) > _SHOWN:
        print(_colour(f"... and {len(comparison.deviations) - _SHOWN} more", _RED))
    print(_closing_line(comparison))


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.tenant,
        row.kind,
        " ".join(sorted(row.senders)) or "nobody",
        str(row.frames),
        f"{row.delivered} of {row.to_deliver}" if row.to_deliver else "nowhere",
        " ".join(sorted(row.tap_ports)) or "-",
        *(str(number) for number in (row.expected, row.seen, row.missing, row.extra)),
    )


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    cells = (
        text.rjust(width) if title in _NUMBERS else text.ljust(width)
        for title, text, width in zip(_HEADER, line, widths, strict=True)
    )
    return "  ".join(cells).rstrip()


def _sentence(deviation: Deviation) -> str:
    who = " and ".join(deviation.senders) or "nobody"
    times = "" if deviation.times == 1 else f" ({deviation.times} times)"
    frame = f"{describe(deviation.frame)}, sent by {who}{times}"
    match deviation.what:
        case "missing":
            return f"missing at {deviation.host}: the copy of {frame}"
        case "lost":
            return f"lost: {deviation.host} did not receive {frame}"
        case _:
            return f"extra at {deviation.host}: {frame}"


def _closing_line(comparison: Comparison) -> str:
    missing, extra, lost = (comparison.count(what) for what in ("missing", "extra", "lost"))
    frames, copies = (sum(getattr(row, of) for row in comparison.rows) for of in ("frames", "seen"))
    numbers = f"missing={missing} extra={extra}"
    if comparison.is_clean:
        words = f"{frames} frames sent, {copies} copies made: each where it must be"
        return _colour(f"{words}, nothing anywhere else: {numbers}", _GREEN)
    words = f"NOT AS IT MUST BE: of {frames} frames sent, {missing} copies are missing, "
    words += f"{extra} frames arrived where they must not, {lost} were not delivered"
    return _colour(f"{words}: {numbers} lost={lost}", _RED)


def _colour(text: str, code: int) -> str:
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        return f"\033[{code}m{text}\033[0m"
    return text
