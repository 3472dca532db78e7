"""`ryu-manager`: ryu's own manager on a current Python, with clear ends."""

import sys
import warnings

from controller.runtime import repair


def main() -> int:
    """Run ryu's manager with the arguments of the command line; the exit status is returned."""
    repair.install()
    # eventlet says at every start that it is in maintenance; the operator can do nothing about that
    warnings.filterwarnings("ignore", message=r"(?s)\s*Eventlet is deprecated")
    from ryu.cmd import manager

    manager.main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
