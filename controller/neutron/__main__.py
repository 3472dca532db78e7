"""Asks Neutron once: ``python -m controller.neutron``, for `cloudtap doctor`.

Reads the settings as JSON from standard input, and prints how much there is, or why nothing is
known.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from controller.neutron.main import look_once, settings_from


def main() -> None:
    """Ask, and print the answer as JSON."""
    found: dict[str, Any] = look_once(settings_from(json.load(sys.stdin)))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
