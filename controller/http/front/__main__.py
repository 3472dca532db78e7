"""The front as a child process of the controller: `python -m controller.http.front`."""

from __future__ import annotations

import asyncio
import resource
import socket
import sys

from controller.http.front import serve
from controller.process import connect_to_parent


def main() -> None:
    """Serve until the parent ends this process."""
    parent = connect_to_parent()
    listener = socket.socket(fileno=int(sys.argv[2]))
    listener.set_inheritable(False)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(serve(parent, listener))


if __name__ == "__main__":
    main()
