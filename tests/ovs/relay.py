"""A path to an Open vSwitch database that can be cut: the database itself goes on."""

from __future__ import annotations

import select
import socket
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

POLL_S = 0.05
CHUNK = 65536


class Relay:
    """Forwards connections to ``target``; while it is cut nothing passes, and nobody is told so."""

    def __init__(self, path: Path, target: str) -> None:
        self.address = f"unix:{path}"
        self._target = target.removeprefix("unix:")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._passing = threading.Lock()
        self._is_cut, self._is_over = False, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        what: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def cut(self) -> None:
        """Let nothing pass from now on."""
        with self._passing:
            self._is_cut = True

    def mend(self) -> None:
        """Let everything pass again, what has waited included."""
        with self._passing:
            self._is_cut = False

    def _run(self) -> None:
        others: dict[socket.socket, socket.socket] = {}
        while not self._is_over.is_set():
            ready = select.select([self._listener, *others], [], [], POLL_S)[0]
            with self._passing:
                for each in () if self._is_cut else ready:
                    self._serve(each, others)
            self._is_over.wait(POLL_S if self._is_cut else 0)
        for each in (self._listener, *others):
            each.close()

    def _serve(self, ready: socket.socket, others: dict[socket.socket, socket.socket]) -> None:
        """Accept a connection, or pass on what has come on one of them."""
        if ready is self._listener:
            near, far = self._listener.accept()[0], socket.socket(socket.AF_UNIX)
            far.connect(self._target)
            others |= {near: far, far: near}
        elif ready in others and not _pass_on(ready, others[ready]):
            other = others.pop(ready)
            del others[other]
            ready.close()
            other.close()


def _pass_on(source: socket.socket, target: socket.socket) -> bool:
    """Forward what has come; whether the connection goes on."""
    with suppress(OSError):
        if data := source.recv(CHUNK):
            target.sendall(data)
            return True
    return False
