"""Keys of tunnels tell tenants apart; those that nobody names are chosen in one order."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netaddr import IPAddress

from flows.errors import (
    InvalidValue,
    KeyHeld,
    KeyTaken,
    NoKeyLeft,
    TooManyHeldKeys,
    TooManyKeys,
)
from flows.model import (
    TUNNEL_KEYS,
    Collector,
    CollectorId,
    Delivery,
    KeyUse,
    PortId,
    TenantName,
    check_address,
    check_held_keys,
    check_key,
    check_key_quota,
    check_new_address,
    free_key,
    key_uses,
)
from flows.model.tunnel import FIRST_CHOSEN_KEY, HELD_MAX

RED, BLUE = TenantName("red"), TenantName("blue")
TENANTS = (BLUE, RED)
FAR = IPAddress("192.0.2.9")
SOC = Collector(
    CollectorId("soc"), "soc", TenantName("red"), (FAR,), delivery=Delivery.VXLAN, key=7001
)
KINDS = st.sampled_from(list(TUNNEL_KEYS))


def of(delivery: Delivery, key: int, tenant: str = "red") -> Collector:
    return replace(SOC, delivery=delivery, key=key, tenant=TenantName(tenant))


@given(KINDS, st.lists(st.tuples(KINDS, st.integers(0, 5)), max_size=12))
def test_the_lowest_key_that_nobody_of_its_kind_has_is_chosen(
    kind: Delivery, others: list[tuple[Delivery, int]]
) -> None:
    there = [of(other, FIRST_CHOSEN_KEY[other] + offset) for other, offset in others]
    key = free_key(kind, there, RED)

    erspan = {Delivery.ERSPAN2, Delivery.ERSPAN3}
    same = erspan if kind in erspan else {kind}
    taken = {collector.key for collector in there if collector.delivery in same}
    assert key in TUNNEL_KEYS[kind] and key not in taken
    assert all(lower in taken for lower in range(FIRST_CHOSEN_KEY[kind], key))


def test_the_last_key_is_given_and_then_none() -> None:
    there = [of(Delivery.ERSPAN3, key) for key in range(1, 1023)]
    assert free_key(Delivery.ERSPAN2, there, RED) == 1023

    with pytest.raises(NoKeyLeft, match=r"no session_id is left .* 1\.\.1023 are all taken"):
        free_key(Delivery.ERSPAN2, [*there, of(Delivery.ERSPAN2, 1023)], RED)
    gone = key_uses(of(Delivery.ERSPAN3, 1023, "blue"))
    with pytest.raises(NoKeyLeft, match=r"or are held for some that are gone"):
        free_key(Delivery.ERSPAN2, there, RED, gone)


@given(KINDS, st.lists(st.tuples(KINDS, st.integers(0, 5), st.booleans()), max_size=12))
def test_a_key_that_others_have_given_up_and_bridges_may_use_is_not_chosen(
    kind: Delivery, given_up: list[tuple[Delivery, int, bool]]
) -> None:
    held = [
        (is_red, use)
        for other, offset, is_red in given_up
        for use in key_uses(of(other, FIRST_CHOSEN_KEY[other] + offset, TENANTS[is_red]))
    ]
    key = free_key(kind, [], RED, [use for _, use in held])
    theirs = [use for is_red, use in held if not is_red]
    assert key == free_key(kind, [replace(SOC, delivery=u.space, key=u.key) for u in theirs], RED)


@pytest.mark.parametrize("seed", [None, 1])
def test_a_tenant_that_gives_up_keys_in_a_loop_leaves_others_theirs(seed: int | None) -> None:
    """No bridge is told: everything that is given up stays held."""
    keys = list(range(1, 1024))
    if seed is not None:
        Random(seed).shuffle(keys)
    held: list[KeyUse] = []
    refused = 0
    for key in keys:
        theirs = of(Delivery.ERSPAN2, key)
        try:
            check_key_quota(theirs, [], held, TENANTS)
        except TooManyKeys:
            refused += 1
        else:
            held += key_uses(theirs)
    assert refused, "it asked for more than it may have"

    mine: list[Collector] = []
    for _ in range(1023 // 6):
        new = of(Delivery.ERSPAN3, free_key(Delivery.ERSPAN3, mine, BLUE, held, TENANTS), "blue")
        check_key_quota(new, mine, held, TENANTS)
        check_held_keys(new, held)
        mine.append(new)


def test_a_tenant_that_may_have_no_more_keys_gets_those_that_it_has_given_up() -> None:
    held: list[KeyUse] = []
    with pytest.raises(TooManyKeys):
        for key in range(1023, 0, -1):
            check_key_quota(of(Delivery.ERSPAN2, key), [], held, TENANTS)
            held += key_uses(of(Delivery.ERSPAN2, key))
    there: list[Collector] = []
    for use in reversed(held):
        key = free_key(Delivery.ERSPAN2, there, RED, held, TENANTS)
        assert key == use.key
        there.append(of(Delivery.ERSPAN2, key))
        check_key_quota(there[-1], there[:-1], held, TENANTS)
    sentence = rf"'red' may have no session_id more.*have {len(there)}, and 0 that it has given up"
    with pytest.raises(TooManyKeys, match=sentence):
        free_key(Delivery.ERSPAN2, there, RED, held, TENANTS)
    elsewhere = replace(there[0], id=CollectorId("again"), sensors=(IPAddress("192.0.2.10"),))
    check_key_quota(elsewhere, there, held, TENANTS)
    check_key_quota(of(Delivery.VXLAN, 7), there, held, TENANTS)


def test_a_tenant_for_which_many_keys_are_held_gets_no_others() -> None:
    held = [
        use
        for number in range(HELD_MAX)
        for use in key_uses(replace(SOC, sensors=(IPAddress(0x0A000001 + number),)))
    ]
    with pytest.raises(TooManyHeldKeys, match=f"with another key: {HELD_MAX} keys"):
        check_key_quota(SOC, [], held, TENANTS)
    check_key_quota(SOC, [], held[1:], TENANTS)
    check_key_quota(replace(SOC, name="new"), [], held, TENANTS, SOC)
    check_key_quota(replace(SOC, id=CollectorId("again")), [SOC], held, TENANTS)
    check_key_quota(replace(SOC, sensors=(held[0].address,)), [], held, TENANTS)
    check_key_quota(replace(SOC, tenant=BLUE), [], held, TENANTS)
    with pytest.raises(TooManyHeldKeys):
        check_key_quota(replace(SOC, key=7002), [SOC], held, TENANTS, SOC)


@pytest.mark.parametrize(
    "other",
    [
        replace(SOC, tenant=TenantName("blue"), key=7002),
        replace(SOC, tenant=TenantName("blue"), delivery=Delivery.GENEVE),
        replace(SOC, tenant=TenantName("blue"), sensors=(IPAddress("192.0.2.10"),)),
        replace(SOC, id=CollectorId("of-the-same-tenant")),
    ],
)
def test_copies_that_can_be_told_apart_are_allowed(other: Collector) -> None:
    check_key(SOC, [other])


def test_copies_that_cannot_be_told_apart_are_refused() -> None:
    blue = replace(SOC, tenant=TenantName("blue"), sensors=(IPAddress("192.0.2.1"), FAR))

    with pytest.raises(KeyTaken, match=r"may not send to 192\.0\.2\.9 with vni 7001"):
        check_key(SOC, [blue])
    two, three = of(Delivery.ERSPAN2, 5), of(Delivery.ERSPAN3, 5, "blue")
    with pytest.raises(KeyTaken, match="with session_id 5"):
        check_key(two, [three])


def test_a_key_that_another_tenant_has_given_up_there_is_refused_while_it_is_held() -> None:
    held = key_uses(replace(SOC, tenant=BLUE, sensors=(IPAddress("192.0.2.1"), FAR)))
    with pytest.raises(
        KeyHeld, match=r"send to 192\.0\.2\.9 with vni 7001 yet: another tenant did"
    ):
        check_held_keys(SOC, held)
    moved = replace(SOC, sensors=(IPAddress("192.0.2.10"),))
    with pytest.raises(KeyHeld):
        check_held_keys(SOC, held, moved)

    check_held_keys(replace(SOC, name="new"), held, SOC)
    for other in (
        replace(SOC, tenant=BLUE),
        replace(SOC, key=7002),
        replace(SOC, delivery=Delivery.GENEVE),
        moved,
    ):
        check_held_keys(other, held)
    two, three = of(Delivery.ERSPAN2, 5), of(Delivery.ERSPAN3, 5, "blue")
    with pytest.raises(KeyHeld, match="with session_id 5 yet"):
        check_held_keys(two, key_uses(three))
    assert not key_uses(replace(SOC, delivery=Delivery.PORT, key=None, sensors=(PortId("t"),)))


@pytest.mark.parametrize(
    "text", ["192.0.2.9", "10.0.0.0", "223.255.255.255", "2001:db8::1", "fd::1"]
)
def test_the_address_of_a_host_is_taken(text: str) -> None:
    check_address("sensor", IPAddress(text))


@pytest.mark.parametrize(
    "text",
    ["0.0.0.0", "127.1.2.3", "169.254.0.1", "239.1.1.1", "255.255.255.255", "250.0.0.1", "::",
     "::1", "::ffff:10.0.0.1", "fe80::9", "ff05::1"],
)  # fmt: skip
def test_an_address_that_is_no_single_host_is_no_sensor(text: str) -> None:
    with pytest.raises(InvalidValue, match="cannot be used: it"):
        check_address("sensor", IPAddress(text))
    with pytest.raises(InvalidValue, match="collector 'soc': sensor"):
        replace(SOC, sensors=(FAR, IPAddress(text)))


@pytest.mark.parametrize(
    "text",
    [
        "::1.2.3.4", "::7f00:1", "64:ff9b::7f00:1", "64:ff9b::e000:1", "64:ff9b:1::7f00:1",
        "64:ff9b:1:7f00:0:100::", "2002:7f00:1::", "2002:a9fe:1::9", "::ffff:0:127.0.0.1",
        "2001:0:7f00:1::5", "2001:0:c000:201::80ff:fffe", "2001:db8::5efe:7f00:1",
        "fd00::200:5efe:127.0.0.1",
    ],
)  # fmt: skip
def test_an_address_that_stands_for_one_that_is_refused_is_refused_when_it_is_given(
    text: str,
) -> None:
    with pytest.raises(InvalidValue, match="cannot be used: it stands for"):
        check_new_address("sensor", IPAddress(text))
    # a collector that an earlier version has stored must not keep the controller from starting
    assert replace(SOC, sensors=(FAR, IPAddress(text)))


@pytest.mark.parametrize(
    "text",
    ["192.0.2.9", "2001:db8::9", "64:ff9b::c000:209", "64:ff9b:1::c000:209", "2002:c000:209::1",
     "64:ff9b:1:c000:2:900::", "2001:db8::7f00:1", "2001:0:c000:201::3fff:fdf6"],
)  # fmt: skip
def test_an_address_that_stands_for_a_host_is_taken(text: str) -> None:
    check_new_address("sensor", IPAddress(text))


def test_what_check_address_refuses_is_refused_when_it_is_given() -> None:
    for text in ("127.0.0.1", "::1", "::ffff:10.0.0.1", "ff05::1"):
        with pytest.raises(InvalidValue, match="cannot be used"):
            check_new_address("sensor", IPAddress(text))
