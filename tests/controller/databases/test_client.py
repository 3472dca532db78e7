"""A connection to a database that fails is left at once, and the sentence says why."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from controller.databases import client as module
from controller.databases.client import PEER_SILENT_S, DatabaseClient, WriteAnswer
from controller.databases.framing import JsonSplitter
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
    assert states[0] == ("connected", f"{REMOTE} was reached, and has not sent its rows yet")
    assert states[1] == (
        "unreachable",
        f"{REMOTE} does not answer: see whether it is reachable from here",
    )


Answers = Callable[[dict[str, Any]], list[dict[str, Any]]]
"""What a database answers to a request that is no echo."""


def stays_silent(request: dict[str, Any]) -> list[dict[str, Any]]:
    return []


def answers_another_request(request: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"id": "another", "error": None, "result": {}}]


def refuses_the_first_way(request: dict[str, Any]) -> list[dict[str, Any]]:
    if request["method"] == "monitor_cond":
        return [{"id": request["id"], "error": "unknown method", "result": None}]
    return []


def refuses_both_ways(request: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"id": request["id"], "error": {"error": "unknown database"}, "result": None}]


def refuses_the_first_way_for_ever(request: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"id": "monitor_cond", "error": "unknown method", "result": None}]


async def serve(peer: socket.socket, answers: Answers) -> None:
    """A database that answers each echo request, and others as told."""
    reader, writer = await asyncio.open_connection(sock=peer)
    splitter = JsonSplitter()
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(1 << 16):
            for message in splitter.feed(chunk):
                replies = [{"id": message["id"], "error": None, "result": message.get("params")}]
                if message.get("method") != "echo":
                    replies = answers(message)
                for reply in replies:
                    writer.write(json.dumps(reply).encode())
    writer.close()


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (stays_silent, "it has not sent its rows within 0 s"),
        (answers_another_request, "it has not sent its rows within 0 s"),
        (refuses_the_first_way, '(`monitor_cond`: "unknown method")'),
        (refuses_both_ways, 'it does not let us watch its rows ({"error": "unknown database"})'),
        (refuses_the_first_way_for_ever, "it has not sent its rows within 0 s"),
    ],
)
def test_a_database_that_answers_echo_requests_and_never_sends_its_rows_is_left_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, answers: Answers, words: str
) -> None:
    async def connect(remote: str, tls: object) -> Streams:
        ours, theirs = socket.socketpair()
        tasks.append(asyncio.create_task(serve(theirs, answers)))
        return await asyncio.open_connection(sock=ours)

    async def watch() -> list[tuple[str, str]]:
        listener = Listener()
        client = DatabaseClient(0, REMOTE, None, listener)
        for _ in range(2):
            async with asyncio.timeout(20):
                await client._connect_once()
        return listener.states

    tasks: list[asyncio.Task[None]] = []
    monkeypatch.setattr(module, "connect", connect)
    monkeypatch.setattr(module, "ECHO_AFTER_S", 0.05)
    monkeypatch.setattr(module, "FIRST_ROWS_S", 0.2, raising=False)

    first, left, second, _ = asyncio.run(watch())

    assert first == ("connected", f"{REMOTE} was reached, and has not sent its rows yet")
    assert left[0] == "unreachable" and left[1].startswith(f"{REMOTE} was left: ")
    assert words in left[1] and left[1].endswith("; it is tried again within 60 s")
    assert second[0] == "connected" and "(the last time it was left: " in second[1]
