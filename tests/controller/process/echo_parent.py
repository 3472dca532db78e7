"""A parent of the echo child; it obeys the words on the socket that is its standard input."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

from controller.process import (
    ChildProcess,
    ChildProgram,
    Message,
    MessageSocket,
    configure_logs,
)

MAX_BYTES = 1 << 20
PROGRAM = ChildProgram("echo", "tests.controller.process.echo_child", MAX_BYTES)


def tell(**event: Any) -> None:
    """One event as one line."""
    os.write(1, json.dumps(event).encode() + b"\n")


class Talk:
    """Says a thing to each child, and tells each answer."""

    def __init__(self) -> None:
        self.connection: MessageSocket | None = None

    def __call__(self, connection: MessageSocket) -> None:
        """Talk to one child until it ends."""
        self.connection = connection
        connection.send(Message({"said": "hello"}, bytes(MAX_BYTES)))
        while (answer := connection.receive()) is not None:
            tell(**answer.head, length=len(answer.body))


def main() -> None:
    """Until the socket ends, or the word is `stop`."""
    configure_logs("info", "console")
    talk = Talk()
    child = ChildProcess(PROGRAM, talk)
    child.start()
    for line in socket.socket(fileno=0).makefile():  # green threads run while it waits
        word = line.strip()
        if word == "stop":
            break
        if word == "look":
            tell(pid=child.pid, problem=child.problem)
        elif talk.connection is not None:
            talk.connection.send(Message({word: True}))
    child.stop()
    child.stop()
    tell(stopped=True, pid=child.pid)


if __name__ == "__main__":
    main()
