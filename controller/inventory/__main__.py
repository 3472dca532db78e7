"""Checks a file: `python -m controller.inventory FILE [BEFORE]`, for `cloudtap inventory check`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from controller.inventory.diff import as_values, inventory_diff
from controller.inventory.file import FILE_BYTES_MAX, Caution, parse
from controller.inventory.values import Inventory, InventoryError
from controller.process import UnusableFile, read_file

CHANGES_TOLD = 1000
"""So many of each kind of change are told."""


def main(path: Path, against: Path | None = None) -> None:
    """Print as JSON what a file declares, and its problems; and what changes since another file.

    Without a controller nobody knows which ports run: all count as running.
    """
    inventory, problems, count = read(path)
    names = ("tenants", "networks", "ports", "links")
    found: dict[str, object] = {name: len(getattr(inventory, name)) for name in names}
    if against is not None and not count:
        before, problems, count = read(against)
        running = frozenset(port.id for port in before.ports)
        limit = Caution().vanish_limit
        changes = inventory_diff(before, inventory, running=running, vanish_limit=limit)
        found["diff"] = None if count else as_values(changes, CHANGES_TOLD)
    print(json.dumps(found | {"problems": problems, "problem_count": count}))


def read(path: Path) -> tuple[Inventory, list[str], int]:
    """What a file declares, sentences about its problems, and how many there are."""
    try:
        text = read_file(path, FILE_BYTES_MAX)
        inventory = parse(text, str(path))
        if not text.strip():
            why = "is empty: a controller that has an inventory does not take it"
            return inventory, [f"{path}: {why}"], 1
        return inventory, [], 0
    except InventoryError as error:
        return Inventory(), list(error.problems), error.count
    except FileNotFoundError:
        return Inventory(), [f"{path}: does not exist"], 1
    except UnusableFile as error:
        return Inventory(), [str(error)], 1


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
