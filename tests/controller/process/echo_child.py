"""A child that sends every message back; `{"spin": true}` makes it compute for ever."""

from __future__ import annotations

from controller.process import MessageSocket, connect_to_parent
from tests.controller.process.echo_parent import MAX_BYTES


def main() -> None:
    """Until the parent has gone."""
    parent = MessageSocket(connect_to_parent(), MAX_BYTES)
    while (message := parent.receive()) is not None:
        parent.send(message)
        while message.head.get("spin"):
            pass


if __name__ == "__main__":
    main()
