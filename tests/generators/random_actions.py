"""Actions of every kind: as strategies of hypothesis, and as lists that Open vSwitch accepts."""

from __future__ import annotations

from random import Random

from hypothesis import strategies as st
from netaddr import IPAddress

from flows.openflow import (
    ETH_IPV4,
    ETH_VLAN,
    LEARNED_OBJECT,
    Action,
    CheckLarger,
    Clone,
    Cookie,
    ForgetInPort,
    HashOf,
    Learn,
    Load,
    Metered,
    MoveToVlan,
    Multipath,
    Output,
    PopMpls,
    PopVlan,
    PushMpls,
    PushVlan,
    RegField,
    Resubmit,
    SetMark,
    SetTunnelKey,
    SetTunnelRemote,
    SetVlan,
    SetVlanPriority,
    make_cookie,
)


def bits_of(highest: int) -> st.SearchStrategy[int]:
    """A number of so many bits; the ends often."""
    return st.sampled_from((0, 1, (1 << highest) - 1)) | st.integers(0, (1 << highest) - 1)


@st.composite
def registers(draw: st.DrawFn, bits: int | None = None) -> RegField:
    """Any part of any register; with ``bits``, one so long."""
    length = draw(st.integers(1, 32)) if bits is None else bits
    low = draw(st.integers(0, 32 - length))
    return RegField("any", draw(st.integers(0, 15)), low, low + length - 1)


@st.composite
def loads(draw: st.DrawFn) -> Load:
    target = draw(registers())
    return Load(target, draw(bits_of(target.bits)))


@st.composite
def multipaths(draw: st.DrawFn) -> Multipath:
    target = draw(registers())
    most = min(1 << target.bits, 1 << 16)
    return Multipath(draw(st.sampled_from(HashOf)), draw(st.integers(1, most)), target)


SIMPLE: dict[type, st.SearchStrategy[Action]] = {
    Output: st.builds(Output, bits_of(32))
    | st.builds(Output, bits_of(16), st.integers(1, (1 << 32) - 1)),
    PushVlan: st.just(PushVlan()),
    PopVlan: st.just(PopVlan()),
    PushMpls: st.just(PushMpls()),
    PopMpls: st.builds(PopMpls, st.sampled_from((0x8100, 0x88A8))),
    ForgetInPort: st.just(ForgetInPort()),
    SetVlan: st.builds(SetVlan, bits_of(12)),
    SetVlanPriority: st.builds(SetVlanPriority, bits_of(3)),
    Load: loads(),
    MoveToVlan: st.builds(MoveToVlan, registers(12)),
    Resubmit: st.builds(Resubmit, bits_of(8)),
    SetMark: st.builds(SetMark, bits_of(32)),
    SetTunnelKey: st.builds(SetTunnelKey, bits_of(32)),
    SetTunnelRemote: st.builds(SetTunnelRemote, st.builds(IPAddress, bits_of(32), st.just(4)))
    | st.builds(SetTunnelRemote, st.builds(IPAddress, bits_of(128), st.just(6))),
    Multipath: multipaths(),
    CheckLarger: st.builds(CheckLarger, st.integers(1, 0xFFFF), registers(1)),
    Learn: st.builds(
        Learn, bits_of(8), bits_of(16), bits_of(16), bits_of(32), bits_of(64).map(Cookie),
        registers(), registers(),
    ),
}  # fmt: skip
"""Every action but clones, which hold others, and meters, which are instructions."""


def clones(inner: st.SearchStrategy[Action]) -> st.SearchStrategy[Action]:
    """Clones of any of these."""
    return st.builds(Clone, st.lists(inner, max_size=4).map(tuple))


ANY: st.SearchStrategy[Action] = st.recursive(st.one_of(*SIMPLE.values()), clones, max_leaves=10)
LISTS: st.SearchStrategy[tuple[Action, ...]] = st.builds(
    lambda meter, steps: (*meter, *steps),
    st.lists(st.builds(Metered, bits_of(32)), max_size=1),
    st.lists(ANY, max_size=8),
)
"""All that a flow may do."""


class ActionChance:
    """Random lists of actions that Open vSwitch accepts in a flow that matches tagged frames."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def actions(self, length: int, depth: int = 0, tags: int = 1) -> tuple[Action, ...]:
        """A list for frames with so many tags, of which a switch knows two at most."""
        found: list[Action] = []
        first = tags
        for _ in range(length):
            kind = self.random.choice([*_MAKERS, Clone] if depth < 3 else [*_MAKERS])
            if kind is Clone:
                inner = self.random.randrange(5)
                found.append(Clone(self.actions(inner, depth + 1, tags)))
                continue
            if kind in (SetVlan, SetVlanPriority, MoveToVlan, PopVlan) and tags == 0:
                kind = PushVlan
            if kind is PushVlan and tags == 2:
                kind = PopVlan
            tags += {PushVlan: 1, PopVlan: -1}.get(kind, 0)
            found.append(_MAKERS[kind](self))
        # a clone leaves as many tags as it found, whether a switch counts those or not
        found += [PushVlan()] * (first - tags) + [PopVlan()] * (tags - first)
        return tuple(found)

    def whole(self, length: int) -> tuple[Action, ...]:
        """The same, for all that a flow does: perhaps the packet is read again at the end."""
        rereads = PushMpls(), PopMpls(self.random.choice([ETH_IPV4, ETH_VLAN]))
        return (*self.actions(length), *(rereads if self.random.random() < 0.3 else ()))

    def number(self, bits: int) -> int:
        """A number of so many bits, or of fewer."""
        return self.random.getrandbits(self.random.randint(1, bits))

    def register(self, bits: int | None = None) -> RegField:
        """A part of a register."""
        length = bits or self.random.randint(1, 32)
        low = self.random.randint(0, 32 - length)
        return RegField("any", self.random.randrange(16), low, low + length - 1)

    def load(self) -> Load:
        target = self.register()
        return Load(target, self.number(target.bits))

    def output(self) -> Output:
        port = self.random.choice([1, 0xFEFF, self.random.randint(1, 0xFEFF)])
        return Output(port, self.random.choice([0, 0, 14, self.random.randint(14, 65535)]))

    def multipath(self) -> Multipath:
        target = self.register()
        buckets = self.random.randint(1, min(1 << target.bits, 1 << 16))
        return Multipath(self.random.choice([*HashOf]), buckets, target)

    def remote(self) -> SetTunnelRemote:
        version = self.random.choice([4, 6])
        bits = 32 if version == 4 else 128
        return SetTunnelRemote(IPAddress(self.random.getrandbits(bits), version))

    def learn(self) -> Learn:
        cookie = make_cookie(LEARNED_OBJECT, self.number(32))
        limit = max(1, self.number(32))  # without a limit ovs-ofctl writes another action
        numbers = self.random.randrange(255), self.number(16), self.number(16), limit
        return Learn(*numbers, cookie, self.register(), self.register(16))


_MAKERS = {
    Output: ActionChance.output,
    PushVlan: lambda chance: PushVlan(),
    PopVlan: lambda chance: PopVlan(),
    ForgetInPort: lambda chance: ForgetInPort(),
    SetVlan: lambda chance: SetVlan(chance.number(12)),
    SetVlanPriority: lambda chance: SetVlanPriority(chance.number(3)),
    Load: ActionChance.load,
    MoveToVlan: lambda chance: MoveToVlan(chance.register(12)),
    Resubmit: lambda chance: Resubmit(chance.random.randrange(255)),
    SetMark: lambda chance: SetMark(chance.number(32)),
    SetTunnelKey: lambda chance: SetTunnelKey(chance.number(32)),
    SetTunnelRemote: ActionChance.remote,
    Multipath: ActionChance.multipath,
    CheckLarger: lambda chance: CheckLarger(chance.random.randint(1, 65535), chance.register(1)),
    Learn: ActionChance.learn,
}
