"""The spanning tree of the links between bridges, and paths along it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count, pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.errors import InvalidValue
from flows.model import Dpid, Link, SpanningTree
from tests.flows.hand_made import at

SEEDS = st.integers(0, 2**63)
BRIDGES = [Dpid(n) for n in range(1, 8)]


def random_links(rng: Random) -> list[Link]:
    """Up to twelve cables between seven bridges: rings, double cables, islands."""
    numbers = count(1)
    return [
        Link(at(a, next(numbers)), at(b, next(numbers)))
        for a, b in (rng.sample(BRIDGES, 2) for _ in range(rng.randint(0, 12)))
    ]


def used(spanning_tree: SpanningTree, links: Iterable[Link]) -> list[Link]:
    """The cables whose both ends the spanning tree uses."""
    return [
        link
        for link in links
        if all(end.ofport in spanning_tree.link_ports(end.dpid) for end in (link.a, link.b))
    ]


def reachable(start: Dpid, links: Iterable[Link], without: int | None = None) -> set[Dpid]:
    """Bridges that can be reached, by brute force; not over cables at port ``without``."""
    seen, grown = {start}, True
    edges = [(x.a, x.b) for x in links] + [(x.b, x.a) for x in links]
    while grown:
        new = {
            there.dpid
            for here, there in edges
            if here.dpid in seen and without not in (here.ofport, there.ofport)
        }
        grown = not new <= seen
        seen |= new
    return seen


@settings(max_examples=200, deadline=None)
@given(SEEDS)
def test_the_links_used_are_a_tree_that_joins_all_that_cables_join(seed: int) -> None:
    links = random_links(Random(seed))
    spanning_tree = SpanningTree(links)
    tree = used(spanning_tree, links)
    for dpid in BRIDGES:
        joined = reachable(dpid, links)
        assert reachable(dpid, tree) == joined
        assert {
            d for d in BRIDGES if spanning_tree.component(d) == spanning_tree.component(dpid)
        } == joined
        assert spanning_tree.component(dpid) == min(joined)
    islands = {spanning_tree.component(dpid) for dpid in BRIDGES}
    assert len(tree) == len(BRIDGES) - len(islands)


@settings(max_examples=200, deadline=None)
@given(SEEDS)
def test_the_tree_does_not_depend_on_the_order_of_cables(seed: int) -> None:
    rng = Random(seed)
    links = random_links(rng)
    turned = [Link(x.b, x.a) if rng.random() < 0.5 else x for x in links]
    rng.shuffle(turned)
    one, other = SpanningTree(links), SpanningTree(turned)
    for dpid in BRIDGES:
        assert one.link_ports(dpid) == other.link_ports(dpid)
        assert one.first_hops(dpid) == other.first_hops(dpid)


@settings(max_examples=200, deadline=None)
@given(SEEDS)
def test_the_first_hop_is_the_cable_without_which_there_is_no_path(seed: int) -> None:
    links = random_links(Random(seed))
    spanning_tree = SpanningTree(links)
    tree = used(spanning_tree, links)
    for here in BRIDGES:
        hops = spanning_tree.first_hops(here)
        assert hops.keys() == reachable(here, tree) - {here}
        for there, ofport in hops.items():
            assert ofport in spanning_tree.link_ports(here)
            assert there not in reachable(here, tree, without=ofport)


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_a_path_follows_first_hops_and_visits_nothing_twice(seed: int) -> None:
    links = random_links(Random(seed))
    spanning_tree = SpanningTree(links)
    far = {x.a: x.b.dpid for x in links} | {x.b: x.a.dpid for x in links}
    for here in BRIDGES:
        assert spanning_tree.path(here, here) == (here,)
        for there in spanning_tree.first_hops(here):
            way = spanning_tree.path(here, there)
            assert (way[0], way[-1]) == (here, there)
            assert len(set(way)) == len(way)
            for step, after in pairwise(way):
                assert far[at(step, spanning_tree.first_hops(step)[there])] == after


def test_a_ring_is_cut_once() -> None:
    ring = [Link(at(1, 1), at(2, 2)), Link(at(2, 1), at(3, 2)), Link(at(3, 1), at(1, 2))]
    spanning_tree = SpanningTree(ring)
    assert [spanning_tree.link_ports(Dpid(n)) for n in (1, 2, 3)] == [(1, 2), (2,), (1,)]
    assert spanning_tree.path(Dpid(2), Dpid(3)) == (2, 1, 3)


def test_a_bridge_without_cables_is_alone() -> None:
    assert SpanningTree([]).first_hops(Dpid(5)) == {}
    assert SpanningTree([]).link_ports(Dpid(5)) == ()
    assert SpanningTree([]).component(Dpid(5)) == 5


def test_a_cable_from_a_bridge_to_itself_is_refused() -> None:
    with pytest.raises(InvalidValue, match="joins bridge 0000000000000001 to itself"):
        Link(at(1, 1), at(1, 2))
