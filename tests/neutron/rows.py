"""What a tap must not break and must deliver, each as one value that is right or not.

Every row works on any product (tests/neutron/products.py), and does the same with each.
"""

from __future__ import annotations

import select
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.neutron.probes import (
    answered_pings,
    broadcast,
    can_connect,
    icmp,
    is_delivered,
    learn_addresses,
    spoofed_ip,
)
from tests.neutron.products import TAPPED, TENANT, Product
from tests.ovs.attached_cloud import HOSTS, Sent
from tests.ovs.waiting import wait_for

PINGS, SPOOFS, ROUNDS = 20, 5, 5
FIRST_COPY_S = 60.0
RED_DB = f"{TENANT}-{TAPPED}"


@dataclass(frozen=True)
class Row:
    """One line of the table: what was done, what is right, and how a product measures it."""

    words: str
    right: str
    measure: Callable[[Product], str]


def tenant_isolation(product: Product) -> str:
    """How many frames of the other tenant, whose addresses are equal, arrive at the tap."""
    learn_addresses(product.cloud, "blue")
    sent = [icmp("blue", "web", "db", number=n) for n in range(1, PINGS + 1)]
    sent += [icmp("blue", "db", "web", number=n) for n in range(1, PINGS + 1)]
    return _tapped(product, "both", lambda: _of(len(_copies(product, sent)), len(sent)))


def other_tenant_works(product: Product) -> str:
    """How many pings between the workloads of the other tenant are answered."""
    return _tapped(product, "both", lambda: _pings(product, "blue", "web", "db"))


def copies_are_exact(product: Product) -> str:
    """How many of 40 frames to and from the workload have one copy with the same bytes."""
    learn_addresses(product.cloud, TENANT)
    sent = [icmp(TENANT, "web", TAPPED, number=n) for n in range(1, PINGS + 1)]
    sent += [icmp(TENANT, TAPPED, "web", number=n) for n in range(1, PINGS + 1)]

    def look() -> str:
        seen = product.cloud.receive(*sent)[product.copies_at]
        return _of(sum(seen.count(each.frame) == 1 for each in sent), len(sent))

    return _tapped(product, "both", look)


def closed_group_stays_closed(product: Product) -> str:
    """How many pings to a workload reach it, whose security group accepts nothing."""
    cloud = product.cloud
    cloud.set_group(TENANT, TAPPED, "closed")
    try:
        wait_for(lambda: _reaches(product, "web", TAPPED), lambda reached: not reached)
        return _tapped(product, "both", lambda: _pings(product, TENANT, "web", TAPPED))
    finally:
        cloud.set_group(TENANT, TAPPED, "open")
        wait_for(lambda: _reaches(product, "web", TAPPED), bool)


def anti_spoofing_stays(product: Product) -> str:
    """How many frames under an address that is not the workload's own reach another one."""

    def spoof() -> str:
        sent = [spoofed_ip(TENANT, TAPPED, "web") for _ in range(SPOOFS)]
        learn_addresses(product.cloud, TENANT)
        return _of(sum(is_delivered(product.cloud, s, f"{TENANT}-web") for s in sent), SPOOFS)

    assert spoof() == _of(0, SPOOFS), "Neutron itself lets them through"
    return _tapped(product, "egress", spoof)


def pings_with_an_ingress_tap(product: Product) -> str:
    """How many pings to the workload are answered."""
    return _tapped(product, "ingress", lambda: _pings(product, TENANT, "web", TAPPED))


def connection_with_an_ingress_tap(product: Product) -> str:
    """Whether a TCP connection to the workload comes about."""
    return _tapped(product, "ingress", lambda: _connects(product, "web", TAPPED))


def pings_with_an_egress_tap(product: Product) -> str:
    """How many pings of the workload are answered."""
    return _tapped(product, "egress", lambda: _pings(product, TENANT, TAPPED, "web"))


def connection_with_an_egress_tap(product: Product) -> str:
    """Whether a TCP connection of the workload comes about."""
    return _tapped(product, "egress", lambda: _connects(product, TAPPED, "web"))


def pings_with_a_tap_of_both(product: Product) -> str:
    """How many pings to the workload are answered."""
    return _tapped(product, "both", lambda: _pings(product, TENANT, "web", TAPPED))


def broadcast_to_the_workload(product: Product) -> str:
    """How many copies there are of 5 broadcasts that are delivered to the workload."""
    return _copied_broadcasts(product, "web", "ingress")


def broadcast_of_the_workload(product: Product) -> str:
    """How many copies there are of 5 broadcasts that the workload sends."""
    return _copied_broadcasts(product, TAPPED, "egress")


def first_copy(product: Product) -> str:
    """From the request for a tap to the first copy, while the workload sends all the time."""
    seconds = [_first_copy_s(product) for _ in range(ROUNDS)]
    return (
        f"{statistics.median(seconds) * 1000:.0f} ms "
        f"({min(seconds) * 1000:.0f}-{max(seconds) * 1000:.0f})"
    )


ROWS: Sequence[Row] = (
    Row("tap of `db`: frames of another tenant with equal addresses at the tap", "0/40",
        tenant_isolation),
    Row("pings between workloads of that other tenant, meanwhile", "20/20", other_tenant_works),
    Row("frames to and from `db` with exactly one copy, byte for byte", "40/40", copies_are_exact),
    Row("pings that get to `db` through a closed security group, tapped", "0/20",
        closed_group_stays_closed),
    Row("spoofed frames of `db` that arrive, with an egress tap", "0/5", anti_spoofing_stays),
    Row("pings to `db`, with an ingress tap", "20/20", pings_with_an_ingress_tap),
    Row("TCP connection to `db`, with an ingress tap", "yes", connection_with_an_ingress_tap),
    Row("pings of `db`, with an egress tap", "20/20", pings_with_an_egress_tap),
    Row("TCP connection of `db`, with an egress tap", "yes", connection_with_an_egress_tap),
    Row("pings to `db`, with a tap of both directions", "20/20", pings_with_a_tap_of_both),
    Row("copies of broadcasts to `db`, with an ingress tap", "5/5", broadcast_to_the_workload),
    Row("copies of broadcasts of `db`, with an egress tap", "5/5", broadcast_of_the_workload),
)  # fmt: skip


def _tapped(product: Product, direction: str, look: Callable[[], str]) -> str:
    """What is seen while there is a tap, which has made a copy already."""
    product.tap(direction)
    try:
        wait_for(lambda: _is_copying(product), bool)
        return look()
    finally:
        _untap(product)


def _untap(product: Product) -> None:
    """End the tap; returns when there are no copies any more."""
    product.untap()
    wait_for(lambda: _is_copying(product), lambda copying: not copying)


def _is_copying(product: Product) -> bool:
    """Whether anything of a ping from or to the workload arrives at the tap."""
    pings = icmp(TENANT, "web", TAPPED), icmp(TENANT, TAPPED, "web")
    return bool(_copies(product, pings))


def _copied_broadcasts(product: Product, source: str, direction: str) -> str:
    """Copies of five; a sensor that is a workload gets each of them anyway, which is no copy."""

    def look() -> int:
        return len(_copies(product, [broadcast(TENANT, source) for _ in range(ROUNDS)]))

    anyway = look()
    return _tapped(product, direction, lambda: _of(look() - anyway, ROUNDS))


def _copies(product: Product, sent: Sequence[Sent]) -> list[bytes]:
    """What arrives at the tap of these frames, a tag of the product set aside."""
    wanted = {each.frame for each in sent}
    seen = product.cloud.receive(*sent)[product.copies_at]
    return [frame for frame in seen if frame in wanted or frame[:12] + frame[16:] in wanted]


def _pings(product: Product, tenant: str, source: str, target: str) -> str:
    return _of(answered_pings(product.cloud, tenant, source, target, PINGS), PINGS)


def _connects(product: Product, source: str, target: str) -> str:
    learn_addresses(product.cloud, TENANT, HOSTS)
    return "yes" if can_connect(product.cloud, TENANT, source, target) else "no"


def _reaches(product: Product, source: str, target: str) -> bool:
    return is_delivered(product.cloud, icmp(TENANT, source, target), f"{TENANT}-{target}")


def _of(some: int, all_of_them: int) -> str:
    return f"{some}/{all_of_them}"


def _first_copy_s(product: Product) -> float:
    """One round: the request runs beside a workload that sends one frame after the other."""
    cloud, sensor = product.cloud, product.sensor
    cloud.receive(icmp(TENANT, TAPPED, "web"))
    asking = threading.Thread(target=product.tap)
    started = time.monotonic()
    asking.start()
    try:
        while not _has_arrived(product, sensor.receive_raw()):
            assert time.monotonic() - started < FIRST_COPY_S, "no copy"
            cloud.send(icmp(TENANT, TAPPED, "web"))
            select.select([sensor], [], [], 0.002)
        return time.monotonic() - started
    finally:
        asking.join()
        _untap(product)


def _has_arrived(product: Product, frame: bytes | None) -> bool:
    """Whether it is a copy of a ping; a frame of anybody else is none."""
    return frame is not None and b"ping" in frame
