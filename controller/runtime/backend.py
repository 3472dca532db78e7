"""What an application needs of its library, with the library's faults mended."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NoReturn

import structlog

from controller.runtime import library
from controller.runtime import shutdown as ending
from controller.runtime import raw_messages as raw
from controller.runtime.errors import BadTlsSettings
from controller.runtime.handlers import (
    guarded,
    handler_errors,
    listen_handler_errors,
    set_ev_cls,
)
from controller.runtime.backpressure import hang_up, listen_isolated, queued, watch_echoes
from controller.runtime.library import BACKEND, HUB, ofp_event, ofproto_v1_3
from controller.runtime.listener import Listener
from controller.runtime.raw_messages import listen_raw, own_xid, send

CONF: Any = library.cfg.CONF
HANDSHAKE_DISPATCHER = library.handler.HANDSHAKE_DISPATCHER
CONFIG_DISPATCHER = library.handler.CONFIG_DISPATCHER
MAIN_DISPATCHER = library.handler.MAIN_DISPATCHER
DEAD_DISPATCHER = library.handler.DEAD_DISPATCHER

__all__ = [
    "BACKEND",
    "CONF",
    "CONFIG_DISPATCHER",
    "DEAD_DISPATCHER",
    "HANDSHAKE_DISPATCHER",
    "HUB",
    "MAIN_DISPATCHER",
    "App",
    "configure",
    "fail",
    "guarded",
    "handler_errors",
    "hang_up",
    "listen_handler_errors",
    "listen_raw",
    "listen_refused",
    "ofp_event",
    "ofproto_v1_3",
    "own_xid",
    "queued",
    "send",
    "set_ev_cls",
]

RefusedCallback = Callable[[str, str], None]

log = structlog.get_logger(__name__)

_refused_callbacks: list[RefusedCallback] = []


class App(library.AppBase):  # type: ignore[misc]  # the libraries have no types
    """Base of the application: an OpenFlow 1.3 application of the library at hand, with clean ends.

    The constructor of a subclass calls configure(); close() is called once, after its last handler,
    when the process ends.
    """

    OFP_VERSIONS = [ofproto_v1_3.OFP_VERSION]

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        _mend_library()
        if BACKEND == "ryu":
            from controller.runtime import ryu_manager

            ryu_manager.end_on_request()


def configure(
    listen_host: str = "127.0.0.1",
    listen_port: int = 6653,
    certificate: str | None = None,
    private_key: str | None = None,
    ca: str | None = None,
    echo_interval: float = 5.0,
    echo_misses: int = 3,
) -> None:
    """Set where switches connect and how soon a silent one counts as gone; flags win over it.

    Certificate and private key (PEM files) turn on TLS; with a CA file only switches with a
    certificate of it are let in. Every echo_interval seconds each switch is asked for an echo;
    after echo_misses unanswered ones it is disconnected. To be called before the OpenFlow server
    starts: in the constructor of the application. Raises BadTlsSettings.
    """
    if (certificate is None) != (private_key is None) or (ca and not certificate):
        raise BadTlsSettings(certificate, private_key, ca, "certificate and private key are needed")
    defaults = {
        "ofp_listen_host": listen_host,
        "ofp_tcp_listen_port": listen_port,
        "ofp_ssl_listen_port": listen_port,
        "ctl_cert": certificate,
        "ctl_privkey": private_key,
        "ca_certs": ca,
        "echo_request_interval": echo_interval,
        "maximum_unreplied_echo_requests": echo_misses,
    }
    for name, value in defaults.items():
        CONF.set_default(name, value)


def fail(error: Exception) -> None:
    """Show the message of error and end the process in order with status 1; from any thread."""
    ending.fail(error)


def listen_refused(callback: RefusedCallback) -> None:
    """Have callback(address, sentence) called for each switch that is refused or cut off.

    Refused is a switch that has no OpenFlow 1.3; cut off one that takes nothing or sends too much.
    """
    _refused_callbacks.append(callback)
    listen_isolated(callback)


@functools.cache
def _mend_library() -> None:
    """Replace what is at fault or in our way in the library; once."""
    raw.install(guarded)
    watch_echoes(library.controller.Datapath)
    library.controller.StreamServer = _listener
    library.ofp_handler.OFPHandler._hello_failed = _refuse
    if HUB == "native":
        _end_with_the_connection(library.controller.Datapath)


def _listener(address: tuple[str, int], handle: Any, **tls: Any) -> Listener:
    """In the place of the library's StreamServer."""
    if ending.is_failing():  # perhaps in the middle of its configuration: no switch may connect
        _wait_for_the_end()
    return Listener(address, handle, spawn=library.hub.spawn, fail=_fail_and_wait, **tls)


def _fail_and_wait(error: Exception) -> NoReturn:
    ending.fail(error)
    _wait_for_the_end()


def _wait_for_the_end() -> NoReturn:
    """Keep this thread: the library would take its end for a clean end of everything."""
    while True:
        library.hub.Queue().get()


def _refuse(handler: Any, datapath: Any, reason: str) -> None:
    """Tell a switch and the operator that no version is common; ryu's own fails on its text."""
    address = f"{datapath.address[0]}:{datapath.address[1]}"
    sentence = (
        f"the switch at {address} does not speak OpenFlow 1.3 ({reason}): "
        "allow it with `ovs-vsctl add bridge BRIDGE protocols OpenFlow13`"
    )
    log.warning("switch refused", switch=address, reason=sentence)
    for callback in _refused_callbacks:
        guarded(callback)(address, sentence)
    error = datapath.ofproto_parser.OFPErrorMsg(
        datapath=datapath,
        type_=datapath.ofproto.OFPET_HELLO_FAILED,
        code=datapath.ofproto.OFPHFC_INCOMPATIBLE,
        data=b"OpenFlow 1.3 is needed",
    )
    datapath.send_msg(error, close_socket=True)


def _end_with_the_connection(datapath_class: Any) -> None:
    """Let the end of a connection be noticed under real threads.

    os-ken cannot kill the thread that waits for something to send: without this it waits for ever
    after the switch left, and no event tells that the switch is gone.
    """
    receive = datapath_class._recv_loop

    def receive_then_close(datapath: Any) -> None:
        try:
            receive(datapath)
        finally:
            datapath.close()
            send(
                datapath, b""
            )  # wakes the sending thread, which fails on the closed socket and ends

    datapath_class._recv_loop = receive_then_close
