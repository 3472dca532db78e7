"""Delivery: copies go to a tap port, over links to the tap port's bridge, or into a tunnel.

A session without limits has one flow in the deliver table. Copies that are capped, cut, spread over
sensors or sent through tunnels also pass the tables after it; copies that only a link limits pass
the last two of them. On a bridge with meters each copy that was sent is counted in the table after
all of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from netaddr import IPAddress

from flows.model import (
    BRIDGE_METER,
    BUCKETS,
    Balance,
    Collector,
    Datapath,
    NetworkId,
    Ofport,
    Oversize,
    Port,
    Sensor,
    assign,
    cut_length,
)
from flows.openflow import (
    ETH_HEADER,
    IN_PORT,
    PKT_MARK,
    PRODUCTION,
    VLAN_HEADER,
    VLAN_PRESENT,
    VLAN_VID,
    Action,
    CheckLarger,
    Clone,
    Flow,
    ForgetInPort,
    HashOf,
    Load,
    Match,
    Metered,
    Multipath,
    Output,
    PopVlan,
    PushVlan,
    Resubmit,
    SetMark,
    SetTunnelKey,
    SetTunnelRemote,
    SetVlan,
    Steps,
    Term,
    make_flow,
)
from flows.pipeline import (
    BRIDGE_CAP,
    BUCKET,
    CAP,
    COUNT,
    CUT,
    DELIVER,
    LARGER,
    NETWORK,
    NOWHERE,
    POOL,
    POOL_TABLE,
    SEND,
    SENSOR,
    SESSION,
    SIZE,
    START,
    TAGGED,
    Table,
)
from flows.plan import (
    Meter,
    count_meter,
    dropped_meter,
    long_meter,
    lost_meter,
    own_tag_meter,
    port_meter,
)
from flows.resolve import BridgeView, ResolvedSession

CUT_NOWHERE = 64
"""Bytes to which an output to NOWHERE truncates; with it a clone works on a separate packet."""
SESSION_IN_MARK = 12
"""Lowest bit of the session number in the mark of a packet that is to be segmented; the bits below
tell apart networks whose copies wear different tags, of which there are fewer."""
IS_TAGGED = VLAN_VID.masked(VLAN_PRESENT, VLAN_PRESENT)
HASH_BY_BALANCE = {Balance.CONNECTION: HashOf.CONNECTION, Balance.HOSTS: HashOf.HOSTS}


def fixed_delivery_flows(view: BridgeView) -> Iterator[Flow]:
    """The flows of the delivery tables that do not depend on sessions."""
    for table in (DELIVER, CAP, SIZE, SEND, CUT, COUNT):
        yield _flow(table, "nothing", (), (), PRODUCTION, "no such session any more")
    yield _flow(POOL_TABLE, "nothing", (), (), PRODUCTION, "no such pool any more")
    cut = (Resubmit(CUT.number),)
    yield _flow(SEND, "larger", (LARGER.eq(1),), cut, PRODUCTION, "too long for a whole copy")
    go: tuple[Action, ...] = (Resubmit(SIZE.number),)
    if view.world.bridge_rate is not None:
        go = (Metered(BRIDGE_METER), *go)
    yield _flow(BRIDGE_CAP, "everything", (), go, PRODUCTION, "copies of every session")


def bridge_meter(view: BridgeView) -> Iterator[Meter]:
    """The meter that caps all copies of the bridge together, if the configuration sets a rate."""
    if view.world.bridge_rate is not None:
        yield Meter(BRIDGE_METER, view.world.bridge_rate)


def meter_of(view: BridgeView, resolved_session: ResolvedSession) -> Meter | None:
    """The meter that caps one session's copies, if it sets a rate or its tap ports send little."""
    rate = resolved_session.session.max_rate
    share = view.resolved.port_caps.get(resolved_session.session.id)
    if share is not None:
        return port_meter(_number(view, resolved_session), share)
    number = view.world.numbers.meter.get(resolved_session.session.id)
    return None if rate is None or number is None else Meter(number, rate)


def long_meter_of(view: BridgeView, resolved_session: ResolvedSession) -> Meter | None:
    """The meter that counts frames too long for the path to a session's sensors.

    None when any frame fits, when the session's ``packet_length`` is within the limit, and on a
    bridge without meters. When no sensor can get copies, this meter counts all of them. Where
    copies cannot be truncated, it counts those that would have to be.
    """
    if not view.has_meters or resolved_session.collector is None:
        return None
    if leads_nowhere(view, resolved_session):
        return lost_meter(_number(view, resolved_session))
    oversize = oversize_of(view, resolved_session)
    return None if oversize is None else long_meter(_number(view, resolved_session), oversize)


def oversize_of(view: BridgeView, resolved_session: ResolvedSession) -> Oversize | None:
    """What this bridge does with copies that are too long for their path.

    None when none is, or when all are truncated to ``packet_length``, as the session says.
    """
    session = resolved_session.session
    length = cut_length(session, view.limit_of(session))
    if length is None:
        return None
    if not view.truncates(_collector(resolved_session)):
        return Oversize.SKIP
    return None if length == session.packet_length else session.oversize


def count_meters_of(view: BridgeView, resolved_session: ResolvedSession) -> tuple[Meter, ...]:
    """The meters that count the copies that a session makes here: of those without a tag of ours,
    of those with one, and of frames whose own tag is not counted. None on a bridge without meters.
    """
    return tuple(dict.fromkeys(meter for _, _, meter in _counters(view, resolved_session)))


def deliver(view: BridgeView, resolved_session: ResolvedSession) -> Iterator[Flow]:
    """The delivery flows of one session that this bridge serves.

    A session whose networks have different tags has one flow for each network. On a bridge without
    meters the counters of its flows in the deliver table count its copies.
    """
    why = f"copy of session {resolved_session.session.name}"
    if leads_nowhere(view, resolved_session):
        yield from _counted_only(view, resolved_session, why)
    elif view.resolved.is_staged(resolved_session):
        yield from _staged(view, resolved_session, why)
    elif view.limit_of(resolved_session.session) is not None:
        table = DELIVER
        if is_segmented(view, resolved_session):
            # frames that come back are checked in the next table: they are no new copies
            number, table = _number(view, resolved_session), SIZE
            to_size = (Resubmit(SIZE.number),)
            yield _flow(DELIVER, "session", (SESSION.eq(number),), to_size, number, why)
        yield from _sized(view, resolved_session, table, why)
    else:
        sensor = _collector(resolved_session).sensors[0]
        yield from _sent(view, resolved_session, DELIVER, None, 0, f"{why} for {sensor}")
    yield from _counting(view, resolved_session)


def is_segmented(view: BridgeView, resolved_session: ResolvedSession) -> bool:
    """Whether packets pass the segmenting pair of the bridge before they are truncated."""
    session = resolved_session.session
    return (
        view.segmenter is not None
        and cut_length(session, view.limit_of(session)) is not None
        and oversize_of(view, resolved_session) is not Oversize.SKIP
    )


def leads_nowhere(view: BridgeView, resolved_session: ResolvedSession) -> bool:
    """Whether settings or missing routes keep the copies that leave here from every sensor, or a
    bridge that is away and does not know of them.
    """
    collector = _collector(resolved_session)
    tags = frozenset(tags_of(view, resolved_session).values() if view.world.known_ways else ())
    return not any(
        view.is_open(sensor, collector) and view.is_prepared(sensor, tags)
        for sensor in collector.sensors
    )


def pool(view: BridgeView, collector: Collector) -> Iterator[Flow]:
    """The sensor of each bucket of a collector with several sensors, by their state now.

    Sensors that are down are left out unless all of them are.
    """
    reachable = [
        sensor
        for sensor in collector.sensors
        if view.next_hop_of_copies(sensor, collector) is not None
    ]
    open_ones = [sensor for sensor in reachable if view.is_open(sensor, collector)]
    up = [sensor for sensor in open_ones if not view.world.is_down(collector, sensor)]
    number = view.world.numbers.collector[collector.id]
    for bucket, position in enumerate(assign(collector.sensors, up or open_ones or reachable)):
        terms = (POOL.eq(number), BUCKET.eq(bucket))
        why = f"{collector.sensors[position]} has this share of collector {collector.name}"
        yield _flow(POOL_TABLE, "bucket", terms, (Load(SENSOR, position),), PRODUCTION, why)


def transport(view: BridgeView, tap: Port, tag: int | None) -> Iterator[Flow]:
    """The flows that forward copies from links to a tap port, or to the link towards it."""
    link_tag, next_hop = view.link_tag_of_copies(tap, tag), view.next_hop(tap)
    if link_tag is not None and next_hop is not None:
        for link in view.link_ports:
            if link != next_hop:
                yield _transport_flow(view, tap, tag, link_tag, link)


def closed_way(way: Flow, session: int) -> Flow:
    """What counts the copies of a session that still come by a way which is closed.

    Below every port: if a workload is at the port of arrival by now, its frames are its own.
    """
    why = "copies that are not wanted any more, from a bridge that cannot be told"
    actions = (Metered(dropped_meter(session).number),)
    return Flow(START.number, START["closed"], way.match, actions, PRODUCTION, why)


def tags_of(view: BridgeView, resolved_session: ResolvedSession) -> Mapping[NetworkId, int | None]:
    """The tag that copies of a session wear, for each network that it watches."""
    networks = resolved_session.networks
    return {n: view.resolved.tag_of_copy(resolved_session.session, n) for n in sorted(networks)}


def way_of_copies(
    view: BridgeView, resolved_session: ResolvedSession, sensor: Sensor, tag: int | None
) -> tuple[Action, ...] | None:
    """What is done to copies before they are output to a sensor; None if they cannot get there.

    Open vSwitch sends nothing back to the port that a packet came from, and nothing from one
    protected port to another, unless the port is forgotten.
    """
    collector = _collector(resolved_session)
    if view.next_hop_of_copies(sensor, collector) is None:
        return None
    before: tuple[Action, ...] = () if tag is None else (PushVlan(), SetVlan(tag))
    if isinstance(sensor, IPAddress):
        tunnel = (SetTunnelKey(collector.key or 0), SetTunnelRemote(sensor))
        return (*before, *tunnel, ForgetInPort())
    if view.is_here(tap := view.world.port_by_id[sensor]):
        return (*before, ForgetInPort()) if view.world.is_protected(tap.id) else before
    link_tag = view.link_tag_of_copies(tap, tag)
    if link_tag is None:
        return None
    return (PushVlan(), SetVlan(link_tag), ForgetInPort())


def _staged(view: BridgeView, resolved_session: ResolvedSession, why: str) -> Iterator[Flow]:
    session, number = resolved_session.session, _number(view, resolved_session)
    own = (SESSION.eq(number),)
    meter, is_capped = meter_of(view, resolved_session), view.world.bridge_rate is not None
    after = (Resubmit((BRIDGE_CAP if is_capped else SIZE).number),)
    first: tuple[Action, ...] = (Resubmit(CAP.number),) if meter else after
    if meter or is_capped:
        # Open vSwitch 3.1 executes a plain clone inline, and an inline meter drops whatever
        # follows, other copies or production. A clone that truncates works on a separate packet.
        first = (Clone((*first, Output(NOWHERE, CUT_NOWHERE))), Load(SESSION, 0))
    wanted = f"session {session.name} wants a copy"
    yield _flow(DELIVER, "session", own, first, number, wanted)
    if meter:
        capped = f"{why}, at most {session.max_rate}"
        yield _flow(CAP, "session", own, (Metered(meter.number), *after), number, capped)
    yield from _sized(view, resolved_session, SIZE, why)


def _counted_only(view: BridgeView, resolved_session: ResolvedSession, why: str) -> Iterator[Flow]:
    """The flows that count the copies of a session, and send none."""
    number = _number(view, resolved_session)
    own = (SESSION.eq(number),)
    to_cut = (Load(LARGER, 1), Resubmit(SEND.number))
    yield _flow(DELIVER, "session", own, to_cut, number, f"{why}: no sensor can get it")
    count = _count_long(view, resolved_session)
    yield _flow(CUT, "session", own, count, number, f"{why}, which no sensor can get: lost")


def _sized(
    view: BridgeView, resolved_session: ResolvedSession, table: Table, why: str
) -> Iterator[Flow]:
    """The flow of one table that checks the length of a packet, and the flows for either result."""
    session, number = resolved_session.session, _number(view, resolved_session)
    own, collector = (SESSION.eq(number),), _collector(resolved_session)
    length = cut_length(session, view.limit_of(session))
    steps: list[Action] = []
    if len(collector.sensors) > 1:
        bucket = Multipath(HASH_BY_BALANCE[collector.balance], BUCKETS, BUCKET)
        number_of_pool = view.world.numbers.collector[collector.id]
        steps += [bucket, Load(POOL, number_of_pool), Resubmit(POOL_TABLE.number)]
    chosen = f"{why}: does it fit, and which sensor gets it?"
    for priority, terms, check in _checks(view, length):
        actions = (check, *steps, Resubmit(SEND.number))
        yield _flow(table, priority, (*own, *terms), actions, number, chosen)
    for position, sensor in enumerate(collector.sensors):
        at = position if len(collector.sensors) > 1 else None
        yield from _sent_or_cut(view, resolved_session, at, length, f"{why} for {sensor}")
    if is_segmented(view, resolved_session):
        yield from _segmented(view, resolved_session)
    if oversize_of(view, resolved_session) is Oversize.SKIP:
        yield _flow(
            CUT,
            "session",
            own,
            _count_long(view, resolved_session),
            number,
            f"{why} that does not fit its path: skipped",
        )


def _sent_or_cut(
    view: BridgeView,
    resolved_session: ResolvedSession,
    position: int | None,
    length: int | None,
    why: str,
) -> Iterator[Flow]:
    """The flows that output copies to one sensor: those that fit, and those that are truncated."""
    # there the check ignores padding after an IP packet, but the output would contain it
    is_userspace = view.datapath is Datapath.USERSPACE
    cuts_padding = is_userspace and view.truncates(_collector(resolved_session))
    most = length or 0 if cuts_padding else 0
    yield from _sent(view, resolved_session, SEND, position, most, why)
    if length is None or oversize_of(view, resolved_session) is Oversize.SKIP:
        return
    cut = f"{why}, cut to {length} bytes"
    yield from _sent(view, resolved_session, CUT, position, length, cut)
    if view.datapath is Datapath.KERNEL:
        # Linux does not count the outermost tag, as in _checks
        most = max(ETH_HEADER, length - VLAN_HEADER)
        yield from _sent(view, resolved_session, CUT, position, most, cut, IS_TAGGED)


def _checks(view: BridgeView, length: int | None) -> Iterator[tuple[str, tuple[Term, ...], Action]]:
    """How the length of packets is compared with ``length``: priority, condition and check."""
    if length is None:
        yield "session", (), Load(LARGER, 0)
        return
    yield "session", (), CheckLarger(length, LARGER)
    if view.datapath is Datapath.KERNEL:
        # Linux keeps the outermost tag beside the packet, where the check does not count it
        yield "tagged", (IS_TAGGED,), CheckLarger(length - VLAN_HEADER, LARGER)


def _sent(
    view: BridgeView,
    resolved_session: ResolvedSession,
    table: Table,
    position: int | None,
    length: int,
    why: str,
    *terms: Term,
) -> Iterator[Flow]:
    """The flows of one table that output copies to one sensor; one for each tag that they wear.

    ``terms`` are conditions besides: that packets have a tag of their own.
    """
    number, tags = _number(view, resolved_session), tags_of(view, resolved_session)
    sensor = _collector(resolved_session).sensors[position or 0]
    same = len(set(tags.values())) == 1
    for network, tag in list(tags.items())[: 1 if same else None]:
        actions = tuple(_copy(view, resolved_session, sensor, tag, length))
        if not actions:
            continue
        if table is CUT:
            actions = (*_count_long(view, resolved_session), *actions)
        networks = () if same else (NETWORK.eq(view.world.numbers.network[network]),)
        sensors = () if position is None else (SENSOR.eq(position),)
        priority = ("tagged" if terms else "session", "tagged_network" if terms else "network")
        asked = table.pattern(priority[not same], *networks, SESSION, *sensors, *terms)
        yield make_flow(asked, (number,), Steps.of(*actions), number, why)


def _segmented(view: BridgeView, resolved_session: ResolvedSession) -> Iterator[Flow]:
    """The flows that send what must be truncated over the segmenting pair, and go on with the
    frames that come back. The mark beside each says whose copy it is.
    """
    pair, number = view.segmenter, _number(view, resolved_session)
    assert pair is not None, "a segmented session has a segmenter"
    name, numbers = resolved_session.session.name, view.world.numbers.network
    tags = tags_of(view, resolved_session)
    same = len(set(tags.values())) == 1
    for position, network in enumerate(list(tags)[: 1 if same else None]):
        networks = () if same else (NETWORK.eq(numbers[network]),)
        mark = SetMark(number << SESSION_IN_MARK | position)
        larger = (SESSION.eq(number), LARGER.eq(1), *networks)
        go = (Clone((mark, Output(pair.out))),)
        why = f"copies of session {name} that must be truncated: made to frames first"
        yield _flow(SEND, "super_frame", larger, go, number, why)
        loads = () if same else (Load(NETWORK, numbers[network]),)
        come = (SetMark(0), Load(SESSION, number), *loads, Resubmit(SIZE.number))
        back = (IN_PORT.eq(pair.back), PKT_MARK.eq(mark.mark))
        why = f"frames of session {name} that were segmented"
        yield _flow(START, "segmented", back, come, number, why)
    is_back = (IN_PORT.eq(pair.back), SESSION.eq(number), LARGER.eq(1))
    why = f"frames of session {name} to be truncated"
    yield _flow(SEND, "segmented", is_back, (Resubmit(CUT.number),), number, why)


def _count_long(view: BridgeView, resolved_session: ResolvedSession) -> tuple[Action, ...]:
    meter = long_meter_of(view, resolved_session)
    return () if meter is None else (Metered(meter.number),)


def _copy(
    view: BridgeView,
    resolved_session: ResolvedSession,
    sensor: Sensor,
    tag: int | None,
    length: int,
) -> Iterator[Action]:
    """Output to the sensor or to the link towards it, truncated to ``length`` unless it is 0."""
    next_hop = view.next_hop_of_copies(sensor, _collector(resolved_session))
    before = way_of_copies(view, resolved_session, sensor, tag)
    if next_hop is None or before is None:
        return
    count: tuple[Action, ...] = ()
    if view.has_meters:
        # after the output, which has applied pending changes of tags: the length is known here
        count = (Load(TAGGED, 1),) if PushVlan() in before else ()
        count = (*count, Resubmit(COUNT.number))
    if not before and not length:
        yield from (Output(next_hop), *count)
        return
    yield Clone((*before, Output(next_hop, length), *count))
    if length:
        # Open vSwitch truncates before it commits pending changes of tags, so their bytes would
        # count. A clone that truncates and is not the last action commits them to its packet first.
        yield Load(SESSION, 0)


def counts_tag(view: BridgeView, before: tuple[Action, ...]) -> bool:
    """Whether meters count a tag that ``before`` pushes: Linux keeps the outermost one beside the
    packet, and counts none.
    """
    return PushVlan() in before and view.datapath is not Datapath.KERNEL


def _counting(view: BridgeView, resolved_session: ResolvedSession) -> Iterator[Flow]:
    """The flows that count the copies of a session that were sent."""
    number = _number(view, resolved_session)
    why = f"copies of session {resolved_session.session.name} that were made"
    for priority, terms, meter in _counters(view, resolved_session):
        own = (SESSION.eq(number), *terms)
        yield _flow(COUNT, priority, own, (Metered(meter.number),), number, why)


def _counters(
    view: BridgeView, resolved_session: ResolvedSession
) -> Iterator[tuple[str, tuple[Term, ...], Meter]]:
    """Which meter counts which copies of a session here: priority and condition of each.

    Meters see a packet as it was sent, without the outermost tag on the kernel's datapath: if that
    is one of ours, they count the original frame there, and else 4 bytes too few.
    """
    number, is_kernel = _number(view, resolved_session), view.datapath is Datapath.KERNEL
    for is_tagged in _kinds_of_copies(view, resolved_session) if view.has_meters else ():
        meter = count_meter(number, is_tagged=is_tagged and not is_kernel)
        yield "session", (TAGGED.eq(int(is_tagged)),), meter
        if is_kernel and not is_tagged:
            yield "tagged", (TAGGED.eq(0), IS_TAGGED), own_tag_meter(number)


def _kinds_of_copies(view: BridgeView, resolved_session: ResolvedSession) -> list[bool]:
    """Whether copies that leave here wear a tag of ours, none, or some do."""
    if leads_nowhere(view, resolved_session):
        return []
    tags = set(tags_of(view, resolved_session).values())
    sensors = _collector(resolved_session).sensors
    ways = [
        way_of_copies(view, resolved_session, sensor, tag) for sensor in sensors for tag in tags
    ]
    return sorted({PushVlan() in way for way in ways if way is not None})


def _transport_flow(
    view: BridgeView, tap: Port, tag: int | None, link_tag: int, link: Ofport
) -> Flow:
    match = Match.of(IN_PORT.eq(link), VLAN_VID.eq(VLAN_PRESENT | link_tag))
    last: tuple[Action, ...] = ()
    if view.is_here(tap):
        last = (PopVlan(),) if tag is None else (SetVlan(tag),)
    why = f"copies for tap port {tap.id} from another bridge"
    actions = (*last, ForgetInPort(), Output(view.ofport(tap)))  # both may be protected ports
    return Flow(START.number, START["transport"], match, actions, PRODUCTION, why)


def _flow(
    table: Table,
    priority: str,
    terms: Iterable[Term],
    actions: tuple[Action, ...],
    owner: int,
    why: str,
) -> Flow:
    return Flow(table.number, table[priority], Match.of(*terms), actions, owner, why)


def _number(view: BridgeView, resolved_session: ResolvedSession) -> int:
    return view.world.numbers.session[resolved_session.session.id]


def _collector(resolved_session: ResolvedSession) -> Collector:
    assert resolved_session.collector is not None, "a served session has a collector"
    return resolved_session.collector
