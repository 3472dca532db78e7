"""The bodies of responses."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class ProblemOut(BaseModel):
    """Why a request was not done (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None


class TenantOut(BaseModel):
    """A tenant, and how many objects it has."""

    name: str
    title: str | None = Field(
        description="The name of its project, if the tenant is one of Neutron, whose id is `name`."
    )
    networks: int
    ports: int
    collectors: int
    sessions: int


class NetworkOut(BaseModel):
    """A network, and how many ports it has."""

    id: str
    name: str
    tenant: str
    ports: int
    tag: int | None = Field(description="802.1Q tag that its copies carry with `tenant_tag: auto`.")


class PlacementOut(BaseModel):
    """Where a port is now."""

    bridge: str
    bridge_id: str
    ofport: int


class PortOut(BaseModel):
    """A port, and where it is now (null: nowhere)."""

    id: str
    name: str
    tenant: str
    network: str | None
    network_id: str | None
    kind: Literal["vm", "tap"]
    mac: str | None
    ips: list[str]
    anti_spoofing: bool
    labels: dict[str, str]
    placement: PlacementOut | None


class SensorOut(BaseModel):
    """One receiving place: a tap port, or an address."""

    port: str | None
    port_id: str | None
    address: str | None
    probe: str | None
    words: str = Field(description="Like `ids-1` or `vxlan 192.0.2.9 vni 7001`.")


class CollectorOut(BaseModel):
    """A collector; of the three kinds of keys it has the one of its delivery."""

    id: str
    name: str
    tenant: str
    delivery: Literal["port", "vxlan", "gre", "erspan2", "erspan3", "geneve"]
    sensors: list[SensorOut]
    vni: int | None
    key: int | None
    session_id: int | None
    tenant_tag: Literal["auto"] | int | None
    balance: Literal["connection", "hosts"]
    path_mtu: int | None
    notes: list[str] = Field(
        description="What is known of its tap ports: little room, or a setting that stops copies."
    )
    created_at: str


class SensorConfigOut(BaseModel):
    """A configuration for a sensor; the notes are in the text as well."""

    program: Literal["suricata", "zeek"] = Field(alias="for")
    text: str = Field(description="A whole file.")
    notes: list[str] = Field(description="What the sensor does not receive, or cannot tell apart.")


class SourceOut(BaseModel):
    """What a session watches; names and ids have the same order."""

    kind: Literal["port", "network", "tenant", "label"]
    ports: list[str]
    port_ids: list[str]
    networks: list[str]
    network_ids: list[str]
    labels: dict[str, str]


class CopiesOut(BaseModel):
    """Copied packets and bytes, as the switches counted them."""

    packets: int
    bytes: int


class BridgeShareOut(BaseModel):
    """The part of a session that one bridge serves, and its counters there."""

    bridge: str
    bridge_id: str
    state: str = Field(description="`inactive`: it made copies earlier, and makes none now.")
    copies: CopiesOut
    truncated: int
    skipped: dict[str, int]


class StatusOut(BaseModel):
    """What was verified on the switches."""

    state: str = Field(description="pending, active, degraded, inactive, stopped or error")
    reasons: list[str]
    copies: CopiesOut = Field(
        description="Copies that were made, in the bytes of their packets. On the kernel datapath "
        "a super-frame (up to 64 kB of a connection) is one packet with one header, although the "
        "sensor gets it as several frames."
    )
    truncated: int = Field(description="Copies cut to fit the path to their sensor.")
    skipped: dict[str, int] = Field(
        description="Wanted copies that were not made: too long (`mtu`), more than `max_rate` "
        "(`rate`), more than a port on the way sends (`port_rate`), or no way to a sensor (`path`)."
    )
    largest_frame: int | None = Field(
        description="Bytes of the longest frame whose copy fits the path to its sensors."
    )
    port_rate: dict[Literal["kbps", "pps"], int] | None = Field(
        description="The cap on each bridge that keeps copies below what ports on their way send."
    )
    bridges: list[BridgeShareOut]


class SessionOut(BaseModel):
    """A session and its verified status."""

    id: str
    name: str
    tenant: str
    source: SourceOut
    direction: Literal["ingress", "egress", "both"]
    filter: str
    filter_id: str
    collector: str
    collector_id: str
    sensors: list[str] = Field(description="Of its collector, in words.")
    mode: Literal["copy", "exclusive"]
    number: int
    packet_length: int | None
    oversize: Literal["truncate", "skip"]
    max_rate: dict[Literal["kbps", "pps"], int] | None
    expires_at: str | None
    max_packets: int | None
    max_bytes: int | None
    enabled: bool
    created_at: str
    status: StatusOut


class TrialOut(BaseModel):
    """The answer to a dry run that would succeed; it has no plan of flows yet."""

    dry_run: Literal[True] = True
    would: Literal["create", "delete"]
    name: str
    tenant: str


class RuleOut(BaseModel):
    """One rule of a filter; docs/how-to/filters.md has every key of a match."""

    number: int = Field(description="1 to 60000; the lowest is evaluated first.")
    action: Literal["accept", "reject"]
    match: dict[str, int | str] = Field(description="What is left out matches every packet.")


class FilterOut(BaseModel):
    """A filter with its rules, the lowest number first."""

    id: str
    name: str
    tenant: str | None = Field(description="Null: it is built in.")
    built_in: bool
    ingress: list[RuleOut]
    egress: list[RuleOut]
    created_at: str | None


class ReceiverOut(BaseModel):
    """A workload that receives the packet."""

    port: str
    port_id: str


class AnswerOut(BaseModel):
    """Whether one session copies the packet, and why."""

    session: str
    session_id: str
    tenant: str
    copied: bool
    sentence: str
    bridge: str | None = Field(description="The bridge that makes the copy.")
    direction: Literal["ingress", "egress"] | None
    rule: RuleOut | None = Field(description="The rule that decided, if a filter was evaluated.")


class ExplanationOut(BaseModel):
    """What happens to a packet, according to the flows that bridges should have."""

    port: str
    port_id: str
    frame: str = Field(description="The whole frame, in hexadecimal digits.")
    receivers: list[ReceiverOut]
    obstacles: list[str] = Field(description="What keeps it from ports that should receive it.")
    sessions: list[AnswerOut]
    steps: list[str] = Field(description="Each flow that the packet matches.")


class PathCheckedOut(BaseModel):
    """Marked frames on one path of copies; `tag` and `length` are as the sensor receives them."""

    bridge: str
    bridge_id: str
    sensor: str
    sensor_position: int = Field(description="As it is written in the frames.")
    network: str | None = Field(description="Null: the copies of all networks take this path.")
    network_number: int = Field(description="As it is written in the frames; 0 for all.")
    tag: int | None
    length: int = Field(description="0: none should arrive, they are too long for the path.")
    sent: int
    counted: int = Field(description="Copies that the bridge has counted meanwhile.")


class PortWitnessOut(BaseModel):
    """What the port to these sensors has sent meanwhile, and what it should have sent."""

    bridge: str
    sensors: list[str]
    wanted: int
    sent: int


class VerificationOut(BaseModel):
    """What was sent to verify a session, and what the switches have counted of it."""

    session: str
    session_id: str
    run: str = Field(description="The number in the frames, 16 hexadecimal digits.")
    count: int
    length: int
    sent: int
    ways: list[PathCheckedOut]
    witnesses: list[PortWitnessOut]
    not_verified: list[str] = Field(description="Bridges that make copies and were left out.")
    notes: list[str]


class FilterLineOut(BaseModel):
    """A filter, and how many rules it has."""

    id: str
    name: str
    tenant: str | None
    built_in: bool
    ingress_rules: int
    egress_rules: int
    created_at: str | None


class BridgeOut(BaseModel):
    """A bridge and its status; the id is its datapath id in 16 hex digits."""

    id: str
    name: str
    state: str
    reasons: list[str]
    connected: bool
    ports: int
    flows: int
    plans: int
    errors: int
    shed: int = Field(description="Copies shed, because they exceeded the rate cap of the bridge.")
    hosts: list[str] = Field(
        [], description="Names of its host: declared, hostname, system-id, name in its certificate."
    )


class FlowsOut(BaseModel):
    """The flows that a bridge should have, one text each."""

    id: str
    bridge: str
    flows: list[str]


class AuditOut(BaseModel):
    """One entry of the audit log."""

    number: int
    at: str
    who: str
    what: str
    kind: str
    id: str
    name: str
    tenant: str
    detail: dict[str, object]


class TotalsOut(BaseModel):
    """How many objects there are."""

    tenants: int
    networks: int
    ports: int
    placed: int
    undeclared: int
    unopened: int
    collectors: int
    sessions: int
    active: int


class PendingOut(BaseModel):
    """A changed inventory file that is not used until it is accepted."""

    digest: str = Field(description="Names this content of the file, for `accept`.")
    summary: str = Field(description="How much is missing from it, or changed in it.")
    missing: list[str] = Field(description="The first of these ports, as tenant/name.")
    missing_count: int


class InventoryOut(BaseModel):
    """How much is declared and in force, and what is wrong with the file."""

    tenants: int
    networks: int
    ports: int
    links: int
    problems: list[str]
    pending: PendingOut | None = None


class NamesOut(BaseModel):
    """The first of some names or sentences, and how many there are."""

    first: list[str]
    count: int


class ObjectChangesOut(BaseModel):
    """Objects that are added, removed, and changed; those with what changes."""

    added: NamesOut
    removed: NamesOut
    changed: NamesOut


class CutOffOut(BaseModel):
    """A port that loses what it has now."""

    port: str
    reason: str
    is_running: bool = Field(description="Whether it is on a bridge now.")


class CutOffListOut(BaseModel):
    """The first of these ports, and how many there are."""

    first: list[CutOffOut]
    count: int


class SessionChangeOut(BaseModel):
    """A session whose sources or sensors change."""

    session: str
    gains: NamesOut
    loses: NamesOut
    sensors_lost: NamesOut
    refused: str = Field(description="Why it may not go on at all; empty if it may.")


class SessionChangeListOut(BaseModel):
    """The first of these sessions, and how many there are."""

    first: list[SessionChangeOut]
    count: int


class InventoryDiffOut(BaseModel):
    """What changes when a file takes the place of the inventory in force."""

    effect: Literal["none", "harmless", "takes", "held"] = Field(
        description="`takes`: workloads lose production, links vanish, or sessions lose sources or "
        "sensors; `held`: so much vanishes that the file waits for `accept`."
    )
    held: str = Field(description="How much vanishes, if the file would wait.")
    tenants: ObjectChangesOut
    networks: ObjectChangesOut
    ports: ObjectChangesOut
    links: ObjectChangesOut
    bridges: ObjectChangesOut
    cut_off: CutOffListOut
    sessions: SessionChangeListOut | None = Field(description="null: they are not known.")


class UnplacedOut(BaseModel):
    """A declared port that is on no bridge now."""

    id: str
    name: str
    tenant: str
    reason: str = Field(description="What it was looked for by, and what was there instead.")


class UndeclaredOut(BaseModel):
    """An interface that is in no inventory, on a bridge with ports that are."""

    bridge: str
    interface: str
    line: str = Field(
        description="The line that declares it as a workload, for `ports` of the inventory. What "
        "only a person can know is TENANT and NETWORK in it."
    )


class UnopenedOut(BaseModel):
    """An interface that Open vSwitch could not create or open."""

    bridge: str
    interface: str
    error: str = Field(description="`error` of its row in the database.")


class SystemOut(BaseModel):
    """The whole system in one answer."""

    version: str
    problems: list[str]
    totals: TotalsOut
    unplaced: list[UnplacedOut] = Field(
        description="The first ports of the inventory that are on no bridge; see `totals`."
    )
    undeclared: list[UndeclaredOut] = Field(
        description="The first interfaces that are in no inventory; see `totals`."
    )
    unopened: list[UnopenedOut] = Field(
        description="The first interfaces that Open vSwitch could not create or open; see `totals`."
    )
    bridges: list[BridgeOut]
    sessions: list[SessionOut]


class _Page(BaseModel):
    next: str | None = Field(description="`marker` of the next page; null at the end.")


class TenantPage(_Page):
    """A page of a list."""

    items: list[TenantOut]


class NetworkPage(_Page):
    """A page of a list."""

    items: list[NetworkOut]


class PortPage(_Page):
    """A page of a list."""

    items: list[PortOut]


class CollectorPage(_Page):
    """A page of a list."""

    items: list[CollectorOut]


class SessionPage(_Page):
    """A page of a list."""

    items: list[SessionOut]


class FilterPage(_Page):
    """A page of a list."""

    items: list[FilterLineOut]


class BridgePage(_Page):
    """A page of a list."""

    items: list[BridgeOut]


class AuditPage(_Page):
    """A page of a list, newest first."""

    items: list[AuditOut]
