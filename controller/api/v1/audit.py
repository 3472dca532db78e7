"""/v1/audit: who changed what, and when."""

from __future__ import annotations

from flask import Response

from controller.api.context import answer, context, resource
from controller.api.lookup import check_tenant
from controller.api.problems import bad_request, not_found
from controller.api.schemas import AuditList, AuditOut, AuditPage

audit = resource("audit", "Every change: when, who, what.")


@audit.get("", responses={200: AuditPage})
def list_audit(query: AuditList) -> Response:
    """List changes, newest first"""
    before = None
    if query.marker is not None:
        if not (query.marker.isascii() and query.marker.isdigit() and len(query.marker) < 19):
            raise bad_request("bad-marker", f"marker {query.marker!r} is not a number", "marker")
        before = int(query.marker)
    filters = query.model_dump(exclude={"limit", "marker"}, exclude_none=True)
    # one more than asked for shows whether there is a next page
    found = context().store.audit.entries(filters, before, query.limit + 1)
    if not found and before is None:
        check_tenant(query.tenant, context().inventory())
        _check_id(query.id)
    items = [
        AuditOut(
            number=e.number,
            at=e.at.isoformat(),
            who=e.who,
            what=e.what,
            kind=e.kind,
            id=e.id,
            name=e.name,
            tenant=e.tenant,
            detail=dict(e.detail),
        )
        for e in found[: query.limit]
    ]
    following = str(items[-1].number) if len(found) > query.limit else None
    return answer(AuditPage(items=items, next=following))


def _check_id(given: str | None) -> None:
    """Check that a list without entries is asked for an id that some entry has.

    Raises:
        ApiProblem: none has it; an empty list would look like an answer.
    """
    entries = context().store.audit.entries
    if given is None or entries({"id": given}, limit=1):
        return
    is_name = entries({"name": given}, limit=1)
    hint = f": did you mean name={given}?" if is_name else ""
    raise not_found("audit entry of id", given, "id", hint)
