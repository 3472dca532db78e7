"""`ryu-manager`: ryu's own manager on a current Python, with clear ends."""

import functools
import sys
import traceback
import warnings
from typing import Any, NoReturn

from controller.runtime import shutdown as ending
from controller.runtime import ryu_import_hook as repair
from flows.errors import CloudtapError


def main() -> NoReturn:
    """Run ryu's manager with the arguments of the command line, then end the process."""
    repair.install()
    # eventlet says at every start that it is in maintenance; the operator can do nothing about that
    warnings.filterwarnings("ignore", message=r"(?s)\s*Eventlet is deprecated")
    import eventlet

    from controller.runtime import rounds, threads

    rounds.keep_rounds_short()
    # all at once and first: ryu patches threading last, and eventlet then misses a lock and says so
    eventlet.monkey_patch()
    threads.untie_ended_threads()
    from ryu.cmd import manager

    ending.exit_now(_status_of(manager.main))


@functools.cache
def end_on_request() -> None:
    """Let SIGINT, SIGTERM and fail() end ryu's manager in order, if it is what runs; once."""
    if "ryu.cmd.manager" not in sys.modules:
        return
    import greenlet
    from ryu.lib import hub

    hub.spawn(_throw_at_the_end, ending.begin(), greenlet.getcurrent())


def _throw_at_the_end(awaited: ending.Ending, manager: Any) -> None:
    """Wait for the end, then wake ryu's manager with the exception that makes it close."""
    from eventlet import hubs

    error = awaited.wait()
    if error is not None:
        ending.report(error)
    last = KeyboardInterrupt() if error is None else SystemExit(1)
    hubs.get_hub().schedule_call_global(0, manager.throw, last)


def _status_of(run: Any) -> int:
    try:
        run()
    except KeyboardInterrupt:  # asked to end before it was up
        return 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    except CloudtapError as error:
        ending.report(error)
        return 1
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    main()
