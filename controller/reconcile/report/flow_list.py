"""The flows that a bridge should have, as people read them: compiled anew, and in slices."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flows.compile import Program, Survey
from flows.openflow.flow import Flow

TOGETHER = 64
"""So many flows are written before others may run."""


def list_flows(program: Program, survey: Survey, pause: Callable[[], None]) -> list[str]:
    """The meters and flows of a bridge, with the reason of each flow; by table and priority.

    ``pause`` is called again and again: a bridge may have 100,000 flows.
    """
    by_table: dict[int, list[Flow]] = {}
    for flow in program.update(survey, pause).put:
        by_table.setdefault(flow.table, []).append(flow)
    lines = [str(meter) for _, meter in sorted(program.meters.items())]
    for _, flows in sorted(by_table.items()):
        lines += (text for _, _, text in sorted(_written(flows, pause)))
        pause()
    return lines


def _written(flows: Iterable[Flow], pause: Callable[[], None]) -> Iterable[tuple[int, str, str]]:
    """Each flow with what it is sorted by."""
    for at, flow in enumerate(flows):
        if at % TOGETHER == 0:
            pause()
        yield -flow.priority, str(flow.match), f"{flow}  # {flow.why}"
