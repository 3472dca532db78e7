"""Finding what a request refers to by id or name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from controller.api import problems
from controller.api.context import context
from controller.inventory import Inventory
from controller.process import Yielder, did_you_mean
from controller.status import BridgeStatus
from flows.model import ALL, BridgeReference, Dpid, Filter, TenantName

ALL_ID = "b4a9c1b0-52a5-5f0a-8d4c-2f1d9a6d0a11"
"""Id of the built-in filter `all`."""


class _Named(Protocol):
    """An object of a tenant with an id and a name."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def tenant(self) -> str: ...


_N = TypeVar("_N", bound=_Named)
_R = TypeVar("_R")


class _Owned(Protocol):
    """An object with a name, of a tenant or of none."""

    @property
    def name(self) -> str: ...
    @property
    def tenant(self) -> str | None: ...


def tenant_of(given: str | None, inventory: Inventory, where: str = "tenant") -> TenantName:
    """The tenant that a body names, or the only one of the inventory.

    ``where`` is the field or parameter that names it.

    Raises:
        ApiProblem: it is not declared, or none is named and there is not exactly one.
    """
    known = ", ".join(repr(str(tenant)) for tenant in inventory.tenants)
    if given is None:
        if len(inventory.tenants) == 1:
            return inventory.tenants[0]
        hint = f"say which one: {known}" if known else "the inventory declares none"
        raise problems.bad_request(
            "tenant-needed", f"there are {len(inventory.tenants)} tenants: {hint}", where
        )
    if given not in inventory.tenants:
        hint = did_you_mean(given, inventory.tenants)
        hint += f"{';' if hint else ':'} the inventory declares {known or 'none'}"
        raise problems.not_found("tenant", given, where, hint)
    return TenantName(given)


def check_tenant(given: str | None, inventory: Inventory, objects: Iterable[_Named] = ()) -> None:
    """Check that a tenant that a list is asked for is declared, or still has objects.

    Raises:
        ApiProblem: it is neither; an empty list would look like an answer.
    """
    if given is None or given in inventory.tenants:
        return
    if all(each.tenant != given for each in objects):
        tenant_of(given, inventory)


def listed_bridges(
    ref: str, bridges: Iterable[BridgeStatus], where: str = "bridge"
) -> frozenset[Dpid]:
    """The bridges that a list is asked for: by name, name and host, or id (see BridgeReference).

    ``where`` is the parameter that names them.

    Raises:
        ApiProblem: there is none; an empty list would look like an answer.
    """
    reference, known = BridgeReference(ref), list(bridges)
    found = frozenset(b.dpid for b in known if reference.means(b.dpid, b.name, b.hosts))
    if not found:
        hint = did_you_mean(ref, (bridge.name for bridge in known))
        raise problems.not_found("bridge", ref, where, hint)
    return found


def check_listed(kind: str, given: str | None, known: Iterable[str], ids: Iterable[str]) -> None:
    """Check that something by which a list is selected exists, by name or id.

    Raises:
        ApiProblem: there is none; an empty list would look like an answer.
    """
    names = list(known)
    if given is not None and given not in names and given not in ids:
        raise problems.not_found(kind, given, kind, did_you_mean(given, names))


def check_name(kind: str, given: str | None, tenant: str | None, objects: Iterable[_Owned]) -> None:
    """Check that a name by which a list is selected is one of the tenant, or of any without one.

    Raises:
        ApiProblem: there is none; an empty list would look like an answer.
    """
    if given is None:
        return
    names = [each.name for each in objects if tenant in (None, each.tenant)]
    if given not in names:
        raise problems.not_found(
            kind, given, "name", _of_tenant(tenant) + did_you_mean(given, names)
        )


def find(
    kind: str, objects: Iterable[_N], ref: str, tenant: str | None, where: str | None = None
) -> _N:
    """The one object of this id, else of this name, in the tenant or, without one, in any.

    Raises:
        ApiProblem: there is none, or several tenants use the name.
    """
    inside = [each for each in objects if tenant is None or each.tenant == tenant]
    found = [each for each in inside if each.id == ref]
    found = found or [each for each in inside if each.name == ref]
    if len(found) == 1:
        return found[0]
    if not found:
        hint = _of_tenant(tenant) + did_you_mean(ref, (each.name for each in inside))
        raise problems.not_found(kind, ref, where, hint)
    owners = ", ".join(repr(each.tenant) for each in found)
    raise problems.conflict(
        "ambiguous-name", f"{kind} name {ref!r} is used by tenants {owners}: add ?tenant=", where
    )


def find_own(kind: str, objects: Sequence[_N], ref: str, tenant: TenantName, where: str) -> _N:
    """The object that a body of this tenant refers to: its own by id or name, others by id only.

    One of another tenant is returned, too: check_session and check_collector refuse it with the
    error of its kind.

    Raises:
        ApiProblem: there is none.
    """
    others = [each for each in objects if each.tenant != tenant and each.id == ref]
    own = [each for each in objects if each.tenant == tenant and ref in (each.id, each.name)]
    if others and not own:
        return others[0]
    return find(kind, own, ref, tenant, where)


class OwnObjects(Generic[_N]):
    """Many references of one body to objects of one kind, each as ``find_own`` finds it."""

    def __init__(self, kind: str, objects: Iterable[_N], tenant: TenantName) -> None:
        self._kind, self._tenant = kind, tenant
        self._own: list[_N] = []
        self._found: dict[str, list[_N]] = {}
        others, self._yielder = [], Yielder()
        for each in objects:
            self._yielder.pause()
            if each.tenant != tenant:
                others.append(each)
                continue
            self._own.append(each)
            for ref in {each.id, each.name}:
                self._found.setdefault(ref, []).append(each)
        for each in others:
            self._found.setdefault(each.id, [each])

    def find(self, ref: str, where: str) -> _N:
        """The object that a reference means.

        Raises:
            ApiProblem: there is none.
        """
        self._yielder.pause()
        found = self._found.get(ref, [])
        if len(found) == 1:
            return found[0]
        return find(self._kind, found or self._own, ref, self._tenant, where)


def find_filter(ref: str, tenant: TenantName) -> Filter | None:
    """The filter that a session of this tenant refers to; None for the built-in one.

    Raises:
        ApiProblem: there is none.
    """
    if ref in (ALL, ALL_ID):
        return None
    filters = [record.filter for record in context().store.filters.all()]
    return find_own("filter", filters, ref, tenant, "filter")


def existing(kind: str, key: str, record: _R | None) -> _R:
    """The record that the store has found for an id.

    Raises:
        ApiProblem: it has found none.
    """
    if record is None:
        raise problems.not_found(kind, key)
    return record


def _of_tenant(tenant: str | None) -> str:
    return "" if tenant is None else f" of tenant {tenant!r}"
