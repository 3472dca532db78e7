"""The programs of bridges that are not connected: most come back to the world that they left."""

from __future__ import annotations

import threading
from collections import OrderedDict

from flows.compile import Program
from flows.model import Dpid

FORGOTTEN_MAX = 1000
"""Bridges that are remembered as forgotten, until their writers have ended."""


class ProgramCache:
    """Keeps the program (the compiled flows) of each bridge while it has no writer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._programs: dict[Dpid, Program] = {}
        self._forgotten: OrderedDict[Dpid, None] = OrderedDict()
        """Bridges that will not come back: their writers may still end."""

    def take(self, dpid: Dpid) -> Program:
        """The program of a bridge, for its writer alone; an empty one if another still has it."""
        with self._lock:
            self._forgotten.pop(dpid, None)
            return self._programs.pop(dpid, None) or Program(dpid)

    def put(self, program: Program) -> None:
        """Keep a program that its writer does not need any more."""
        with self._lock:
            if program.dpid not in self._forgotten:
                self._programs[program.dpid] = program

    def forget(self, dpid: Dpid) -> None:
        """Drop the program of a bridge that will not come back."""
        with self._lock:
            self._programs.pop(dpid, None)
            self._forgotten[dpid] = None
            if len(self._forgotten) > FORGOTTEN_MAX:
                self._forgotten.popitem(last=False)
