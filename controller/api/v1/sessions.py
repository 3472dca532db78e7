"""/v1/sessions: what tenants want copied, and its verified state."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from http import HTTPStatus

from flask import Response

from controller.api.context import (
    actor,
    answer,
    bring_about,
    context,
    no_content,
    page,
    resource,
)
from controller.api.idempotency import create_once
from controller.api.lookup import check_name, check_tenant, existing, find
from controller.api.schemas import (
    CreateQuery,
    OneQuery,
    Path,
    SessionIn,
    SessionList,
    SessionOut,
    SessionPage,
    SessionPatch,
    TrialOut,
    TryQuery,
)
from controller.api.session_input import SessionChange, new_session
from controller.api.session_output import SessionPresenter
from controller.store import IdempotencyKey, SessionRecord
from flows.model import SessionId

sessions = resource("sessions", "Which packets are copied, and where to.")


@sessions.get("", responses={200: SessionPage})
def list_sessions(query: SessionList) -> Response:
    """List sessions"""
    parts = context()
    presenter = SessionPresenter(parts)
    stored = parts.store.sessions.all()
    check_tenant(query.tenant, parts.inventory(), (record.session for record in stored))
    check_name("session", query.name, query.tenant, (record.session for record in stored))
    presenter.check(query)
    records = [r for r in stored if presenter.is_selected(r.session, query)]
    if query.state is None:
        chosen, following = page(records, query, _id)
        return answer(SessionPage(items=list(presenter.show_all(chosen)), next=following))
    items, following = _in_state(query.state, presenter, records, query)
    return answer(SessionPage(items=items, next=following))


@sessions.post("", responses={201: SessionOut})
def create_session(body: SessionIn, query: CreateQuery) -> Response:
    """Create a session

    The answer is sent when the switches have confirmed it, or after 10 seconds: see `status`.
    """
    parts = context()
    if query.dry_run:
        session, _ = new_session(body, parts)
        parts.store.sessions.check_add(session)
        return answer(TrialOut(would="create", name=session.name, tenant=session.tenant))

    def create(key: IdempotencyKey | None) -> str:
        session, limits = new_session(body, parts)
        parts.store.sessions.add(session, actor(), key, limits)
        bring_about()
        return session.id

    return create_once(create, _show)


@sessions.get("/<ref>", responses={200: SessionOut})
def show_session(path: Path, query: OneQuery) -> Response:
    """Show a session"""
    return answer(SessionPresenter(context()).show(find_session(path.ref, query.tenant)))


@sessions.patch("/<ref>", responses={200: SessionOut})
def change_session(path: Path, query: OneQuery, body: SessionPatch) -> Response:
    """Change a session"""
    parts = context()
    record = find_session(path.ref, query.tenant)
    old = record.session
    # reads what it needs now: while the change runs, the database is locked
    change = SessionChange(body, parts, old)
    collector, new = change.tunnelled, change(record).session
    with ExitStack() as made:
        if collector is not None:
            made.enter_context(parts.reconciler.expecting(collector))
        if old.enabled and new.enabled:
            made.enter_context(parts.reconciler.mirroring(new))
        parts.store.sessions.change(old.id, change, actor())
        bring_about()
    return answer(_show(old.id))


@sessions.delete("/<ref>", responses={204: None, 202: SessionOut})
def delete_session(path: Path, query: TryQuery) -> Response:
    """Delete a session

    204: the switches have confirmed that its flows are removed. 202: a bridge cannot be reached;
    the session is listed as inactive until its flows are removed there, too.
    """
    parts = context()
    session = find_session(path.ref, query.tenant).session
    if query.dry_run:
        return answer(TrialOut(would="delete", name=session.name, tenant=session.tenant))
    parts.store.sessions.delete(session.id, actor())
    if bring_about(session.id):
        parts.store.sessions.finish_deletions([session.id])
    left = parts.store.sessions.find(session.id)
    if left is None:
        return no_content()
    return answer(SessionPresenter(parts).show(left), HTTPStatus.ACCEPTED)


def find_session(ref: str, tenant: str | None) -> SessionRecord:
    """A session by id or name; of one name, a live session comes before those being deleted."""
    stored = context().store.sessions
    by_id = stored.find(SessionId(ref))
    if by_id is not None and tenant in (None, by_id.session.tenant):
        return by_id
    records = {record.session.id: record for record in stored.named(ref)}
    live = [r.session for r in records.values() if not r.is_deleting]
    deleting = [r.session for r in records.values() if r.is_deleting]
    is_live = any(tenant in (None, s.tenant) for s in live)
    return records[find("session", live if is_live else deleting, ref, tenant).id]


def _show(key: str) -> SessionOut:
    parts = context()
    record = existing("session", key, parts.store.sessions.find(SessionId(key)))
    return SessionPresenter(parts).show(record)


def _in_state(
    state: str, presenter: SessionPresenter, records: Sequence[SessionRecord], query: SessionList
) -> tuple[list[SessionOut], str | None]:
    """The page of a list that is in a state, and the marker of the next page.

    Computes the state of no more sessions than are needed to fill the page, and of one more.
    """
    rest, _ = page(records, query.model_copy(update={"limit": len(records)}), _id)
    found: list[SessionOut] = []
    for shown in presenter.show_all(rest):
        if shown.status.state == state:
            found.append(shown)
        if len(found) > query.limit:
            return found[: query.limit], found[query.limit - 1].id
    return found, None


def _id(record: SessionRecord) -> str:
    return record.session.id
