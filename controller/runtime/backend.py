"""What the application uses of its OpenFlow library, with corrections of that library."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NoReturn

import structlog

from controller.runtime import library, shutdown
from controller.runtime.admission import ConnectionAdmission, VisitLimits
from controller.runtime.backpressure import (
    MessageRateLimit,
    close,
    disconnect,
    is_behind,
    listen_forced_disconnects,
    queued,
    watch_echoes,
)
from controller.runtime.errors import BadTlsSettings
from controller.runtime.handlers import (
    guarded,
    handler_errors,
    listen_handler_errors,
    set_ev_cls,
)
from controller.runtime.library import BACKEND, HUB, ofp_event, ofproto_v1_3
from controller.runtime.listener import Listener, raise_file_limit
from controller.runtime.native_threads import ConnectionThreads, serve_with_fewer_threads
from controller.runtime.peer import address_of, certificate_end_of, certificate_of
from controller.runtime.raw_messages import (
    Dispatcher,
    listen_errors,
    listen_port_status,
    listen_raw,
    own_xid,
    send,
    use_own_transaction_ids,
)
from controller.runtime.receive import Receiver
from controller.runtime.shutdown import listen_hangup

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
    "address_of",
    "adopted",
    "certificate_end_of",
    "certificate_of",
    "close",
    "configure",
    "disconnect",
    "fail",
    "guarded",
    "handler_errors",
    "is_behind",
    "listen_errors",
    "listen_handler_errors",
    "listen_hangup",
    "listen_port_status",
    "listen_raw",
    "listen_refused",
    "ofp_event",
    "ofproto_v1_3",
    "own_xid",
    "problems",
    "queued",
    "refusals",
    "send",
    "set_ev_cls",
]

RefusedCallback = Callable[[str, str], None]

log = structlog.get_logger(__name__)

_refused_callbacks: list[RefusedCallback] = []
_listeners: list[Listener] = []


class App(library.AppBase):  # type: ignore[misc]  # the libraries have no types
    """Base of the application: an OpenFlow 1.3 application of either library, with clean shutdown.

    The constructor of a subclass calls configure(). close() is called once at shutdown, after the
    last handler.
    """

    OFP_VERSIONS = [ofproto_v1_3.OFP_VERSION]

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        _patch_library()
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
    """Set the listen address for switches, TLS, and the echo interval; command line flags win.

    Certificate and private key (PEM files) turn on TLS; with a CA file only switches with a
    certificate of it are accepted. Each switch gets an echo request every ``echo_interval``
    seconds; after ``echo_misses`` unanswered ones it is disconnected. To be called before the
    OpenFlow server starts, in the constructor of the application.

    Raises:
        BadTlsSettings: certificate or private key is missing.
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
    """Print ``error`` and shut the process down with status 1; from any thread."""
    shutdown.fail(error)


def listen_refused(callback: RefusedCallback) -> None:
    """Call callback(address, sentence) for each switch that is refused or forcibly disconnected.

    A switch without OpenFlow 1.3 is refused; one that reads nothing, answers no echo request or
    sends too much is disconnected.
    """
    _refused_callbacks.append(callback)
    listen_forced_disconnects(callback)


def problems() -> tuple[str, ...]:
    """What is wrong where switches connect, a sentence each."""
    return tuple(problem for listener in _listeners for problem in listener.problems)


def refusals() -> dict[str, str]:
    """Whose certificate has made a TLS handshake fail lately, a sentence by address."""
    return {host: s for each in _listeners for host, s in each.refusals.by_host().items()}


def adopted(datapath: Any) -> None:
    """The bridge of this connection is one of ours: it may use more than strangers may."""
    _admission().adopted(datapath.socket.visit)


@functools.cache
def _admission() -> ConnectionAdmission:
    """Who may connect to this process."""
    most = raise_file_limit()
    unfinished = min(VisitLimits().unfinished, most // 2)
    return ConnectionAdmission(
        VisitLimits(
            unfinished=unfinished,
            unfinished_each=max(1, unfinished // 2),
            guests=min(VisitLimits().guests, most // 2),
            all=most,
        )
    )


@functools.cache
def _patch_library() -> None:
    """Replace the faulty or unsuitable parts of the library; once."""
    datapath = library.controller.Datapath
    use_own_transaction_ids(datapath)
    receiver = Receiver(Dispatcher(guarded, MessageRateLimit()).take, _admission())
    datapath._recv_loop = lambda datapath: receiver.run(datapath)
    watch_echoes(datapath)
    library.controller.StreamServer = _listener
    library.ofp_handler.OFPHandler._hello_failed = _refuse
    if HUB == "native":
        _close_after_receiving(datapath)
        serve_with_fewer_threads(datapath, library.hub)


def _listener(address: tuple[str, int], handle: Any, **tls: Any) -> Listener:
    """The replacement of the library's StreamServer."""
    if shutdown.is_failing():  # its configuration may be incomplete: no switch may connect
        _wait_for_ever()
    listener = Listener(
        address,
        handle,
        spawn=_spawn(),
        fail=_fail_and_wait,
        admission=_admission(),
        **tls,
    )
    _listeners.append(listener)
    return listener


@functools.cache
def _spawn() -> Callable[..., Any]:
    """What starts the thread of a connection."""
    spawn: Callable[..., Any] = library.hub.spawn
    return ConnectionThreads(spawn).start if HUB == "native" else spawn


def _fail_and_wait(error: Exception) -> NoReturn:
    shutdown.fail(error)
    _wait_for_ever()


def _wait_for_ever() -> NoReturn:
    """Keep this thread alive: the library takes its end for a clean shutdown of the process."""
    while True:
        library.hub.Queue().get()


def _refuse(handler: Any, datapath: Any, reason: str) -> None:
    """Report to the switch and the operator that it lacks OpenFlow 1.3; ryu's own code raises."""
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


def _close_after_receiving(datapath_class: Any) -> None:
    """Detect the end of a connection on native threads.

    os-ken cannot kill the thread that waits for data to send: without this it waits for ever after
    the switch has disconnected, and no event reports that.
    """
    receive = datapath_class._recv_loop

    def receive_then_close(datapath: Any) -> None:
        try:
            receive(datapath)
        finally:
            datapath.close()
            # wakes the sending thread, which fails on the closed socket and ends
            send(datapath, b"")

    datapath_class._recv_loop = receive_then_close
