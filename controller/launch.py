"""Composition root: makes every part, hands each its neighbours, starts and stops them.

The parts are made in the order in which data flows: what is reported and declared, the snapshot
of the world, the writers of the bridges, and the answers. It does no work itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog
from flask import Flask

from controller.api import MAX_BODY, MAX_RULES_BODY, make_app
from controller.config import Config, ConfigError, load, split_listen
from controller.http import BodyLimit, FrontSettings, HttpServer, HttpsFiles, token_digest
from controller.inventory import (
    Caution,
    Inventory,
    InventoryFile,
    InventorySources,
    NeutronInventory,
)
from controller.neutron import Settings
from controller.process import (
    LOOK_AT_FILES_S,
    LOOP_MONITOR,
    CertificateWatch,
    ChangeSignal,
    LostLines,
    OwnCertificates,
    RenewedFiles,
    ServiceManager,
    configure_logs,
    expect_many_objects,
)
from controller.reconcile import (
    CHECK_S,
    START_S,
    TICK_S,
    Finalizer,
    Hearing,
    InventoryReload,
    LimitChecker,
    Loop,
    MirrorDemandLoop,
    Readiness,
    Reconciler,
    SnapshotBuilder,
    StartReport,
    TunnelDemandLoop,
    Untold,
    Upkeep,
    WriterLifecycle,
    Writers,
)
from controller.reconcile.bridge import Adoption
from controller.reconcile.report import COUNT_S, CounterPoller, Inspector
from controller.runtime import log_problem, lost_log_lines, run_blocking
from controller.southbound import Connections, Revalidation, Transport
from controller.southbound.ovsdb import ExpectedDatabases, OvsdbWatcher, TlsFiles
from controller.status import SessionCountersByBridge
from controller.store import INVENTORY_KEPT, NEUTRON_KEPT, Store
from controller.topology import (
    HostDevices,
    HostPairs,
    OffloadWatch,
    PairWatch,
    Placements,
    PlacementTracker,
    RouteTable,
    SensorHealth,
    TapOffloads,
    TunnelPorts,
)
from flows.errors import CloudtapError
from flows.model import Dpid, PortId, declared_names

EXPOSED = (
    "the API is open to other machines without HTTPS, so tokens can be read on their way: give "
    "[api] certificate and private_key"
)

WRONG_RUNTIME = (
    "[openflow] runtime is {!r}, and this process was started on {}: start it with `cloudtap up` "
    "or with the `ryu-manager` of cloudtap, which follow the configuration"
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Signals:
    """What wakes whom: changes of the world, changes of databases, and when writing may begin."""

    changes: ChangeSignal = field(default_factory=ChangeSignal)
    databases: ChangeSignal = field(default_factory=ChangeSignal)
    ready: threading.Event = field(default_factory=threading.Event)


class Reports:
    """What is declared and reported: the inventory, ports, links, databases, tunnel ports."""

    def __init__(
        self, config: Config, store: Store, signals: Signals, writers: Writers,
        counters: SessionCountersByBridge,
    ) -> None:  # fmt: skip
        self.placements = Placements(config.ovsdb.remotes_now)
        self.placements.remember(store.placements.bridges(), store.placements.places())
        self.inventory_file, self.neutron = make_sources(config, self.placements)
        self.inventory = InventorySources(self.inventory_file, self.neutron)
        self.offloads = self._offload_watch(config, signals)
        self.pairs = self._pair_watch(config, signals)
        self.sensors = SensorHealth(
            self.inventory_in_force, self.placements.snapshot, signals.changes,
            config.bridges.sensor_networks, self.offloads, self.pairs,
        )  # fmt: skip
        self.tracker = PlacementTracker(
            placements=self.placements, changes=signals.changes, store=store.placements,
            links=self.sensors, counters=counters,
        )  # fmt: skip
        believed = self.tracker.believed
        self.ovsdb = OvsdbWatcher(
            config.ovsdb.remotes, self.tracker, signals.databases, tls_files(config), believed,
            self.placements.knows,
        )  # fmt: skip
        self.databases = ExpectedDatabases(self.ovsdb, config.ovsdb.remotes_now, believed)
        self.tunnels = TunnelPorts(self.ovsdb, self.placements.snapshot, believed)
        self.routes = RouteTable(believed, signals.changes.changed)
        self.telling = Untold(writers, store.installed_sessions, signals.ready)
        self.snapshots = SnapshotBuilder(
            store,
            self.inventory_in_force,
            self.placements.snapshot,
            changes=signals.changes,
            tunnels=self.tunnels,
            sensors=self.sensors,
            routes=self.routes,
            telling=self.telling,
            underlay_mtu=config.bridges.underlay_mtu,
            bridge_rate=config.bridges.bridge_rate,
            link_mtu=config.bridges.link_mtu,
        )

    def _offload_watch(self, config: Config, signals: Signals) -> OffloadWatch:
        """Who looks at the devices of tap ports."""
        return OffloadWatch(
            inventory=self.inventory_in_force,
            placements=self.placements.snapshot,
            databases=lambda: self.placements.believed,
            changed=signals.changes.changed,
            devices=HostDevices(run_blocking),
            taps=TapOffloads(config.bridges.tap_offloads),
        )

    def _pair_watch(self, config: Config, signals: Signals) -> PairWatch:
        """Who looks at the segmenting pairs of bridges."""
        return PairWatch(
            databases=lambda: self.placements.believed,
            changed=signals.changes.changed,
            host=HostPairs(run_blocking),
            taps=TapOffloads(config.bridges.tap_offloads),
        )

    def inventory_in_force(self) -> Inventory:
        """The inventory now."""
        return self.inventory.inventory


class Bridges:
    """The switches that are connected, their writers, and what they count."""

    def __init__(
        self,
        config: Config,
        store: Store,
        signals: Signals,
        reports: Reports,
        writers: Writers,
        counters: SessionCountersByBridge,
        transport: Transport,
    ) -> None:
        adoption = Adoption(
            ownership=config.bridges, fail_modes=reports.ovsdb, ports=reports.tracker
        )
        self.revalidation = Revalidation(reports.ovsdb, reports.tracker.believed)
        self.writers = writers
        self.lifecycle = WriterLifecycle(
            writers=self.writers,
            changes=signals.changes,
            snapshots=reports.snapshots,
            adopt=adoption.adopt,
            ready=signals.ready,
            counters=counters,
            installed_sessions=store.installed_sessions,
            needs_epoch=self.revalidation.needs_epoch,
            settle=self.revalidation.wait_settled,
        )
        self.connections = Connections(self.lifecycle, transport, reports.tracker, reports.tracker)
        self.counters = CounterPoller(counters, self.writers.writing, untold=reports.telling.untold)


class Doubts:
    """What is not certain, because several connections or databases claim it."""

    def __init__(self, reports: Reports, bridges: Bridges, hearing: Hearing) -> None:
        self._tracker, self._connections = reports.tracker, bridges.connections
        self._hearing = hearing

    def of_bridge(self, dpid: Dpid) -> tuple[str, ...]:
        """Who else claims to be a bridge, or to speak for it; a sentence each."""
        return (
            *self._connections.claims_of(dpid),
            *self._tracker.doubts_of(dpid),
            *self._hearing.silence_of(dpid),
        )

    def of_ports(self) -> Mapping[PortId, str]:
        """Why it is not certain where ports are, a sentence for each of them."""
        return {**self._hearing.silences(), **self._tracker.doubts()}


class Control:
    """What waits for the writers, finishes what they have confirmed, and repeats its work."""

    def __init__(
        self, config: Config, store: Store, signals: Signals, reports: Reports, bridges: Bridges
    ) -> None:
        changes, ready, snapshots = signals.changes, signals.ready, reports.snapshots
        writers, counters = bridges.writers, bridges.counters
        finalizer = Finalizer(
            changes=changes, snapshots=snapshots, writers=writers,
            installed_sessions=store.installed_sessions, deletions=store.sessions,
            bridges=reports.tracker, counters=counters,
        )  # fmt: skip
        self.tunnel_demand = TunnelDemandLoop(
            changes=changes, databases=signals.databases, snapshots=snapshots, writers=writers,
            tunnels=reports.tunnels, ready=ready,
        )  # fmt: skip
        self.mirror_demand = MirrorDemandLoop(
            changes=changes, databases=signals.databases, snapshots=snapshots, writers=writers,
            mirrors=reports.ovsdb, ready=ready,
        )  # fmt: skip
        self.reconciler = Reconciler(
            changes=changes, snapshots=snapshots, ready=ready, writers=writers,
            finalizer=finalizer, tunnels=self.tunnel_demand, mirrors=self.mirror_demand,
            revalidation=bridges.revalidation,
        )  # fmt: skip
        self.upkeep = Upkeep(
            ready=ready,
            writers=writers,
            reconciler=self.reconciler,
            finalizer=finalizer,
            retries=(reports.tracker.retry, store.retry),
            recheck_s=config.bridges.recheck_seconds,
        )
        self.limits = LimitChecker(snapshots.snapshot, store.limits, counters, changes, utc_now)
        self.limits.restore(store.numbered().session)


class Services:
    """Everything that runs beside the OpenFlow server; ``start`` and ``stop`` it once.

    ``transport`` is what the connections to switches can do.

    Raises:
        ConfigError: the token file cannot be used.
        StoreError, AlreadyRunning: the state directory cannot be used.
    """

    def __init__(self, config: Config, transport: Transport) -> None:
        self._config, self._token = config, token_file(config)
        self.store, signals, writers = Store(config.state.directory), Signals(), Writers()
        counters = SessionCountersByBridge()
        self.reports = Reports(config, self.store, signals, writers, counters)
        give_tenants(self.store, self.reports.inventory_file)
        self.bridges = Bridges(
            config, self.store, signals, self.reports, writers, counters, transport
        )
        self.control = Control(config, self.store, signals, self.reports, self.bridges)
        often_s = min(TICK_S, config.bridges.recheck_seconds)
        self.reload = InventoryReload(
            self.reports.inventory, self.reports.tracker, signals.ready, often_s
        )
        readiness = Readiness(
            self.reload, self.reports.databases, signals.ready, config.ovsdb.connect_timeout
        )
        self._hearing = Hearing(
            self.reports.snapshots.snapshot, self.bridges.writers.find, self.reports.tracker
        )
        self._certificates = CertificateWatch(
            own_certificates(config), self.bridges.connections.ending_certificates
        )
        self._file_loops = self._read_files(often_s)
        self._service_manager = ServiceManager()
        self._loops = (
            *self._file_loops,
            Loop("start report", self._start_report(signals.ready), TICK_S),
            Loop("readiness", readiness, START_S),
            Loop("upkeep", self.control.upkeep, often_s),
            Loop("limits", self.control.limits.check, CHECK_S),
            Loop("counters", self.bridges.counters.count_everything, COUNT_S),
            Loop("hearing", self._hearing, CHECK_S),
            Loop("told", self._follow_told, CHECK_S),
            Loop("service manager", self._service_manager.tell_alive),
            Loop("log", LostLines(log_problem, lost_log_lines)),
        )
        self._app = self._make_app(signals)
        self._api: HttpServer | None = None

    def _read_files(self, often_s: float) -> tuple[Loop, ...]:
        """What looks at files that may be replaced."""
        return (
            Loop("inventory", self.reload, often_s),
            Loop("token", self._follow_token, LOOK_AT_FILES_S),
            Loop("certificates", self._certificates, LOOK_AT_FILES_S),
        )

    def _make_app(self, signals: Signals) -> Flask:
        """What answers the requests to the API."""
        return make_app(
            self.store,
            self.reports.inventory_in_force,
            self.control.reconciler,
            make_inspector(
                self.store,
                signals,
                self.reports,
                self.bridges,
                self._hearing,
                self._problems_of_api,
            ),
            lambda: self._token.value,
            underlay_mtu=self._config.bridges.underlay_mtu,
            sensor_networks=self._config.bridges.sensor_networks,
            inventory_control=self.reload,
        )

    def _start_report(self, ready: threading.Event) -> StartReport:
        """What says in the log how the start has ended."""
        return StartReport(self._bridges_with_ports, self.bridges.writers, ready)

    def _follow_told(self) -> float:
        """See SnapshotBuilder; returns when it is due again."""
        self.reports.snapshots.follow_told()
        return CHECK_S

    def _follow_token(self) -> float:
        """Use the token of the file as it is now; returns when it is due again."""
        if self._token.look_again() and self._api is not None:
            token = self._token.value
            self._api.use_token(None if token is None else token_digest(token))
        return LOOK_AT_FILES_S

    def _bridges_with_ports(self) -> dict[Dpid, str]:
        """The bridges on which ports of the inventory are, with their names."""
        dpids = self.reports.snapshots.snapshot().resolved.world.dpids
        return {dpid: self.reports.tracker.bridge_name(dpid) for dpid in dpids}

    def start(self) -> None:
        """Read the inventory, begin to watch, and serve the API.

        Raises:
            ApiAddressInUse: another program listens where the API should.
            BadApiCertificate: certificate or private key of the API cannot be used.
        """
        where = split_listen(self._config.api.listen)
        self._api = HttpServer(self._app, *where, front_settings(self._config, self._token.value))
        self._api.start()
        self.reload()
        if self.reports.neutron is not None:
            self.reports.neutron.start()
        self.reports.ovsdb.start()
        self.reports.offloads.start()
        self.reports.pairs.start()
        self.control.tunnel_demand.start()
        self.control.mirror_demand.start()
        for loop in self._loops:
            loop.start()
        LOOP_MONITOR.start()
        if self._config.api.is_exposed:
            log.warning("API without HTTPS", listen=self._config.api.listen, risk=EXPOSED)
        log.info("controller started", api=self._config.api.listen)
        self._service_manager.tell_started()

    def read_files_again(self) -> None:
        """Look now at every file that may be replaced; an inventory is taken for a whole file."""
        self.reload.trust_file()
        for loop in self._file_loops:
            loop.wake()

    def _problems_of_api(self) -> tuple[str, ...]:
        exposed = (EXPOSED,) if self._config.api.is_exposed else ()
        token = () if self._token.problem is None else (self._token.problem,)
        api = () if self._api is None else self._api.problems()
        return (*exposed, *token, *api, *self._certificates.problems())

    def stop(self) -> None:
        """Stop to serve, to watch and to write; the switches keep their flows.

        A part that cannot be stopped is logged, and the others are stopped all the same.
        """
        self._service_manager.tell_stopping()
        for loop in self._loops:
            loop.stop()
        steps: tuple[tuple[str, Callable[[], object]], ...] = (
            ("waits for datapaths", self.bridges.revalidation.stop),
            ("counts of copies", self.control.limits.keep),
            ("loop monitor", LOOP_MONITOR.stop),
            ("API", self._api.stop if self._api is not None else _nothing),
            ("placements", self.reports.tracker.stop),
            ("writers", self.bridges.lifecycle.stop),
            ("tunnels", self.control.tunnel_demand.stop),
            ("Mirrors", self.control.mirror_demand.stop),
            ("sensors", self.reports.sensors.stop),
            ("routes", self.reports.routes.stop),
            ("offloads", self.reports.offloads.stop),
            ("segmenting pairs", self.reports.pairs.stop),
            ("Neutron", self.reports.neutron.stop if self.reports.neutron else _nothing),
            ("databases", self.reports.ovsdb.stop),
            ("store", self.store.close),
        )
        for part, stop in steps:
            stop_part(part, stop)
        log.info("controller stopped")


def stop_part(part: str, stop: Callable[[], object]) -> None:
    """Stop one part of the controller; what goes wrong is logged."""
    try:
        stop()
    except CloudtapError as problem:
        log.warning("not stopped in order", part=part, reason=str(problem))
    except Exception as problem:  # the edge of the process: the other parts must end, too
        log.error("not stopped in order", part=part, exc_info=problem)


def _nothing() -> None:
    pass


def front_settings(config: Config, token: str | None) -> FrontSettings:
    """What the HTTP front must know."""
    api = config.api
    tls = None
    if api.certificate is not None and api.private_key is not None:
        tls = HttpsFiles(str(api.certificate.absolute()), str(api.private_key.absolute()))
    return FrontSettings(
        bodies=(
            BodyLimit("/v1/filters", MAX_RULES_BODY),
            BodyLimit("/v1/inventory", MAX_RULES_BODY),
            BodyLimit("/", MAX_BODY),
        ),
        names=api.host_names(),
        token_digest=None if token is None else token_digest(token),
        tls=tls,
        request_seconds=api.request_seconds,
        connections=api.connections,
        connections_per_client=api.connections_per_client,
    )


def own_certificates(config: Config) -> list[OwnCertificates]:
    """The certificate files of each section that has some."""
    openflow, ovsdb, api = config.openflow, config.ovsdb, config.api
    found = []
    if openflow.certificate is not None and openflow.private_key is not None:
        found.append(
            OwnCertificates(
                "openflow", openflow.certificate, openflow.private_key, openflow.ca,
                ours="switches refuse it when they connect, and those that are connected stay so",
                theirs="no switch is accepted that connects, and those that are connected stay so",
            )
        )  # fmt: skip
    if ovsdb.certificate is not None and ovsdb.private_key is not None:
        found.append(
            OwnCertificates(
                "ovsdb", ovsdb.certificate, ovsdb.private_key, ovsdb.ca,
                ours="databases refuse it when they are connected to",
                theirs="no database is trusted that is connected to",
            )
        )  # fmt: skip
    if api.certificate is not None and api.private_key is not None:
        found.append(
            OwnCertificates("api", api.certificate, api.private_key, None, ours="clients refuse it")
        )
    return found


def token_file(config: Config) -> RenewedFiles[str | None]:
    """The token of the API, whose file may be replaced at any time.

    Raises:
        ConfigError: the file cannot be used.
    """
    path = config.api.token_file
    token = RenewedFiles(
        [] if path is None else [path], config.api.read_token, "the old token is still used"
    )
    _ = token.value
    return token


def give_tenants(store: Store, file: InventoryFile) -> None:
    """Say whose the numbers of an older version are, by the inventory that it had."""
    kept = file.read_kept() if store.lacks_tenants else None
    if kept is not None:
        inventory, _ = kept
        store.give_tenants(declared_names(inventory.networks, inventory.ports))


def make_inventory_file(config: Config, placements: Placements) -> InventoryFile:
    """The inventory file, compared with what was in force and with the ports that run."""
    return InventoryFile(
        config.inventory.file,
        caution=Caution(
            config.inventory.vanish_limit,
            config.inventory.settle_seconds,
            config.state.directory / INVENTORY_KEPT,
        ),
        running=lambda: placements.snapshot().placements,
    )


def make_sources(
    config: Config, placements: Placements
) -> tuple[InventoryFile, NeutronInventory | None]:
    """Where the inventory comes from."""
    return make_inventory_file(config, placements), make_neutron(config, placements)


def make_neutron(config: Config, placements: Placements) -> NeutronInventory | None:
    """What Neutron knows, with the same caution as the file; None if none is configured."""
    neutron = config.neutron
    if neutron.cloud is None:
        return None
    return NeutronInventory(
        Settings(
            neutron.cloud,
            neutron.region,
            neutron.poll_seconds,
            neutron.timeout_seconds,
            neutron.projects,
        ),
        vanish_limit=config.inventory.vanish_limit,
        kept=config.state.directory / NEUTRON_KEPT,
        running=lambda: placements.snapshot().placements,
    )


def make_inspector(
    store: Store,
    signals: Signals,
    reports: Reports,
    bridges: Bridges,
    hearing: Hearing,
    problems_of_api: Callable[[], tuple[str, ...]],
) -> Inspector:
    """Who answers questions about all these parts."""
    return Inspector(
        changes=signals.changes,
        snapshots=reports.snapshots,
        writers=bridges.writers,
        counters=bridges.counters,
        installed_sessions=store.installed_sessions,
        bridges=reports.tracker,
        tunnels=reports.tunnels,
        mirrors=reports.ovsdb,
        is_ready=signals.ready.is_set,
        doubts=Doubts(reports, bridges, hearing),
        notes=reports.databases,
        certificates=bridges.connections.certificates_of,
        pairs=reports.pairs.lately,
        problems=(
            lambda: reports.inventory.problems,
            bridges.connections.problems,
            reports.databases.unreachable,
            reports.tracker.contradictions,
            lambda: reports.tracker.tapped_callers(bridges.writers.is_connected),
            lambda: (store.problem, store.unrecorded, store.damage, reports.tracker.problem),
            lambda: (log_problem(),),
            lambda: reports.databases.unsafe_settings(bridges.writers.writes_to),
            problems_of_api,
        ),
        queues={
            "reports of ports": lambda: reports.tracker.waiting,
            "messages to switches": lambda: bridges.connections.queued,
        },
    )


def tls_files(config: Config) -> TlsFiles | None:
    """The certificates for databases; None without."""
    tls = config.ovsdb
    return TlsFiles(str(tls.private_key), str(tls.certificate), str(tls.ca)) if tls.is_tls else None


def utc_now() -> datetime:
    """The time now, with its zone."""
    return datetime.now(UTC)


def start_services(configure: Callable[..., None], transport: Transport, backend: str) -> Services:
    """Read the configuration, tell the OpenFlow server its settings, and start the services.

    ``backend`` is the runtime of this process.

    Raises:
        CloudtapError: with the sentence to show; then nothing is running.
    """
    config = load()
    if config.openflow.runtime not in (None, backend):
        raise ConfigError([WRONG_RUNTIME.format(config.openflow.runtime, backend)])
    configure_logs(config.log.level, config.log.format)
    expect_many_objects()
    host, port = split_listen(config.openflow.listen)
    tls = config.openflow
    configure(
        listen_host=host,
        listen_port=port,
        certificate=str(tls.certificate) if tls.certificate else None,
        private_key=str(tls.private_key) if tls.private_key else None,
        ca=str(tls.ca) if tls.ca else None,
        echo_interval=tls.echo_seconds,
    )
    services = Services(config, transport)
    try:
        services.start()
    except CloudtapError:
        services.store.close()
        raise
    return services
