"""The inventory: a YAML file of tenants, networks, ports and links, read again when it changes."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from controller.inventory import yaml_lines
from controller.inventory.schema import InterfaceName, LinkHint, PortHint, Reader
from flows.errors import CloudtapError
from flows.model.session import Network, Port, PortId, TenantName

__all__ = [
    "Change",
    "InterfaceName",
    "Inventory",
    "InventoryError",
    "InventoryFile",
    "LinkHint",
    "PortHint",
    "parse",
]

MAX_BYTES = 16 * 1024 * 1024
"""Largest inventory file that is read, in bytes."""

SETTLE_S = 0.5
"""How long a changed file must stay the same before it is read: writers may still be at it."""

_SHOWN = 20

_Signature = tuple[int, int, int, int]


class InventoryError(CloudtapError):
    """The inventory cannot be used; ``problems`` holds one sentence, with its line, for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        shown = list(problems[:_SHOWN])
        if len(problems) > _SHOWN:
            shown.append(f"... and {len(problems) - _SHOWN} more problems")
        super().__init__("\n".join(shown))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Inventory:
    """Everything that is declared, in the order of the file."""

    tenants: tuple[TenantName, ...] = ()
    networks: tuple[Network, ...] = ()
    ports: tuple[Port, ...] = ()
    hints: Mapping[PortId, PortHint] = field(default_factory=lambda: MappingProxyType({}))
    links: tuple[LinkHint, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """What one reload brought: the inventory may be the same while the problems differ."""

    before: Inventory
    after: Inventory
    problems: tuple[str, ...]


def parse(text: bytes, name: str = "inventory.yaml") -> Inventory:
    """Read an inventory; ``name`` is what the sentences call the file.

    Raises:
        InventoryError: with every problem of the file, in the order of its lines.
    """
    if len(text) > MAX_BYTES:
        raise InventoryError([f"{name}: larger than {MAX_BYTES // 1024 // 1024} MiB: not read"])
    item, problems = yaml_lines.load(text)
    reader = Reader()
    if item is not None:
        reader.read(item)
    found = sorted((*problems, *reader.problems), key=lambda problem: problem.line)
    if found:
        raise InventoryError([f"{name}:{problem.line}: {problem.sentence}" for problem in found])
    return Inventory(
        tenants=tuple(reader.tenants),
        networks=tuple(reader.networks.values()),
        ports=tuple(reader.ports.values()),
        hints=MappingProxyType(reader.hints),
        links=tuple(reader.links),
    )


class InventoryFile:
    """The inventory that is in force, and the file it comes from.

    A file that is bad, empty or gone never takes away an inventory that was in force: what was
    read last stays, and ``problems`` says what is wrong. One thread may reload while others read.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._now = now
        self._inventory = Inventory()
        self._problems: tuple[str, ...] = ()
        self._is_known = False
        self._read: _Signature | str | None = "never"
        self._seen: _Signature | None = None
        self._seen_at = 0.0

    @property
    def inventory(self) -> Inventory:
        """What is in force."""
        return self._inventory

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with the file now, one sentence each."""
        return self._problems

    @property
    def is_known(self) -> bool:
        """Whether a good file was read since the start.

        While it is False the empty inventory says nothing about what should exist: flows that are
        there are better left alone.
        """
        return self._is_known

    def reload_if_changed(self) -> Change | None:
        """Look at the file once; cheap when nothing changed. Call it about once a second.

        The first call reads at once; later a changed file is read when it has been the same for
        SETTLE_S, so that half a file is not taken for a whole one. Returns None when neither the
        inventory nor its problems changed.
        """
        signature = self._signature()
        if signature == self._read:
            self._seen = signature
            return None
        if self._read != "never" and not self._is_settled(signature):
            return None
        before, problems = self._inventory, self._problems
        if not self._load(signature):
            return None
        self._read = signature
        if self._inventory == before and self._problems == problems:
            return None
        return Change(before, self._inventory, self._problems)

    def _signature(self) -> _Signature | None:
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def _is_settled(self, signature: _Signature | None) -> bool:
        if signature != self._seen or self._seen == self._read:
            self._seen, self._seen_at = signature, self._now()
        return self._now() - self._seen_at >= SETTLE_S

    def _load(self, signature: _Signature | None) -> bool:
        """Read the file; False when it was changed meanwhile and must be looked at again."""
        try:
            with self.path.open("rb") as stream:
                text = stream.read(MAX_BYTES + 1)
        except FileNotFoundError:
            if signature is not None:
                return False
            self._problems = (self._missing(),)
            return True
        except OSError as error:
            self._problems = (f"{self.path}: cannot be read: {error.strerror}; {self._kept()}",)
            return True
        if self._signature() != signature:
            return False
        if not text.strip() and self._is_known:
            self._problems = (f"{self.path}: is empty; {self._kept()}",)
            return True
        try:
            self._inventory = parse(text, str(self.path))
        except InventoryError as error:
            self._problems = (*error.problems, f"{self.path}: not used: {self._kept()}")
            return True
        self._problems = ()
        self._is_known = True
        return True

    def _missing(self) -> str:
        return (
            f"{self.path}: does not exist; {self._kept()}; "
            "write it (docs/reference/inventory.md), or name another one in [inventory] file"
        )

    def _kept(self) -> str:
        if self._is_known:
            return "the inventory that was read last stays in force"
        return "no tenant, network or port is known"


def _main(path: Path) -> None:
    """Print what a file declares, or its problems, as JSON: for `cloudtap inventory check`."""
    inventory = Inventory()
    problems: tuple[str, ...] = ()
    try:
        inventory = parse(path.read_bytes(), str(path))
    except InventoryError as error:
        problems = error.problems
    except OSError as error:
        problems = (f"{path}: cannot be read: {error.strerror}",)
    names = ("tenants", "networks", "ports", "links")
    counts: dict[str, object] = {name: len(getattr(inventory, name)) for name in names}
    print(json.dumps(counts | {"problems": problems}))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
