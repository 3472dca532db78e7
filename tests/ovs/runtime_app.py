"""An application for the tests of the runtime that prints events as lines of JSON.

TEST_SETTINGS (JSON) holds the keyword arguments of configure(); `api`: [host, port] of a small API;
`fail`: a sentence for fail().
"""

import json
import os
import struct
import sys
from typing import Any

import structlog

from controller import runtime
from controller.http import FrontSettings, HttpServer
from flows.errors import CloudtapError

BARRIER = struct.pack("!BBHI", 4, 20, 8, runtime.own_xid(1))
UNKNOWN_TYPE = struct.pack("!BBHI", 4, 99, 8, runtime.own_xid(2))
DROP_IPV6 = (
    struct.pack("!BBHI", 4, 14, 64, runtime.own_xid(3))
    + struct.pack("!QQBBHHHIIIH2x", 0xC10D, 0, 0, 0, 0, 0, 7, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    + struct.pack("!HHIH6x", 1, 10, 0x80000A02, 0x86DD)
)


# the log shares the stream with the events of all threads: each line is one write
structlog.configure(logger_factory=structlog.WriteLoggerFactory())


def tell(event: str, **details: Any) -> None:
    """Print an event as one line of JSON."""
    sys.stdout.write(json.dumps({"event": event, **details}) + "\n")
    sys.stdout.flush()


def api(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """A WSGI application that answers with the name of the runtime."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{runtime.BACKEND} {environ['PATH_INFO']}".encode()]


class Recorder(runtime.App):
    """Prints connections, answers to raw requests, refused switches and handler errors."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        settings = json.loads(os.environ["TEST_SETTINGS"])
        address = settings.pop("api", None)
        if sentence := settings.pop("fail", None):
            runtime.fail(CloudtapError(sentence))
        runtime.configure(**settings)
        runtime.listen_raw(self.raw)
        runtime.listen_port_status(self.port)
        runtime.listen_handler_errors(lambda dpid, e: tell("handler error", dpid=dpid, what=str(e)))
        runtime.listen_refused(lambda address, sentence: tell("refused", sentence=sentence))
        runtime.listen_hangup(lambda: tell("hangup"))
        self.server = None
        if address:
            self.server = HttpServer(api, *address, FrontSettings(bodies=()))
            self.server.start()
        tell("started", backend=runtime.BACKEND, hub=runtime.HUB)

    def close(self) -> None:
        """Called at a regular shutdown."""
        if self.server:
            self.server.stop()
        tell("closed", handler_errors=runtime.handler_errors())

    @runtime.set_ev_cls(
        runtime.ofp_event.EventOFPStateChange, [runtime.MAIN_DISPATCHER, runtime.DEAD_DISPATCHER]
    )
    def state(self, event: Any) -> None:
        """A switch has connected or disconnected."""
        datapath = event.datapath
        if event.state == runtime.DEAD_DISPATCHER:
            tell("gone", dpid=datapath.id)
            return
        tell("connected", dpid=datapath.id)
        # large enough to be split into several sends
        accepted = runtime.send(datapath, DROP_IPV6 * 5000 + UNKNOWN_TYPE + BARRIER)
        tell("sent", accepted=accepted)

    def port(self, datapath: Any, message: bytes) -> None:
        """A callback that fails."""
        name = message[32:48].rstrip(b"\0").decode()
        raise ValueError(f"cannot handle {name}")

    def raw(self, datapath: Any, message: bytes) -> None:
        """An answer to our own request."""
        tell("raw", dpid=datapath.id, kind=message[1], message=message.hex())
        if message[1] == 21:
            raise RuntimeError("raw callback fails")
