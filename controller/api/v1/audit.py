"""/v1/audit: who changed what, and when."""

from __future__ import annotations

from flask import Response

from controller.api.context import answer, context, resource
from controller.api.lookup import tenant_of
from controller.api.problems import bad_request, not_found
from controller.api.schemas import AuditList, AuditOut, AuditPage
from controller.process import did_you_mean

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
        _check(query)
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


def _check(query: AuditList) -> None:
    """Check that each value by which a list without entries is selected is one of some entry.

    Entries outlive what they are about, so their own values are the ones that are known; a tenant
    of the inventory may have none yet.

    Raises:
        ApiProblem: one is not; an empty list would look like an answer.
    """
    log, tenant = context().store.audit, query.tenant
    if tenant is not None and not log.entries({"tenant": tenant}, limit=1):
        tenant_of(tenant, context().inventory())
    if query.id is not None and not log.entries({"id": query.id}, limit=1):
        is_name = log.entries({"name": query.id}, limit=1)
        hint = f": did you mean name={query.id}?" if is_name else ""
        raise not_found("audit entry of id", query.id, "id", hint)
    of_tenant = {} if tenant is None else {"tenant": tenant}
    if query.name is not None and not log.entries({"name": query.name} | of_tenant, limit=1):
        hint = "" if tenant is None else f" of tenant {tenant!r}"
        hint += did_you_mean(query.name, log.known("name", tenant))
        raise not_found("audit entry of name", query.name, "name", hint)
    if query.who is not None and not log.entries({"who": query.who}, limit=1):
        hint = did_you_mean(query.who, log.known("who"))
        raise not_found("audit entry by", query.who, "who", hint)
