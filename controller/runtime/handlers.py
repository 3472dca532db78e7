"""Event handlers whose exceptions are logged, counted and reported."""

import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import structlog

from controller.runtime import library

log = structlog.get_logger(__name__)

Handler = TypeVar("Handler", bound=Callable[..., Any])
HandlerErrorCallback = Callable[[int | None, Exception], None]

_callbacks: list[HandlerErrorCallback] = []
_lock = threading.Lock()
_count = 0


def listen_handler_errors(callback: HandlerErrorCallback) -> None:
    """Call callback(dpid, exception) for each exception; dpid is None if no switch is known."""
    _callbacks.append(callback)


def handler_errors() -> int:
    """The number of exceptions of handlers since the start."""
    return _count


def guarded(handler: Handler) -> Handler:
    """A handler or raw callback whose exceptions are logged, counted and reported, not raised.

    Then it returns None.

    On os-ken's native threads a raised exception would end the event loop of the application.
    """

    @functools.wraps(handler)
    def call(*arguments: Any) -> Any:
        try:
            return handler(*arguments)
        except Exception as error:
            _report(getattr(handler, "__qualname__", repr(handler)), _dpid(arguments), error)
            return None

    return call  # type: ignore[return-value]


def set_ev_cls(events: Any, dispatchers: Any = None) -> Callable[[Handler], Handler]:
    """The library's decorator of the same name, with the handler guarded."""
    register = library.handler.set_ev_cls(events, dispatchers)

    def decorate(handler: Handler) -> Handler:
        return register(guarded(handler))  # type: ignore[no-any-return]

    return decorate


def _report(handler: str, dpid: int | None, error: Exception) -> None:
    global _count
    with _lock:
        _count += 1
    log.error("handler failed", handler=handler, dpid=dpid, exc_info=error)
    for callback in _callbacks:
        try:
            callback(dpid, error)
        except Exception as second:
            log.error("handler error not reported", dpid=dpid, exc_info=second)


def _dpid(arguments: tuple[Any, ...]) -> int | None:
    """The datapath id of the switch of an event, or of a raw callback's first argument."""
    for argument in arguments:
        for candidate in (argument, getattr(argument, "msg", None)):
            datapath = getattr(candidate, "datapath", candidate)
            dpid = getattr(datapath, "id", None)
            if isinstance(dpid, int):
                return dpid
    return None
