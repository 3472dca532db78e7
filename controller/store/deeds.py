"""Deeds that change nothing that is stored, noted in the audit journal like changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from controller.store import audit as journal
from controller.store.database import Database
from controller.store.session_rows import thing_of
from flows.model.session import Session


class DeedBook:
    """Notes what was done with a session. Every method may raise StoreError."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database, self._now = database, now

    def note(self, session: Session, who: str, what: str, detail: Mapping[str, object]) -> None:
        """Note that somebody did something with a session."""
        with self._database.writing() as connection:
            journal.write_entry(connection, self._now(), who, what, thing_of(session), detail)
