"""Checks a file: `python -m controller.inventory FILE`, for `cloudtap inventory check`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from controller.inventory.file import FILE_BYTES_MAX, parse
from controller.inventory.values import Inventory, InventoryError
from controller.process import UnusableFile, read_file


def main(path: Path) -> None:
    """Print as JSON what a file declares, and its problems."""
    inventory, problems, count = Inventory(), list[str](), 0
    try:
        text = read_file(path, FILE_BYTES_MAX)
        inventory = parse(text, str(path))
        if not text.strip():
            why = "is empty: a controller that has an inventory does not take it"
            problems, count = [f"{path}: {why}"], 1
    except InventoryError as error:
        problems, count = list(error.problems), error.count
    except FileNotFoundError:
        problems, count = [f"{path}: does not exist"], 1
    except UnusableFile as error:
        problems, count = [str(error)], 1
    names = ("tenants", "networks", "ports", "links")
    counts: dict[str, object] = {name: len(getattr(inventory, name)) for name in names}
    print(json.dumps(counts | {"problems": problems, "problem_count": count}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
