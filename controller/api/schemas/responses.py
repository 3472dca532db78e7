"""What answers say: the shapes of everything that the API shows."""

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
    """A tenant and how much it has."""

    name: str
    networks: int
    ports: int
    collectors: int
    sessions: int


class NetworkOut(BaseModel):
    """A network and how many ports are in it."""

    id: str
    name: str
    tenant: str
    ports: int
    tag: int | None = Field(description="802.1Q tag that copies of it wear with tag `auto`.")


class PlacementOut(BaseModel):
    """Where a port is now."""

    bridge: str
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
    created_at: str


class SensorConfigOut(BaseModel):
    """A configuration for a sensor; the notes are in the text as well."""

    program: Literal["suricata", "zeek"] = Field(alias="for")
    text: str = Field(description="A whole file.")
    notes: list[str] = Field(description="What the sensor will not see, or cannot tell apart.")


class SourceOut(BaseModel):
    """What a session watches; names and ids have the same order."""

    kind: Literal["port", "network", "tenant", "label"]
    ports: list[str]
    port_ids: list[str]
    networks: list[str]
    network_ids: list[str]
    labels: dict[str, str]


class CopiesOut(BaseModel):
    """How much was copied, as the switches counted it."""

    packets: int
    bytes: int


class BridgeShareOut(BaseModel):
    """What one bridge does for a session, and its part of what is counted of it."""

    bridge: str
    bridge_id: str
    state: str = Field(description="`inactive`: it has made copies, and makes none now.")
    copies: CopiesOut
    truncated: int
    skipped: dict[str, int]


class StatusOut(BaseModel):
    """What was verified on the switches."""

    state: str = Field(description="pending, active, degraded, inactive, stopped or error")
    reasons: list[str]
    copies: CopiesOut = Field(description="Copies that were made, in the bytes of their packets.")
    truncated: int = Field(description="Copies cut to fit the path to their sensor.")
    skipped: dict[str, int] = Field(
        description="Wanted copies that were not made: too long (`mtu`), or too many (`rate`)."
    )
    largest_frame: int | None = Field(
        description="Bytes of the longest frame whose copy fits the path to its sensors."
    )
    bridges: list[BridgeShareOut]


class SessionOut(BaseModel):
    """A session and its standing."""

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
    """The answer to a dry run: it would be done. The plan of flows is not part of it yet."""

    dry_run: Literal[True] = True
    would: Literal["create", "delete"]
    name: str
    tenant: str


class RuleOut(BaseModel):
    """One rule of a filter; docs/how-to/filters.md has every key of a match."""

    number: int = Field(description="1 to 60000; the lowest is asked first.")
    action: Literal["accept", "reject"]
    match: dict[str, int | str] = Field(description="What is left out is not asked.")


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
    """What one session does with the packet, and why."""

    session: str
    session_id: str
    tenant: str
    copied: bool
    sentence: str
    bridge: str | None = Field(description="The bridge that makes the copy.")
    direction: Literal["ingress", "egress"] | None
    rule: RuleOut | None = Field(description="The rule that decided, if a filter was asked.")


class ExplanationOut(BaseModel):
    """What happens to a packet, by the flows that bridges should have."""

    port: str
    port_id: str
    frame: str = Field(description="The whole frame, in hexadecimal digits.")
    receivers: list[ReceiverOut]
    sessions: list[AnswerOut]
    steps: list[str] = Field(description="Each flow that the packet meets.")


class WayCheckedOut(BaseModel):
    """Marked frames by one way of copies; `tag` and `length` are what should arrive of each."""

    bridge: str
    bridge_id: str
    sensor: str
    sensor_position: int = Field(description="As it is written in the frames.")
    network: str | None = Field(description="Null: the copies of all networks go this way.")
    network_number: int = Field(description="As it is written in the frames; 0 for all.")
    tag: int | None
    length: int = Field(description="0: nothing should arrive, it is too long for the path.")
    sent: int
    counted: int = Field(description="Copies that the bridge has counted meanwhile.")


class PortWitnessOut(BaseModel):
    """What the port that leads to these sensors has sent meanwhile, and how much it should be."""

    bridge: str
    sensors: list[str]
    wanted: int
    sent: int


class VerificationOut(BaseModel):
    """What was sent to verify a session, and what the switches have seen of it."""

    session: str
    session_id: str
    run: str = Field(description="The number in the frames, 16 hexadecimal digits.")
    count: int
    length: int
    sent: int
    ways: list[WayCheckedOut]
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
    """A bridge and its standing; the id is its datapath id in 16 hex digits."""

    id: str
    name: str
    state: str
    reasons: list[str]
    connected: bool
    ports: int
    flows: int
    plans: int
    errors: int
    shed: int = Field(description="Copies left out, because they exceeded the cap of the bridge.")


class FlowsOut(BaseModel):
    """The flows that a bridge should have, one text each."""

    id: str
    bridge: str
    flows: list[str]


class AuditOut(BaseModel):
    """One change."""

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
    """How much there is."""

    tenants: int
    networks: int
    ports: int
    placed: int
    collectors: int
    sessions: int
    active: int


class SystemOut(BaseModel):
    """The whole system at one look."""

    version: str
    problems: list[str]
    totals: TotalsOut
    bridges: list[BridgeOut]
    sessions: list[SessionOut]


class _Page(BaseModel):
    next: str | None = Field(description="`marker` of the next part; null at the end.")


class TenantPage(_Page):
    """A part of a list."""

    items: list[TenantOut]


class NetworkPage(_Page):
    """A part of a list."""

    items: list[NetworkOut]


class PortPage(_Page):
    """A part of a list."""

    items: list[PortOut]


class CollectorPage(_Page):
    """A part of a list."""

    items: list[CollectorOut]


class SessionPage(_Page):
    """A part of a list."""

    items: list[SessionOut]


class FilterPage(_Page):
    """A part of a list."""

    items: list[FilterLineOut]


class BridgePage(_Page):
    """A part of a list."""

    items: list[BridgeOut]


class AuditPage(_Page):
    """A part of a list, newest first."""

    items: list[AuditOut]
