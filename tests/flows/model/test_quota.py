"""What all tenants share is divided so that none of them keeps another from having its part."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from flows.model import TenantName, may_take

TENANTS = tuple(TenantName(name) for name in ("red", "blue", "green", "grey"))
NEW = TenantName("new")
STEPS = st.lists(st.tuples(st.sampled_from(TENANTS), st.sampled_from([1, 9, 99, -1])), max_size=40)


def take(used: Counter[TenantName], tenant: TenantName, total: int, known: int) -> bool:
    """Have a tenant take one more, if it may."""
    free = total - used.total()
    tenants = TENANTS[:known]
    if not may_take(tenant, used, free=free, total=total, tenants=tenants):
        return False
    assert free > 0
    used[tenant] += 1
    return True


@given(st.integers(12, 120), st.integers(1, 4), STEPS)
def test_whatever_others_take_and_give_back_every_tenant_gets_its_part(
    total: int, known: int, steps: list[tuple[TenantName, int]]
) -> None:
    used: Counter[TenantName] = Counter()
    for tenant, times in steps:
        if tenant not in TENANTS[:known]:
            continue
        if times < 0:
            used[tenant] = 0
        for _ in range(times):
            take(used, tenant, total, known)
    part = total // (2 * (known + 1))
    for tenant in TENANTS[:known]:
        while used[tenant] < part:
            assert take(used, tenant, total, known), (tenant, used)
    assert take(used, NEW, total, known), "one that nobody knew is left some, too"


@given(st.integers(12, 4000))
def test_a_tenant_that_is_alone_may_have_most_and_leaves_some_for_the_next(total: int) -> None:
    used: Counter[TenantName] = Counter()
    while take(used, TENANTS[0], total, 1):
        pass
    assert used.total() == total - total // 4


def test_when_there_are_more_tenants_than_things_each_may_have_one_while_any_is_free() -> None:
    used: Counter[TenantName] = Counter()
    assert [take(used, tenant, 3, 4) for tenant in TENANTS] == [True, True, True, False]
    used.clear()
    assert [take(used, TENANTS[0], 3, 4) for _ in range(2)] == [True, False]
