"""How much of what all tenants share one of them may have: no tenant can use it up for the others.

Half of all is divided among the tenants, and one that is not known yet. The other half goes to who
asks first, so a cloud of a few tenants can use nearly everything.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from flows.model.names import TenantName


def may_take(
    tenant: TenantName,
    used: Mapping[TenantName, int],
    *,
    free: int,
    total: int,
    tenants: Collection[TenantName],
) -> bool:
    """Whether a tenant may take one more of ``total`` things, of which ``free`` are left.

    ``used`` says how many each has, ``tenants`` who else may want some. Who has less than its part
    may take one as long as any is free. Beyond its part it may if those that are left suffice for
    what all others, and one that is not known yet, lack of theirs. As long as no ``tenants`` are
    known, each may have any number.
    """
    if not tenants:
        return free > 0
    everyone = {tenant, *tenants, *used}
    part = max(1, total // (2 * (len(everyone) + 1)))
    if used.get(tenant, 0) < part:
        return free > 0
    others = (part - used.get(other, 0) for other in everyone if other != tenant)
    return free > part + sum(lack for lack in others if lack > 0)
