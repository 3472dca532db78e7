"""The compiled flows of bridges that are away: most come back to the world that they left."""

from __future__ import annotations

import threading

from flows.compile import Program
from flows.model.session import Dpid


class Programs:
    """Keeps the program of each bridge while nobody writes to the bridge."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[Dpid, Program] = {}

    def take(self, dpid: Dpid) -> Program:
        """The program of a bridge, for its writer alone; an empty one if another still has it."""
        with self._lock:
            return self._kept.pop(dpid, None) or Program(dpid)

    def put(self, program: Program) -> None:
        """Keep a program that its writer does not need any more."""
        with self._lock:
            self._kept[program.dpid] = program

    def forget(self, dpid: Dpid) -> None:
        """A bridge will not come back."""
        with self._lock:
            self._kept.pop(dpid, None)
