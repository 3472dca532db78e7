"""A spanning tree of the links between bridges, and the first hop towards each bridge."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

from flows.model.names import Dpid, Ofport
from flows.model.world import Link, Placement


class SpanningTree:
    """The tree that connects bridges; links that would close a loop are not used.

    The tree depends on the set of links only, never on their order.
    """

    def __init__(self, links: Iterable[Link]) -> None:
        self._neighbours: dict[Dpid, list[tuple[Ofport, Dpid]]] = {}
        self._component: dict[Dpid, Dpid] = {}
        self._routes: dict[Dpid, Mapping[Dpid, Ofport]] = {}
        for a, b in sorted(sorted((link.a, link.b)) for link in links):
            root_a, root_b = self.component(a.dpid), self.component(b.dpid)
            if root_a == root_b:
                continue
            low, high = sorted((root_a, root_b))
            for dpid in (a.dpid, b.dpid):
                self._component.setdefault(dpid, dpid)
            self._component[high] = low
            self._neighbours.setdefault(a.dpid, []).append((a.ofport, b.dpid))
            self._neighbours.setdefault(b.dpid, []).append((b.ofport, a.dpid))

    def component(self, dpid: Dpid) -> Dpid:
        """The lowest datapath id among ``dpid`` and the bridges it is connected with."""
        while (parent := self._component.get(dpid, dpid)) != dpid:
            dpid = parent
        return dpid

    def link_ports(self, dpid: Dpid) -> tuple[Ofport, ...]:
        """The ports of a bridge that lead to other bridges, ascending."""
        return tuple(sorted(ofport for ofport, _ in self._neighbours.get(dpid, ())))

    def first_hops(self, dpid: Dpid) -> Mapping[Dpid, Ofport]:
        """The port towards every other bridge that can be reached from ``dpid``."""
        if dpid not in self._neighbours:  # nothing to remember: such bridges come and go
            return {}
        if dpid not in self._routes:
            hops: dict[Dpid, Ofport] = {}
            queue: deque[tuple[Dpid, Ofport | None]] = deque([(dpid, None)])
            while queue:
                here, first = queue.popleft()
                for ofport, there in self._neighbours.get(here, ()):
                    if there != dpid and there not in hops:
                        hops[there] = first if first is not None else ofport
                        queue.append((there, hops[there]))
            self._routes[dpid] = hops
        return self._routes[dpid]

    def path(self, here: Dpid, there: Dpid) -> tuple[Dpid, ...]:
        """The bridges that a packet visits from ``here`` to ``there``, both included.

        Both must be in one component.
        """
        visited = [here]
        while visited[-1] != there:
            at = visited[-1]
            port = self.first_hops(at)[there]
            visited.append(next(dpid for ofport, dpid in self._neighbours[at] if ofport == port))
        return tuple(visited)

    def exits(self, here: Dpid, there: Dpid) -> Iterator[tuple[Placement, Placement]]:
        """The links that a packet crosses from ``here`` to ``there``: the end by which it leaves a
        bridge, and the one at which it arrives; none if the bridges are not in one component.
        """
        if self.component(here) != self.component(there):
            return
        visited = self.path(here, there)
        for at, after in pairwise(visited):
            out, into = self.first_hops(at)[there], self.first_hops(after)[at]
            yield Placement(at, out), Placement(after, into)

    def passages(self, here: Dpid, to: Placement) -> Iterator[tuple[Placement, Placement]]:
        """On each bridge after ``here`` on the way to a port: where packets arrive and leave."""
        crossed = list(self.exits(here, to.dpid))
        leave = [*(out for out, _ in crossed[1:]), to]
        yield from zip((into for _, into in crossed), leave, strict=False)
