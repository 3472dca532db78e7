"""What Neutron says exists, told by a process of its own, checked, and kept for the next start."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from controller.inventory.brake import Loss, loss
from controller.inventory.neutron_objects import KINDS, NeutronAnswer, NeutronObjects
from controller.inventory.values import Inventory, Pending
from controller.neutron import NEUTRON_PROGRAM, Settings
from controller.process import (
    ChildProcess,
    Message,
    MessageSocket,
    PeerGone,
    UnusableFile,
    Yielder,
    read_file,
    read_objects,
    visible,
    write_file,
    write_list,
)
from flows.errors import Refused
from flows.model import PortId

KEPT_BYTES_MAX = 256 << 20
"""Largest file of an earlier controller that is read, in bytes."""
WORDS_MAX = 300
"""So many characters of what the process says are shown."""
SPARE_S = 30.0
"""A process that is so much later than it may be hangs, in seconds."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Failure:
    why: str
    since: str


class NeutronInventory:
    """What Neutron said last, from ``start`` to ``stop``; in force after ``look``.

    If Neutron does not answer, what it said last stays in force, over restarts too, and
    ``problems`` says since when and why. One thread looks, and others may read and accept.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        vanish_limit: float,
        kept: Path,
        running: Callable[[], Collection[PortId]] = frozenset,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings, self._vanish_limit, self._kept = settings, vanish_limit, kept
        self._running, self._now = running, now
        self._child = ChildProcess(NEUTRON_PROGRAM, self._talk)
        self._in_force = NeutronAnswer()
        self._latest: NeutronAnswer | None = None
        self._considered: NeutronAnswer | None = None
        self._is_known = self._is_restored = False
        self._pending: tuple[NeutronAnswer, Loss, Pending] | None = None
        self._accepted = self._unkept = self._unread = ""
        self._failure: _Failure | None = None
        self._risks: tuple[str, ...] = ()
        self._heard_at, self._heard = time.monotonic(), self._now()

    def start(self) -> None:
        """Begin to ask."""
        self._child.start()

    def stop(self) -> None:
        """Ask no more, and wait for the end of the process."""
        self._child.stop()

    @property
    def inventory(self) -> Inventory:
        """What is in force."""
        return self._in_force.inventory

    @property
    def is_known(self) -> bool:
        """Whether Neutron has answered, or what it said to an earlier controller is kept."""
        return self._is_known

    @property
    def pending(self) -> Pending | None:
        """What Neutron says now, if so much has vanished that it needs a word of the operator."""
        return None if self._pending is None else self._pending[2]

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong now, a sentence for each problem."""
        risks = (f"{self._who}: {risk}" for risk in self._risks)
        lost = "" if self._pending is None else self._not_used(self._pending[1])
        others = (self._silence(), lost, self._unread, self._unkept)
        return (*filter(None, others), *risks, *self._in_force.problems)

    def accept(self, digest: str) -> None:
        """Have the pending answer with this digest taken by the next ``look``.

        Raises:
            Refused: it is another one by now.
        """
        if self.pending is None or self.pending.digest != digest:
            raise Refused(
                "what Neutron says has changed since it was looked at: look again with "
                "`cloudtap inventory show`"
            )
        self._accepted = digest

    def look(self) -> bool:
        """Take what Neutron has said meanwhile; whether something else is in force now."""
        before = self._in_force
        if not self._is_restored:
            self._is_restored = True
            self._restore()
        latest = self._latest
        if latest is not self._considered and latest is not None:
            self._considered = latest
            self._consider(latest)
        elif self._pending is not None and self._accepted == self._pending[2].digest:
            self._take(self._pending[0])
        if self._unkept:
            self._keep()
        return self._in_force is not before

    def _consider(self, latest: NeutronAnswer) -> None:
        """Take an answer, or say why it is not taken."""
        self._pending = None
        if self._is_known:
            lost = loss(self.inventory, latest.inventory, self._running())
            if lost.exceeds(self._vanish_limit):
                missing = tuple(f"{port.tenant}/{port.name}" for port in lost.ports)
                pending = Pending(latest.digest(), f"Neutron: {lost}", missing)
                self._pending = latest, lost, pending
                return
        self._take(latest)

    def _take(self, answer: NeutronAnswer) -> None:
        self._in_force, self._is_known = answer, True
        self._pending, self._accepted, self._unread = None, "", ""
        self._keep()

    # --- sentences --------------------------------------------------------------------------

    @property
    def _who(self) -> str:
        return f"Neutron of cloud {self._settings.cloud!r}"

    def _silence(self) -> str:
        """Why what is in force may be old; empty if it is not."""
        counts = (
            "what it said last counts"
            if self._is_known
            else ("no bridge is written to before its ports are known")
        )
        if self._failure is not None:
            since, why = self._failure.since, self._failure.why
            return f"{self._who} has not answered since {since}: {why}; {counts}"
        if self._child.problem is not None:
            return f"{self._who} is not asked: {self._child.problem}; {counts}"
        late_s = self._settings.poll_seconds + self._settings.look_seconds + SPARE_S
        if time.monotonic() - self._heard_at > late_s:
            return f"{self._who} has not answered since {_clock(self._heard)}; {counts}"
        if self._latest is None:
            return f"{self._who} has not answered yet; {counts}"
        return ""

    def _not_used(self, lost: Loss) -> str:
        return (
            f"{self._who}: what it says now is not used: {lost} are missing or changed; what it "
            "said before stays in force. If this is meant, type `cloudtap inventory accept`"
        )

    # --- the process ------------------------------------------------------------------------

    def _talk(self, connection: MessageSocket) -> None:
        connection.send(Message(asdict(self._settings)))
        objects = NeutronObjects()  # a process that begins tells everything
        has_changed = True
        self._note_heard()
        while (message := connection.receive()) is not None:
            self._note_heard()
            try:
                has_changed |= self._change(objects, message.head)
                if message.head.get("answered") is True:
                    self._answered(objects, message.head, has_changed)
                    has_changed = False
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise PeerGone(f"it sent a message that is none: {error}") from error

    def _note_heard(self) -> None:
        self._heard_at, self._heard = time.monotonic(), self._now()

    def _change(self, objects: NeutronObjects, head: Mapping[str, Any]) -> bool:
        """Take in one message; whether objects have changed."""
        if "failed" in head:
            why = visible(str(head["failed"])[:WORDS_MAX])
            if self._failure is None or self._failure.why != why:
                log.warning("Neutron not read", cloud=self._settings.cloud, reason=why)
            since = self._failure.since if self._failure is not None else _clock(self._heard)
            self._failure = _Failure(why, since)
        changed, yielder = head.get("changed", {}), Yielder()
        for kind, records in changed.items():
            for key, record in records.items():
                yielder.pause()
                objects.change(kind, key, record)
        return bool(changed)

    def _answered(
        self, objects: NeutronObjects, head: Mapping[str, Any], has_changed: bool
    ) -> None:
        self._risks = tuple(visible(str(risk)[:WORDS_MAX]) for risk in head["risks"])
        if self._failure is not None:
            log.info("Neutron read again", cloud=self._settings.cloud)
        self._failure = None
        if has_changed:
            self._latest = objects.answer()

    # --- over restarts ----------------------------------------------------------------------

    def _restore(self) -> None:
        """Begin with what Neutron said when an earlier controller ended."""
        objects, yielder = NeutronObjects(), Yielder()
        try:
            found = read_objects(read_file(self._kept, KEPT_BYTES_MAX).decode())
            for kind, key, record in found:
                yielder.pause()
                objects.change(kind, key, record)
        except FileNotFoundError:
            return
        except (UnusableFile, ValueError, TypeError, AttributeError) as error:
            self._unread = f"{self._kept}: what Neutron said last is not known: {error}"
            return
        self._in_force, self._is_known = objects.answer(), True

    def _keep(self) -> None:
        """Keep what is in force for the next start."""
        records = self._in_force.records
        rows = ([kind, key, one] for kind in KINDS for key, one in records[kind].items())
        try:
            write_file(self._kept, write_list(rows).encode())
            self._unkept = ""
        except OSError as error:
            self._unkept = (
                f"{self._kept}: what Neutron says cannot be kept for the next start: "
                f"{error.strerror}"
            )


def _clock(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")
