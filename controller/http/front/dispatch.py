"""Requests on their way to the controller: few at a time, and each client in its turn."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.http.front.answer import HttpAnswer
from controller.http.front.head import RequestHead
from controller.http.lanes import LANES, Lane, lane_of
from controller.http.settings import MAX_MESSAGE
from controller.process import MESSAGE_LENGTHS, Message, read_head, read_lengths


@dataclass(frozen=True, slots=True)
class WholeRequest:
    """A request with its body, and who sent it."""

    head: RequestHead
    body: bytes
    client: str
    """Who shares its limits with others of this name."""
    address: str
    """IP address of the client."""


@dataclass(slots=True)
class _Waiting:
    """The requests of one lane: who waits, in turns, and who has how many on the way."""

    lane: Lane
    queues: OrderedDict[str, deque[tuple[WholeRequest, asyncio.Future[HttpAnswer]]]] = field(
        default_factory=OrderedDict
    )
    on_the_way: dict[str, int] = field(default_factory=dict)

    def pop(self) -> tuple[WholeRequest, asyncio.Future[HttpAnswer]] | None:
        """The next request: of the client whose turn it is, and who has not too many already."""
        if sum(self.on_the_way.values()) >= self.lane.threads:
            return None
        for client in self.queues:
            if self.on_the_way.get(client, 0) < self.lane.per_client:
                queue = self.queues.pop(client)
                found = queue.popleft()
                if queue:
                    self.queues[client] = queue  # behind all others
                self.on_the_way[client] = self.on_the_way.get(client, 0) + 1
                return found
        return None

    def ended(self, client: str) -> None:
        """A request of this client is answered."""
        self.on_the_way[client] -= 1
        if not self.on_the_way[client]:
            del self.on_the_way[client]


class RequestDispatcher:
    """Sends requests to the controller, and answers them when it has."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._lanes = {lane.name: _Waiting(lane) for lane in LANES}
        self._sent: dict[int, tuple[str, str, asyncio.Future[HttpAnswer]]] = {}
        self._last_id = 0

    def ask(self, request: WholeRequest) -> asyncio.Future[HttpAnswer]:
        """Queue a request; the future gets the answer."""
        answer: asyncio.Future[HttpAnswer] = asyncio.get_running_loop().create_future()
        waiting = self._lanes[lane_of(request.head.path, request.head.method).name]
        waiting.queues.setdefault(request.client, deque()).append((request, answer))
        self._send_next(waiting)
        return answer

    def tell(self, head: Mapping[str, Any]) -> None:
        """Send what is no request."""
        self._send(Message(head))

    async def receive(self, learn: Callable[[Mapping[str, Any]], None]) -> None:
        """Pass the answers of the controller on, until it wants the front to stop.

        ``learn`` gets what it says besides: settings that have changed.
        """
        while (message := await receive_message(self._reader)) is not None:
            if "stop" in message.head:
                return
            if "id" in message.head:
                self._pass_on(message)
            else:
                learn(message.head)

    def _pass_on(self, message: Message) -> None:
        lane, client, answer = self._sent.pop(message.head["id"])
        if not answer.done():  # who asked may not wait any more
            headers = tuple((name, value) for name, value in message.head["headers"])
            answer.set_result(HttpAnswer(message.head["status"], headers, message.body))
        waiting = self._lanes[lane]
        waiting.ended(client)
        self._send_next(waiting)

    def _send_next(self, waiting: _Waiting) -> None:
        while (found := waiting.pop()) is not None:
            request, answer = found
            if answer.done():
                waiting.ended(request.client)
                continue
            self._last_id += 1
            self._sent[self._last_id] = (waiting.lane.name, request.client, answer)
            head = {
                "id": self._last_id,
                "method": request.head.method,
                "path": request.head.path,
                "query": request.head.query,
                "headers": request.head.headers,
                "address": request.address,
            }
            self._send(Message(head, request.body))

    def _send(self, message: Message) -> None:
        self._writer.write(message.packed_head(MAX_MESSAGE))
        self._writer.write(message.body)


async def receive_message(reader: asyncio.StreamReader) -> Message | None:
    """The next message; None at the end of the connection."""
    try:
        head, body = read_lengths(await reader.readexactly(MESSAGE_LENGTHS.size), MAX_MESSAGE)
        data = await reader.readexactly(head)
        return Message(read_head(data), await reader.readexactly(body))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
