"""A connection to a database that fails is left at once, and the sentence says why."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time

import pytest

from controller.databases import client as module
from controller.databases.client import PEER_SILENT_S, DatabaseClient, WriteAnswer
from controller.databases.remote import Streams
from controller.databases.replica import Report

REMOTE = "tcp:192.0.2.7:6640"


class Listener:
    """Keeps the states that are reported."""

    def __init__(self) -> None:
        self.states: list[tuple[str, str]] = []

    async def state(self, number: int, state: str, reason: str) -> None:
        self.states.append((state, reason))

    async def rows(self, number: int, report: Report) -> None:
        pass

    async def answer(self, number: int, answer: WriteAnswer) -> None:
        pass


def test_a_connection_that_tcp_gives_up_is_left_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(remote: str, tls: object) -> Streams:
        """A connection whose peer acknowledges nothing (tcp(7), tcp_retries2)."""
        ours, theirs = socket.socketpair()
        theirs.close()
        _, writer = await asyncio.open_connection(sock=ours)
        failing = asyncio.StreamReader()
        failing.set_exception(TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))
        return failing, writer

    async def watch() -> Listener:
        listener = Listener()
        await DatabaseClient(0, REMOTE, None, listener)._connect_once()
        return listener

    monkeypatch.setattr(module, "connect", connect)
    began = time.monotonic()
    states = asyncio.run(watch()).states
    assert time.monotonic() - began < PEER_SILENT_S
    assert states[0] == ("connected", "")
    assert states[1] == (
        "unreachable",
        f"{REMOTE} does not answer: see whether it is reachable from here",
    )
