"""`ryu-manager`: ryu's own manager on a current Python, with an orderly shutdown.

Where ryu is not installed, or os-ken is configured, the same command runs the application on that.

Nothing that makes a lock may be imported before eventlet has patched threading: a native lock that
one green thread holds stops all others for good.
"""

from __future__ import annotations

import functools
import sys
import traceback
import warnings
from typing import TYPE_CHECKING, Any, NoReturn

from controller.runtime import log_output, ryu_import_hook
from controller.runtime.command import configured_runtime, default_runtime
from controller.runtime.errors import RuntimeMissing
from flows.errors import CloudtapError

if TYPE_CHECKING:
    from controller.runtime.shutdown import Shutdown


def main() -> NoReturn:
    """Run ryu's manager with the arguments of the command line, then end the process."""
    log_output.start()  # before eventlet is loaded
    if why := _why_not_ryu():
        from controller.runtime import osken

        print(f"cloudtap: {why}: running on os-ken", file=sys.stderr, flush=True)
        osken.run_as_manager(sys.argv[1:])
    ryu_import_hook.install()
    ryu_import_hook.leave_manager_alone()
    # eventlet warns at every start that it is in maintenance; the operator cannot change that
    warnings.filterwarnings("ignore", message=r"(?s)\s*Eventlet is deprecated")
    import eventlet

    from controller.runtime import event_loop, green_threads

    event_loop.use_bounded_polls()
    # patch all at once and first: ryu patches threading last, then eventlet warns of a missed lock
    eventlet.monkey_patch()
    green_threads.break_thread_cycles()
    from ryu.cmd import manager

    from controller.runtime import shutdown

    shutdown.exit_now(_status_of(manager.main))


def _why_not_ryu() -> str | None:
    """Why the application runs on os-ken; None if it runs on ryu. Ends the process if neither."""
    try:
        configured = configured_runtime()
        if configured == "ryu" and default_runtime() != "ryu":
            raise RuntimeMissing("ryu")
    except CloudtapError as error:
        from controller.runtime import shutdown

        shutdown.report(error)
        shutdown.exit_now(1)
    if configured == "os-ken":
        return "os-ken is configured"
    return None if default_runtime() == "ryu" else "ryu is not installed"


@functools.cache
def end_on_request() -> None:
    """Let SIGINT, SIGTERM and fail() end ryu's manager in order, if it is running; once."""
    if "ryu.cmd.manager" not in sys.modules:
        return
    import greenlet
    from ryu.lib import hub

    from controller.runtime import shutdown

    hub.spawn(_throw_at_shutdown, shutdown.begin(), greenlet.getcurrent())


def _throw_at_shutdown(awaited: Shutdown, manager: Any) -> None:
    """Wait for the shutdown, then throw the exception that makes ryu's manager close."""
    from eventlet import hubs

    from controller.runtime import shutdown

    error = awaited.wait()
    if error is not None:
        shutdown.report(error)
    last = KeyboardInterrupt() if error is None else SystemExit(1)
    hubs.get_hub().schedule_call_global(0, manager.throw, last)


def _status_of(run: Any) -> int:
    from controller.runtime import shutdown

    try:
        run()
    except KeyboardInterrupt:  # interrupted before it was up
        return 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    except CloudtapError as error:
        shutdown.report(error)
        return 1
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    main()
