"""The inventory file (YAML): read again when it changes, and taken when it is whole.

Nobody can see whether a file that is written in place is complete. So a file that was exchanged in
one step (renamed) is taken at once; one that was written in place and lacks something is taken
after it has stayed the same for a while; and one that lacks too much needs a word of the operator.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from controller.inventory import yaml_lines
from controller.inventory.brake import Loss, loss
from controller.inventory.schema import InventoryShape, Reader
from controller.inventory.values import Inventory, InventoryChange, InventoryError, Pending
from controller.inventory.yaml_lines import Problems, TooManyProblems
from controller.process import UnusableFile, read_file, write_file
from flows.errors import Refused
from flows.model import PortId

FILE_BYTES_MAX = 16 * 1024 * 1024
"""Largest inventory file that is read, in bytes."""

FILE_SETTLE_S = 0.5
"""How long a changed file must stay the same before it is read, as it may still be written."""

END_MARK = b"\n..."
"""The end of a YAML document: a file that ends with it is whole."""

_Signature = tuple[int, int, int, int, int]


def parse(text: bytes, name: str = "inventory.yaml") -> Inventory:
    """Parse an inventory; ``name`` is the file name in error messages.

    Raises:
        InventoryError: with the problems of the file, in the order of its lines.
    """
    if len(text) > FILE_BYTES_MAX:
        raise InventoryError(
            [f"{name}: larger than {FILE_BYTES_MAX // 1024 // 1024} MiB: not read"]
        )
    problems = Problems()
    reader = Reader(problems)
    try:
        item = yaml_lines.load(text, problems, InventoryShape())
        if item is not None:
            reader.read(item)
    except TooManyProblems:
        pass  # the sentences say so
    problems.settle()
    if problems.count:
        raise InventoryError(problems.sentences(name), problems.count)
    return Inventory(
        tenants=tuple(reader.tenants),
        networks=tuple(reader.networks.values()),
        ports=tuple(reader.ports.values()),
        hints=MappingProxyType(reader.hints),
        links=tuple(reader.links),
        bridges=tuple(reader.bridges.values()),
    )


@dataclass(frozen=True, slots=True)
class Caution:
    """When a changed file is taken: see InventoryConfig.

    ``kept`` is where the inventory in force is kept for the next start; None: nowhere.
    """

    vanish_limit: float = 0.2
    settle_s: float = 10.0
    kept: Path | None = None


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A valid file that is not in force (yet)."""

    signature: _Signature | None
    text: bytes
    inventory: Inventory
    loss: Loss
    read_at: float

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text).hexdigest()[:16]


class InventoryFile:
    """The inventory in force, and the file that it comes from.

    If the file becomes invalid, empty or missing, or lacks too much of what runs, the inventory
    that was read last stays in force, over restarts too, and ``problems`` says what is wrong. One
    thread may reload while others read and accept. ``running`` are the ports that have a place.
    """

    def __init__(
        self,
        path: Path,
        now: Callable[[], float] = time.monotonic,
        *,
        caution: Caution | None = None,
        running: Callable[[], Collection[PortId]] = frozenset,
    ) -> None:
        self.path = path
        self._now, self._caution, self._running = now, caution or Caution(), running
        self._inventory, self._text = Inventory(), b""
        self._problems: tuple[str, ...] = ()
        self._uncompared = self._unkept = ""
        self._is_known = False
        self._read: _Signature | str | None = "never"
        self._seen: _Signature | None = None
        self._seen_at = 0.0
        self._candidate: _Candidate | None = None
        self._accepted = ""
        self._will_trust = self._is_trusted = False
        self._accepting = threading.Lock()

    @property
    def inventory(self) -> Inventory:
        """The inventory in force."""
        return self._inventory

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with the file now, a sentence for each problem."""
        others = (self._uncompared, self._unkept)
        return (*self._problems, *(sentence for sentence in others if sentence))

    @property
    def is_known(self) -> bool:
        """Whether a valid file was read since the start, or is kept from before.

        While it is False the inventory is empty because it is unknown: installed flows must be
        left alone.
        """
        return self._is_known

    def with_others(self, declared: Inventory) -> Inventory:
        """The inventory that would be in force with such a file."""
        return declared

    @property
    def vanish_limit(self) -> float:
        """The share (0..1) of ports or links that may vanish before a file is pending."""
        return self._caution.vanish_limit

    @property
    def pending(self) -> Pending | None:
        """The file that needs a word of the operator, if it is one; see ``accept``."""
        candidate = self._candidate
        if candidate is None:
            return None
        missing = [f"{port.tenant}/{port.name}" for port in candidate.loss.ports]
        return Pending(candidate.digest, str(candidate.loss), tuple(missing))

    def accept(self, digest: str) -> None:
        """Have the pending file with this digest taken by the next ``reload_if_changed``.

        Raises:
            Refused: no file is pending, or another one.
        """
        with self._accepting:
            candidate = self._candidate
            if candidate is None:
                raise Refused("no inventory waits to be accepted: nothing is missing from the file")
            if candidate.digest != digest:
                raise Refused(
                    "the inventory file has changed since it was looked at: look again with "
                    "`cloudtap inventory show`"
                )
            self._accepted = digest

    def trust_file(self) -> None:
        """Have the next ``reload_if_changed`` take the file as it is then for a whole one.

        It waits neither FILE_SETTLE_S nor ``settle_s``. What is missing is compared all the same:
        too much needs ``accept``.
        """
        self._will_trust = True

    def reload_if_changed(self) -> InventoryChange | None:
        """Read the file if it changed, else only stat it. Call it about once a second.

        The first call reads at once; later a changed file is read when it has been the same for
        FILE_SETTLE_S. Returns None when neither the inventory nor its problems changed.
        """
        before, problems = self._inventory, self.problems
        self._is_trusted, self._will_trust = self._will_trust, False
        if self._read == "never":
            self._restore()
        signature = self._signature()
        if signature == self._read:
            self._seen = signature
            self._reconsider()
        elif self._may_read(signature) and self._load(signature):
            self._read = signature
        if self._unkept:
            self._keep()
        if self._inventory == before and self.problems == problems:
            return None
        return InventoryChange(before, self._inventory, self.problems)

    def _signature(self) -> _Signature | None:
        try:
            found = os.stat(self.path)
        except (OSError, ValueError):
            return None
        # the time of change, too: a file whose permissions were mended has the same content
        times = found.st_mtime_ns, found.st_ctime_ns
        return found.st_dev, found.st_ino, found.st_size, *times

    def _may_read(self, signature: _Signature | None) -> bool:
        return self._read == "never" or self._is_settled(signature) or self._is_trusted

    def _is_settled(self, signature: _Signature | None) -> bool:
        if signature != self._seen or self._seen == self._read:
            self._seen, self._seen_at = signature, self._now()
        return self._now() - self._seen_at >= FILE_SETTLE_S

    def _load(self, signature: _Signature | None) -> bool:
        """Read the file; False if it changed meanwhile and must be read again later."""
        self._candidate = None
        try:
            text = read_file(self.path, FILE_BYTES_MAX)
        except FileNotFoundError:
            if signature is not None:
                return False
            self._problems = (self._missing(),)
            return True
        except UnusableFile as error:
            self._problems = (f"{error}; {self._in_force()}",)
            return True
        if self._signature() != signature:
            return False
        if not text.strip() and self._is_known:
            self._problems = (f"{self.path}: is empty; {self._in_force()}",)
            return True
        if text == self._text and self._is_known:
            self._problems = ()
            return True
        try:
            inventory = parse(text, str(self.path))
        except InventoryError as error:
            self._problems = (*error.problems, f"{self.path}: not used: {self._in_force()}")
            return True
        self._consider(signature, text, inventory)
        return True

    def _consider(self, signature: _Signature | None, text: bytes, inventory: Inventory) -> None:
        """Take a valid file, or say why it is not taken (yet)."""
        if not self._is_known:
            self._take(text, inventory)
            return
        if _has_end(self._text) and not _has_end(text):
            self._problems = (
                f"{self.path}: not used: it does not end with `...` any more, so it may not be "
                f"whole; {self._in_force()}",
            )
            return
        lost = loss(self._inventory, inventory, self._running())
        if not lost:
            self._take(text, inventory)
            return
        candidate = _Candidate(signature, text, inventory, lost, self._now())
        if lost.exceeds(self._caution.vanish_limit):
            self._candidate = candidate
            self._problems = (
                f"{self.path}: not used: {lost} are missing or changed; {self._in_force()}. "
                "If this is meant, type `cloudtap inventory accept`; if not, mend the file",
            )
        elif self._is_whole(signature, text):
            self._take(text, inventory)
        else:
            self._candidate = candidate
            self._problems = (
                f"{self.path}: not used yet: {lost} are missing or changed, and the file was "
                f"written in place, so it may not be whole: it is used when it has stayed the same "
                f"for {self._caution.settle_s:g} s; to have it used at once, send the controller a "
                "SIGHUP, or rename another file into its place (mv)",
            )

    def _reconsider(self) -> None:
        """Take the file that waits, once the operator has accepted it or it has settled."""
        candidate = self._candidate
        if candidate is None:
            return
        with self._accepting:
            is_accepted = self._accepted == candidate.digest
            self._accepted = ""
        is_slow = not candidate.loss.exceeds(self._caution.vanish_limit)
        has_settled = self._now() - candidate.read_at >= self._caution.settle_s
        if is_slow and (has_settled or self._is_trusted):
            is_accepted = True
        if is_accepted:
            self._take(candidate.text, candidate.inventory)

    def _take(self, text: bytes, inventory: Inventory) -> None:
        if self._is_known:  # it was compared with the one before
            self._uncompared = ""
        self._inventory, self._text = inventory, text
        self._candidate, self._problems, self._is_known = None, (), True
        self._keep()

    def _is_whole(self, signature: _Signature | None, text: bytes) -> bool:
        """Whether nobody can be in the middle of writing it."""
        is_said = self._is_trusted or _has_end(text) or not self._caution.settle_s
        return is_said or self._is_exchanged(signature)

    def _is_exchanged(self, signature: _Signature | None) -> bool:
        """Whether it is another file than the one that was read before, not the same rewritten."""
        before = self._read
        return isinstance(before, tuple) and signature is not None and signature[:2] != before[:2]

    def read_kept(self) -> tuple[Inventory, bytes] | None:
        """The inventory that was in force when the last controller ended, and its text; if any."""
        kept = self._caution.kept
        if kept is None:
            return None
        try:
            text = read_file(kept, FILE_BYTES_MAX)
            return parse(text, str(kept)), text
        except FileNotFoundError:
            return None
        except (UnusableFile, InventoryError) as error:
            self._uncompared = (
                f"the inventory of the last run cannot be compared: {error}. If the file has lost "
                "ports or links since then, they are cut off now: compare it with a copy of yours"
            )
            return None

    def _restore(self) -> None:
        """Begin with the inventory that was in force when an earlier controller ended."""
        kept = self.read_kept()
        if kept is not None:
            self._inventory, self._text = kept
            self._is_known = True

    def _keep(self) -> None:
        """Keep the inventory in force for the next start."""
        kept = self._caution.kept
        if kept is None or not self._is_known:
            return
        try:
            write_file(kept, self._text)
            self._unkept = ""
        except OSError as error:
            self._unkept = (
                f"{kept}: the inventory in force cannot be kept for the next start: "
                f"{error.strerror}"
            )

    def _missing(self) -> str:
        return (
            f"{self.path}: does not exist; {self._in_force()}; "
            "write it (docs/reference/inventory.md), or name another one in [inventory] file"
        )

    def _in_force(self) -> str:
        if self._is_known:
            return "the inventory that was read last stays in force"
        return "no tenant, network or port is known"


def _has_end(text: bytes) -> bool:
    return text.rstrip().endswith(END_MARK)
