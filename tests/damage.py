"""Kinds of damage to the flows of a bridge, each of which an oracle must detect.

An oracle that never fails proves nothing: tests damage flows on purpose and expect a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from netaddr import IPAddress

from flows.openflow import (
    Action,
    CheckLarger,
    Clone,
    Flow,
    Load,
    Match,
    Metered,
    Multipath,
    Output,
    PushVlan,
    RegField,
    Resubmit,
    SetTunnelKey,
    SetTunnelRemote,
    SetVlan,
    Term,
)
from flows.pipeline import (
    ADMIT,
    ADMIT_ADDRESS,
    ALONE,
    BRIDGE_CAP,
    CAP,
    CLAIM,
    COHORTS,
    CUT,
    DELIVER,
    EGRESS,
    FILTER,
    FLOOD,
    IDENTIFY,
    INGRESS,
    LEARN,
    LOOKUP,
    NETWORK,
    ONCE,
    OUTPUT,
    POOL_TABLE,
    PROBE,
    SEND,
    SENSOR,
    SESSION,
    SIZE,
    START,
    TAKEN,
    VERDICT,
    WINNER,
    WON,
    Table,
)

Flows = Sequence[Flow]


@dataclass(frozen=True)
class Damage:
    """Which flows can be damaged this way, and the damaged flow; None: it is removed."""

    hurts: Callable[[Flow], bool]
    change: Callable[[Flow, Flows], Flow | None] = lambda flow, flows: None

    def one(self, flows: Flows, victim: Flow) -> Flows:
        """The flows of a bridge with one of them damaged."""
        return [f for flow in flows if (f := self._after(flow, flows, flow is victim)) is not None]

    def all(self, flows: Flows) -> Flows:
        """The flows of a bridge with everything damaged that can be."""
        return [
            f for flow in flows if (f := self._after(flow, flows, self.hurts(flow))) is not None
        ]

    def _after(self, flow: Flow, flows: Flows, is_hurt: bool) -> Flow | None:
        return self.change(flow, flows) if is_hurt else flow


def _is(table: Table, *priorities: str) -> Callable[[Flow], bool]:
    wanted = {table[name] for name in priorities}
    return lambda flow: flow.table == table.number and flow.priority in wanted


def _and_outputs(table: Table, priority: str) -> Callable[[Flow], bool]:
    is_one = _is(table, priority)
    return lambda flow: is_one(flow) and bool(_outputs(flow.actions))


def _outputs(actions: Sequence[Action]) -> list[int]:
    return [action.ofport for action in actions if isinstance(action, Output)]


def _other_port(flow: Flow, flows: Flows) -> Flow:
    """Every frame goes to another port of the bridge."""
    known = sorted(
        {port for f in flows for port in _outputs(f.actions)} - {*_outputs(flow.actions)}
    )
    stranger = Output(known[0] if known else 6)
    return flow.replace(
        actions=tuple(stranger if isinstance(a, Output) else a for a in flow.actions)
    )


def _one_port_less(flow: Flow, flows: Flows) -> Flow:
    return flow.replace(actions=flow.actions[1:])


def _twice(flow: Flow, flows: Flows) -> Flow:
    return flow.replace(actions=(*flow.actions, *flow.actions))


def _twice_whole(flow: Flow, flows: Flows) -> Flow:
    """Every copy is made twice, though the flow forgets its session after a cut."""
    made = tuple(action for action in flow.actions if not isinstance(action, Load))
    return flow.replace(actions=(*made, *flow.actions))


def _skips(flow: Flow) -> bool:
    is_left_out = all(isinstance(action, Metered) for action in flow.actions)
    return flow.table == CUT.number and flow.priority == CUT["session"] and is_left_out


def _whole(flow: Flow, flows: Flows) -> Flow:
    """What should be left out is copied as a shorter packet would be."""
    send = _is(SEND, "session")
    of_session = [term for term in flow.match.terms if term.field == SESSION.field]
    same = (f for f in flows if send(f) and set(of_session) <= set(f.match.terms))
    return flow.replace(actions=next((f.actions for f in same), ()))


def _other_network(flow: Flow, flows: Flows) -> Flow:
    """What the flow says of one network it says of another, one that is not there if need be."""
    networks = {a.value for f in flows for a in f.actions if isinstance(a, Load) and _sets(a)}
    actions = tuple(
        Load(NETWORK, min(networks - {a.value}, default=a.value ^ 1))
        if isinstance(a, Load) and _sets(a)
        else a
        for a in flow.actions
    )
    return flow.replace(actions=actions)


def _sets(load: Load) -> bool:
    return load.target == NETWORK


def _like_a_workload(flow: Flow, flows: Flows) -> Flow:
    """A tap port is let in as if it were the first workload of its bridge."""
    is_workload = _is(START, "workload")
    actions = next((f.actions for f in flows if is_workload(f)), ())
    return flow.replace(actions=actions)


def _through(table: Table, priority: str) -> Callable[[Flow, Flows], Flow]:
    """The flow that should drop does what another flow of ``table`` does."""
    is_open = _is(table, priority)

    def change(flow: Flow, flows: Flows) -> Flow:
        return flow.replace(actions=next((f.actions for f in flows if is_open(f)), ()))

    return change


def _each(change: Callable[[Action], Action]) -> Callable[[Flow, Flows], Flow]:
    """The flow with each of its actions changed, those inside clones too."""

    def changed(action: Action) -> Action:
        if isinstance(action, Clone):
            return Clone(tuple(map(changed, action.actions)))
        return change(action)

    return lambda flow, flows: flow.replace(actions=tuple(map(changed, flow.actions)))


def _without(kind: type[Action]) -> Callable[[Flow, Flows], Flow]:
    """The flow without its actions of one kind."""
    return lambda flow, flows: flow.replace(
        actions=tuple(action for action in flow.actions if not isinstance(action, kind))
    )


def _wrong_tag(action: Action) -> Action:
    return SetVlan(action.vid % 4094 + 1) if isinstance(action, SetVlan) else action


def _wrong_key(action: Action) -> Action:
    return SetTunnelKey(action.key ^ 1) if isinstance(action, SetTunnelKey) else action


def _wrong_remote(action: Action) -> Action:
    if not isinstance(action, SetTunnelRemote):
        return action
    return SetTunnelRemote(IPAddress(int(action.address) ^ 3, action.address.version))


def _wrong_length(action: Action) -> Action:
    is_cut = isinstance(action, Output) and action.max_len
    return Output(action.ofport, action.max_len + 1) if is_cut else action


def _wrong_limit(action: Action) -> Action:
    is_check = isinstance(action, CheckLarger)
    return CheckLarger(0xFFFF, action.target) if is_check else action


def _wrong_sensor(action: Action) -> Action:
    """A sensor that no pool has, since there are 64 at most."""
    is_sensor = isinstance(action, Load) and action.target == SENSOR
    return Load(SENSOR, action.value | 0x80) if is_sensor else action


def _does(*kinds: type[Action]) -> Callable[[Flow], bool]:
    """A flow of which an action, or one inside a clone, is of these kinds."""

    def has(actions: Sequence[Action]) -> bool:
        return any(
            isinstance(action, kinds) or (isinstance(action, Clone) and has(action.actions))
            for action in actions
        )

    return lambda flow: has(flow.actions)


def _that(table: Table, *kinds: type[Action]) -> Callable[[Flow], bool]:
    does = _does(*kinds)
    return lambda flow: flow.table == table.number and does(flow)


def _crosses_link(flow: Flow) -> bool:
    return flow.table == DELIVER.number and any(
        isinstance(a, Clone) and PushVlan() in a.actions for a in flow.actions
    )


def _accepts(flow: Flow) -> bool:
    return flow.table == FILTER.number and Load(VERDICT, 1) in flow.actions


def _wins(*targets: RegField) -> Callable[[Flow], bool]:
    """A flow of an exclusive session that marks the packet as taken in these registers."""
    registers = {target.reg for target in targets}
    return lambda flow: (
        flow.table == WON.number
        and any(isinstance(a, Load) and a.target.reg in registers for a in flow.actions)
    )


def _not_noting(*targets: RegField) -> Callable[[Flow, Flows], Flow]:
    """The flow without the loads into these registers."""
    registers = {target.reg for target in targets}

    def change(flow: Flow, flows: Flows) -> Flow:
        kept = [a for a in flow.actions if not (isinstance(a, Load) and a.target.reg in registers)]
        return flow.replace(actions=tuple(kept))

    return change


def _backwards(flow: Flow, flows: Flows) -> Flow:
    """The exclusive sessions are asked in the wrong order, the last first."""
    steps = list(flow.actions)
    asked = [n for n, action in enumerate(steps) if action == Resubmit(CLAIM.number)]
    pairs = [steps[n - 1 : n + 1] for n in asked]
    for n, pair in zip(asked, reversed(pairs), strict=True):
        steps[n - 1 : n + 1] = pair
    return flow.replace(actions=tuple(steps))


def _asks_two(table: Table) -> Callable[[Flow], bool]:
    return lambda flow: (
        flow.table == table.number and flow.actions.count(Resubmit(CLAIM.number)) > 1
    )


DAMAGES: dict[str, Damage] = {
    "copy-lost": Damage(_is(DELIVER, "session")),
    "copy-twice": Damage(_and_outputs(DELIVER, "session"), _twice),
    "copy-to-a-stranger": Damage(_and_outputs(DELIVER, "session"), _other_port),
    "copy-under-a-wrong-tag": Damage(_crosses_link, _each(_wrong_tag)),
    "copies-not-carried": Damage(_is(START, "transport")),
    "cap-lost": Damage(_is(CAP, "session")),
    "cap-of-the-bridge-lost": Damage(_is(BRIDGE_CAP, "everything")),
    "size-lost": Damage(_is(SIZE, "session")),
    "size-not-checked": Damage(_that(SIZE, CheckLarger), _each(_wrong_limit)),
    "size-of-the-copy-before": Damage(_is(SIZE, "session"), _without(CheckLarger)),
    "too-long-goes-whole": Damage(_is(SEND, "larger")),
    "pool-not-asked": Damage(_that(SIZE, Multipath), _without(Resubmit)),
    "bucket-lost": Damage(_is(POOL_TABLE, "bucket")),
    "bucket-of-nobody": Damage(_is(POOL_TABLE, "bucket"), _each(_wrong_sensor)),
    "sending-lost": Damage(_is(SEND, "session", "network")),
    "sent-twice": Damage(_is(SEND, "session", "network"), _twice_whole),
    "sent-under-a-wrong-key": Damage(_that(SEND, SetTunnelKey), _each(_wrong_key)),
    "sent-to-a-wrong-address": Damage(_that(SEND, SetTunnelRemote), _each(_wrong_remote)),
    "cut-lost": Damage(_that(CUT, Output)),
    "cut-at-a-wrong-length": Damage(_that(CUT, Output), _each(_wrong_length)),
    "cut-under-a-wrong-key": Damage(_that(CUT, SetTunnelKey), _each(_wrong_key)),
    "cut-to-a-wrong-address": Damage(_that(CUT, SetTunnelRemote), _each(_wrong_remote)),
    "skipped-all-the-same": Damage(_skips, _whole),
    "sender-not-watched": Damage(_is(EGRESS, "port")),
    "receiver-not-watched": Damage(_is(INGRESS, "port")),
    "flood-not-watched": Damage(_is(INGRESS, "network")),
    "sent-forgotten": Damage(_is(ONCE, "sent")),
    "sender-forgotten": Damage(_is(ONCE, "sender")),
    "elsewhere-forgotten": Damage(_is(ONCE, "elsewhere")),
    "claim-lost": Damage(_is(CLAIM, "session")),
    "taken-forgotten": Damage(_is(CLAIM, "taken")),
    "taken-not-noted": Damage(_wins(TAKEN), _not_noting(TAKEN)),
    "cohorts-forgotten": Damage(_is(CLAIM, "lost")),
    "cohorts-not-noted": Damage(_wins(*COHORTS), _not_noting(*COHORTS)),
    "winner-forgotten": Damage(_is(ONCE, "won")),
    "winner-not-noted": Damage(_wins(WINNER), _not_noting(WINNER)),
    "winner-has-no-copy": Damage(_is(WON, "session")),
    "sender-competes-alone": Damage(_is(ALONE, "sender")),
    "sender-not-probed": Damage(_is(PROBE, "sender")),
    "senders-asked-backwards": Damage(_asks_two(EGRESS), _backwards),
    "receivers-asked-backwards": Damage(_asks_two(INGRESS), _backwards),
    "probed-backwards": Damage(_asks_two(PROBE), _backwards),
    "sender-not-identified": Damage(_is(IDENTIFY, "address")),
    "rule-forgotten": Damage(_accepts),
    "tap-port-sends": Damage(_is(START, "tap_port"), _like_a_workload),
    "spoofed-mac-passes": Damage(_is(ADMIT, "nothing"), _through(ADMIT, "protected")),
    "spoofed-ip-passes": Damage(_is(ADMIT_ADDRESS, "spoofed")),
    "start-in-another-network": Damage(_is(START, "workload"), _other_network),
    "link-in-another-network": Damage(_is(START, "link", "flooded"), _other_network),
    "flood-mark-ignored": Damage(_is(START, "flooded")),
    "address-forgotten": Damage(_is(LOOKUP, "address")),
    "address-in-another-network": Damage(
        _is(LOOKUP, "address"), lambda flow, flows: _matching_another(flow)
    ),
    "nothing-learned": Damage(_is(LEARN, "sender")),
    "output-lost": Damage(_is(OUTPUT, "way")),
    "output-to-a-stranger": Damage(_and_outputs(OUTPUT, "way"), _other_port),
    "hairpin-allowed": Damage(_is(OUTPUT, "hairpin")),
    "flood-leaves-one-out": Damage(_and_outputs(FLOOD, "network"), _one_port_less),
    "flood-lost": Damage(_is(FLOOD, "network")),
}
"""Each kind of damage by name."""


def _matching_another(flow: Flow) -> Flow:
    """The flow asks for a network that differs in one bit."""
    flipped = tuple(
        Term(term.field, term.value ^ 1, term.mask) if term.field == NETWORK.field else term
        for term in flow.match.terms
    )
    return flow.replace(match=Match.of(*flipped))
