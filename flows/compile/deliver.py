"""The copy itself: to a tap port, over the links to the bridge that has it, or into a tunnel.

A session that nothing limits has one flow in the deliver table. Copies that are capped, cut, spread
over sensors or sent through tunnels pass the stages that follow it, those that only a link limits
the last two of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from netaddr import IPAddress

from flows.resolve.bridge_view import Site
from flows.resolve.session import Standing
from flows.openflow.field import IN_PORT, VLAN_PRESENT, VLAN_VID, Term
from flows.openflow.flow import (
    PRODUCTION,
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
    SetTunnelKey,
    SetTunnelRemote,
    SetVlan,
    Steps,
    make_flow,
)
from flows.plan.meters import Meter, long_meter
from flows.model.session import Balance, Collector, NetworkId, Ofport, Oversize, Port, Sensor
from flows.pipeline.tables import (
    BRIDGE_CAP,
    BRIDGE_METER,
    BUCKET,
    CAP,
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
    Table,
)
from flows.model.pool import BUCKETS, assign
from flows.model.tunnel import cut_length

CUT_NOWHERE = 64
"""Bytes of what goes nowhere."""
HASHES = {Balance.CONNECTION: HashOf.CONNECTION, Balance.HOSTS: HashOf.HOSTS}


def delivery_frame(site: Site) -> Iterator[Flow]:
    """What is there whatever sessions there are."""
    for table in (DELIVER, CAP, SIZE, SEND, CUT):
        yield _flow(table, "nothing", (), (), PRODUCTION, "no such session any more")
    yield _flow(POOL_TABLE, "nothing", (), (), PRODUCTION, "no such pool any more")
    cut = (Resubmit(CUT.number),)
    yield _flow(SEND, "larger", (LARGER.eq(1),), cut, PRODUCTION, "too long for a whole copy")
    go: tuple[Action, ...] = (Resubmit(SIZE.number),)
    if site.world.bridge_rate is not None:
        go = (Metered(BRIDGE_METER), *go)
    yield _flow(BRIDGE_CAP, "everything", (), go, PRODUCTION, "copies of every session")


def bridge_meter(site: Site) -> Iterator[Meter]:
    """The meter of all copies of the bridge together, if they are capped."""
    if site.world.bridge_rate is not None:
        yield Meter(BRIDGE_METER, site.world.bridge_rate)


def meter_of(site: Site, standing: Standing) -> Meter | None:
    """The meter of one session's copies, if they are capped."""
    rate = standing.session.max_rate
    number = site.world.numbers.meter.get(standing.session.id)
    return None if rate is None or number is None else Meter(number, rate)


def long_meter_of(site: Site, standing: Standing) -> Meter | None:
    """The meter that counts what is too long for the path to a session's sensors.

    None where nothing is, where the owner wants no more than fits, and on a bridge without meters.
    """
    session = standing.session
    if not site.has_meters or standing.collector is None:
        return None
    limit = site.limit_of(session)
    if limit is None or limit >= (session.packet_length or limit + 1):
        return None
    return long_meter(_number(site, standing), session.oversize)


def deliver(site: Site, standing: Standing) -> Iterator[Flow]:
    """The copy of one session that this bridge serves.

    The counters of its flows in the deliver table count the copies that it wants. A session that
    watches networks with tags of their own has one flow for each network.
    """
    why = f"copy of session {standing.session.name}"
    if site.survey.is_staged(standing):
        yield from _staged(site, standing, why)
    elif site.limit_of(standing.session) is not None:
        yield from _sized(site, standing, DELIVER, why)
    else:
        sensor = _collector(standing).sensors[0]
        yield from _sent(site, standing, DELIVER, None, 0, f"{why} for {sensor}")


def pool(site: Site, collector: Collector) -> Iterator[Flow]:
    """The sensor of each bucket of a collector with several sensors, as they are well now."""
    there = [sensor for sensor in collector.sensors if site.way_to(sensor, collector) is not None]
    well = [sensor for sensor in there if not site.world.is_down(collector, sensor)]
    number = site.world.numbers.collector[collector.id]
    for bucket, position in enumerate(assign(collector.sensors, well or there)):
        terms = (POOL.eq(number), BUCKET.eq(bucket))
        why = f"{collector.sensors[position]} has this share of collector {collector.name}"
        yield _flow(POOL_TABLE, "bucket", terms, (Load(SENSOR, position),), PRODUCTION, why)


def transport(site: Site, tap: Port, tag: int | None) -> Iterator[Flow]:
    """Take copies that come over a link to the tap port, or to the link that leads there."""
    link_tag, way = site.link_tag_of_copies(tap, tag), site.way(tap)
    if link_tag is not None and way is not None:
        for link in site.link_ports:
            if link != way:
                yield _carry(site, tap, tag, link_tag, link)


def tags_of(site: Site, standing: Standing) -> Mapping[NetworkId, int | None]:
    """The tag that copies of a session wear, for each network that it watches."""
    networks = standing.networks
    return {n: site.survey.tag_of_copy(standing.session, n) for n in sorted(networks)}


def _staged(site: Site, standing: Standing, why: str) -> Iterator[Flow]:
    session, number = standing.session, _number(site, standing)
    own = (SESSION.eq(number),)
    meter, is_capped = meter_of(site, standing), site.world.bridge_rate is not None
    after = (Resubmit((BRIDGE_CAP if is_capped else SIZE).number),)
    first: tuple[Action, ...] = (Resubmit(CAP.number),) if meter else after
    if meter or is_capped:
        # Open vSwitch 3.1 would do a plain clone in line, and a meter in line sheds whatever
        # follows, be it other copies or production. A clone that cuts is done on a packet apart.
        first = (Clone((*first, Output(NOWHERE, CUT_NOWHERE))), Load(SESSION, 0))
    wanted = f"session {session.name} wants a copy"
    yield _flow(DELIVER, "session", own, first, number, wanted)
    if meter:
        capped = f"{why}, at most {session.max_rate}"
        yield _flow(CAP, "session", own, (Metered(meter.number), *after), number, capped)
    yield from _sized(site, standing, SIZE, why)


def _sized(site: Site, standing: Standing, table: Table, why: str) -> Iterator[Flow]:
    """The flow of one table that asks whether a packet is too long, and what follows either way."""
    session, number = standing.session, _number(site, standing)
    own, collector = (SESSION.eq(number),), _collector(standing)
    length = cut_length(session, site.limit_of(session))
    steps: list[Action] = [Load(LARGER, 0) if length is None else CheckLarger(length, LARGER)]
    if len(collector.sensors) > 1:
        bucket = Multipath(HASHES[collector.balance], BUCKETS, BUCKET)
        number_of_pool = site.world.numbers.collector[collector.id]
        steps += [bucket, Load(POOL, number_of_pool), Resubmit(POOL_TABLE.number)]
    chosen = f"{why}: does it fit, and which sensor gets it?"
    yield _flow(table, "session", own, (*steps, Resubmit(SEND.number)), number, chosen)
    is_skipped = session.oversize is Oversize.SKIP and length not in (None, session.packet_length)
    for position, sensor in enumerate(collector.sensors):
        where = f"{why} for {sensor}"
        at = position if len(collector.sensors) > 1 else None
        # padding behind an IP packet is not counted by the check, but would be copied
        yield from _sent(site, standing, SEND, at, length or 0, where)
        if length is not None and not is_skipped:
            yield from _sent(site, standing, CUT, at, length, f"{where}, cut to {length} bytes")
    if is_skipped:
        yield _flow(
            CUT,
            "session",
            own,
            _counted(site, standing),
            number,
            f"{why} that does not fit its path: skipped",
        )


def _sent(
    site: Site, standing: Standing, table: Table, position: int | None, length: int, why: str
) -> Iterator[Flow]:
    """The flows of one table that send copies to one sensor; one for each tag that they wear."""
    number, tags = _number(site, standing), tags_of(site, standing)
    sensor = _collector(standing).sensors[position or 0]
    same = len(set(tags.values())) == 1
    for network, tag in list(tags.items())[: 1 if same else None]:
        actions = tuple(_copy(site, standing, sensor, tag, length))
        if not actions:
            continue
        if table is CUT:
            actions = (*_counted(site, standing), *actions)
        networks = () if same else (NETWORK.eq(site.world.numbers.network[network]),)
        sensors = () if position is None else (SENSOR.eq(position),)
        asked = table.pattern("session" if same else "network", *networks, SESSION, *sensors)
        yield make_flow(asked, (number,), Steps.of(*actions), number, why)


def _counted(site: Site, standing: Standing) -> tuple[Action, ...]:
    meter = long_meter_of(site, standing)
    return () if meter is None else (Metered(meter.number),)


def _copy(
    site: Site, standing: Standing, sensor: Sensor, tag: int | None, length: int
) -> Iterator[Action]:
    """Output to the sensor, or to the link towards it; cut to a length that is not 0."""
    collector = _collector(standing)
    way = site.way_to(sensor, collector)
    if way is None:
        return
    before: tuple[Action, ...] = () if tag is None else (PushVlan(), SetVlan(tag))
    if isinstance(sensor, IPAddress):
        before = (*before, SetTunnelKey(collector.key or 0), SetTunnelRemote(sensor))
    elif not site.is_here(tap := site.world.port_by_id[sensor]):
        link_tag = site.link_tag_of_copies(tap, tag)
        if link_tag is None:
            return
        # a packet that came over this very link is copied back over it
        before = (PushVlan(), SetVlan(link_tag), ForgetInPort())
    if not before and not length:
        yield Output(way)
        return
    yield Clone((*before, Output(way, length)))
    if length:
        # Open vSwitch cuts before it makes pending changes of tags, so their bytes would count.
        # A clone that cuts and is not the last action is done in earnest, on a finished packet.
        yield Load(SESSION, 0)


def _carry(site: Site, tap: Port, tag: int | None, link_tag: int, link: Ofport) -> Flow:
    match = Match.of(IN_PORT.eq(link), VLAN_VID.eq(VLAN_PRESENT | link_tag))
    last: tuple[Action, ...] = ()
    if site.is_here(tap):
        last = (PopVlan(),) if tag is None else (SetVlan(tag),)
    why = f"copies for tap port {tap.id} from another bridge"
    actions = (*last, Output(site.ofport(tap)))
    return Flow(START.number, START["transport"], match, actions, PRODUCTION, why)


def _flow(
    table: Table, priority: str, terms: Iterable[Term], actions: tuple[Action, ...], owner: int,
    why: str,
) -> Flow:  # fmt: skip
    return Flow(table.number, table[priority], Match.of(*terms), actions, owner, why)


def _number(site: Site, standing: Standing) -> int:
    return site.world.numbers.session[standing.session.id]


def _collector(standing: Standing) -> Collector:
    assert standing.collector is not None, "a served session has a collector"
    return standing.collector
