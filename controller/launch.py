"""Composition root: from the configuration to running services."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any

import structlog

from controller.api import make_app
from controller.config.settings import Config, load, split_listen
from controller.reconcile.snapshot import DesiredWorld, Probes, Reach
from controller.topology.sensor_health import SensorHealth
from controller.inventory.file import InventoryFile
from controller.reconcile.limits import CHECK_S, LimitChecker
from controller.process.logs import configure_logs
from controller.process.metrics import PULSE
from controller.process.garbage import expect_many_objects
from controller.topology.tracker import Movements
from controller.topology.placements import Places
from controller.reconcile.reconciler import Reconciler
from controller.runtime.http_server import serve_wsgi
from controller.southbound.errors import Displaced, NotOurs, SwitchUnfit
from controller.southbound.openflow.openflow_switch import OpenFlowSwitch
from controller.southbound.ovsdb.watcher import OvsdbWatcher, RemoteState, RemoteStatus, use_certificates
from controller.southbound.revalidation import wait_revalidated
from controller.southbound.switch import Switch
from controller.southbound.wire.message import LOCAL_PORT, PortChange
from controller.store import Store
from controller.southbound.connections import Carrier, Switches
from controller.topology.tunnels import TunnelKeeper
from controller.reconcile.bridge.confirmed import Depth
from flows.errors import CloudtapError
from flows.model.session import Dpid

TICK_S = 1.0
"""How often the inventory file is looked at, in seconds."""
ACTIONS_EVERY = 10
"""The flows of every bridge are read again and again; each tenth time their actions, too."""
SETTLE_S = 5.0
"""How long a data path of this machine may take for that, in seconds."""
REFUSED_SHOWN_S = 20.0
"""How long a switch without OpenFlow 1.3 is shown; it is refused again at least each 8 s."""
REMOTE_SETTLE_S = 1.0
"""How long the data path of another machine may take to let go of removed flows, in seconds; its
revalidators go round every 500 ms (max-revalidator of Open vSwitch)."""

log = structlog.get_logger(__name__)


class Services:
    """Everything that runs beside the OpenFlow server; ``start`` and ``stop`` it once.

    ``carrier`` is what the connections to switches can do.

    Raises:
        StoreError, AlreadyRunning: the state directory cannot be used.
    """

    def __init__(self, config: Config, carrier: Carrier) -> None:
        self._config = config
        self.store = Store(config.state.directory)
        self.inventory = InventoryFile(config.inventory.file)
        self.places = Places()
        self.places.remember(self.store.bridges())
        world = DesiredWorld(
            self.store, lambda: self.inventory.inventory, self.places.snapshot,
            config.bridges.underlay_mtu, config.bridges.bridge_rate, reach=self._reach,
            link_mtu=config.bridges.link_mtu,
        )  # fmt: skip
        self.world = world
        self.reconciler = Reconciler(
            world, self.store, self.store.holdings, self.places, self._greet, self._settle,
            self._problems, self._queues,
        )  # fmt: skip
        self.movements = Movements(self.places, self.reconciler.changed, self.store)
        self.reconciler.memory = self.movements
        self.switches = Switches(self.reconciler, carrier, self._port_changed)
        self.ovsdb = OvsdbWatcher(config.ovsdb.remotes, self._interfaces_changed)
        self._expected: set[str] = set()
        self.tunnels = TunnelKeeper(
            self.ovsdb, self.places.snapshot, self.reconciler.tunnel_wishes, self.reconciler.changed
        )
        self.reconciler.tunnels = self.tunnels
        self.health = SensorHealth(
            lambda: self.inventory.inventory, self.places.snapshot, self.reconciler.changed
        )
        self._refused: dict[str, tuple[float, str]] = {}
        self._rechecked_at, self._rechecks = time.monotonic(), 0
        self._stopping = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="ticker", daemon=True)
        self.limits = LimitChecker(world.snapshot, self.store.limits, self.reconciler, _utc_now)
        self.limits.restore(self.store.numbered().session)
        self._limiter = threading.Thread(target=self._limit, name="limits", daemon=True)
        self._api: Any = None

    def start(self) -> None:
        """Read the inventory, begin to watch, and serve the API.

        Raises:
            ConfigError: the token file cannot be used.
            ApiAddressInUse: another program listens where the API should.
        """
        app = make_app(
            self.store,
            lambda: self.inventory.inventory,
            self.reconciler,
            self._config.api.read_token(),
            underlay_mtu=self._config.bridges.underlay_mtu,
            sensor_networks=self._config.bridges.sensor_networks,
        )
        self._api = serve_wsgi(app, *split_listen(self._config.api.listen))
        self._reload()
        self.ovsdb.start()
        self.tunnels.start()
        self._ticker.start()
        self._limiter.start()
        PULSE.start()
        log.info("controller started", api=self._config.api.listen)

    def stop(self) -> None:
        """Stop to serve, to watch and to write; the switches keep their flows."""
        self._stopping.set()
        try:
            self.limits.keep()
        except CloudtapError as problem:
            log.warning("copies not written down", reason=str(problem))
        PULSE.stop()
        if self._api is not None:
            self._api.stop()
        self.movements.stop()
        self.reconciler.stop()
        self.tunnels.stop()
        self.health.stop()
        self.ovsdb.stop()
        self.store.close()
        log.info("controller stopped")

    def refused_switch(self, address: str, sentence: str) -> None:
        """A switch could not agree with us on an OpenFlow version."""
        self._refused[address.rpartition(":")[0]] = (time.monotonic(), sentence)

    def _greet(self, switch: Switch) -> None:
        """Look at a bridge that has connected: its name, whether it is ours and fit, its ports."""
        ports = switch.ports()
        if isinstance(switch, OpenFlowSwitch):
            names = [port.name for port in ports if port.ofport == LOCAL_PORT]
            switch.name = names[0] if names else switch.name
        if not self._config.bridges.may_own(switch.name):
            raise NotOurs(switch.name)
        missing = switch.probe()
        if missing:
            raise SwitchUnfit(switch.name, missing)
        self.ovsdb.secure(switch.dpid)
        self.movements.greeted(switch, self.health.ports_reported)

    def _interfaces_changed(self, dpids: frozenset[Dpid]) -> None:
        snapshot = self.ovsdb.snapshot()
        self.movements.interfaces_changed(snapshot)
        self.health.interfaces_changed(snapshot)
        self.tunnels.wake()

    def _port_changed(self, dpid: Dpid, change: PortChange) -> None:
        self.movements.port_changed(dpid, change)
        self.health.port_changed(dpid, change)

    def _reach(self, probes: Probes) -> Reach:
        self.tunnels.refresh()
        return Reach(self.tunnels.tunnels, self.health.down(probes))

    def _reload(self) -> None:
        change = self.inventory.reload_if_changed()
        if change is None:
            return
        for problem in change.problems:
            log.warning("inventory has a problem", problem=problem)
        if change.before != change.after:
            self.places.declare(change.after)
            self.reconciler.changed()
            log.info("inventory loaded", ports=len(change.after.ports))

    def _tick(self) -> None:
        ticks = 0
        often = min(TICK_S, self._config.bridges.recheck_seconds)
        while not self._stopping.wait(often if self.reconciler.ready.is_set() else 0.05):
            ticks += 1
            try:
                self._reload()
                self._get_ready(ticks)
                if self.reconciler.ready.is_set():
                    self._look_after()
            except CloudtapError as problem:
                log.warning("periodic work not done", reason=str(problem))
            except Exception as problem:  # the edge of the loop: it must go on
                log.error("periodic work failed", exc_info=problem)

    def _limit(self) -> None:
        """Stop sessions at their limits: beside the ticker, which may wait for a data path."""
        said = ""
        while not self._stopping.wait(CHECK_S):
            try:
                self.limits.check()
                said = ""
            except CloudtapError as problem:
                if said != str(problem):
                    log.warning("limits not checked", reason=str(problem))
                said = str(problem)
            except Exception as problem:  # the edge of the loop: it must go on
                log.error("check of limits failed", exc_info=problem)

    def _get_ready(self, ticks: int) -> None:
        """Let bridges be written to once all is known that can be known soon.

        Before the inventory was read, an empty world would remove every flow.
        """
        is_synced = all(status.state is RemoteState.SYNCED for status in self._databases())
        waited = ticks * 0.05 >= self._config.ovsdb.connect_timeout
        if self.inventory.is_known and (is_synced or waited):
            self.reconciler.ready.set()

    def _look_after(self) -> None:
        self.movements.retry()
        if self.store.problem:
            self.store.try_again()
        now = time.monotonic()
        if now - self._rechecked_at >= self._config.bridges.recheck_seconds:
            self._rechecked_at, self._rechecks = now, self._rechecks + 1
            is_deep = self._rechecks % ACTIONS_EVERY == 0
            self.reconciler.recheck(Depth.ACTIONS if is_deep else Depth.COOKIES)
        self.reconciler.settle(SETTLE_S)
        self.reconciler.finish_deletions()
        self.reconciler.release_numbers()

    def _settle(self, switches: Collection[Switch], timeout_s: float) -> bool:
        """Wait until data paths follow their tables: ours by asking, others by time."""
        remotes = self._config.ovsdb.remotes_now()
        known = {row.dpid for row in self.ovsdb.snapshot().bridges}
        are_here = all(switch.dpid in known for switch in switches)
        if are_here and all(remote.startswith("unix:") for remote in remotes):
            try:
                if wait_revalidated(timeout_s=timeout_s, nudge=next(iter(switches)).nudge):
                    return True
            except Displaced as problem:  # sets right what another controller has done
                self.reconciler.recheck(Depth.COOKIES, problem.bridge)
            except CloudtapError:
                log.debug("no bridge to ask", bridges=len(switches))
        return not self._stopping.wait(REMOTE_SETTLE_S)

    def _databases(self) -> list[RemoteStatus]:
        """The standing of the databases that should be there: the default one if it ever was."""
        self._expected.update(self._config.ovsdb.remotes_now())
        return [s for remote, s in self.ovsdb.statuses().items() if remote in self._expected]

    def _queues(self) -> dict[str, int]:
        """How much waits outside of the reconciler, by what it is."""
        return {
            "reports of ports": self.movements.waiting,
            "messages to switches": self.switches.queued,
        }

    def _problems(self) -> list[str]:
        snapshot = self.ovsdb.snapshot()
        long_ago = time.monotonic() - REFUSED_SHOWN_S
        refused = [sentence for when, sentence in self._refused.values() if when > long_ago]
        found = [*self.inventory.problems, *refused]
        found += [status.reason for status in self._databases() if status.reason]
        found += self.places.snapshot().problems
        found += [each for each in (self.store.problem, self.movements.problem) if each]
        found += [
            f"bridge {row.name!r} is not secure: it forgets its flows when we are away; run "
            f"`ovs-vsctl set-fail-mode {row.name} secure`"
            for row in snapshot.bridges
            if row.fail_mode != "secure" and self.reconciler.writes_to(row.dpid)
        ]
        if snapshot.userspace_tso:
            found.append(
                "userspace-tso-enable is on: copies may be longer than the path allows and have "
                "bad checksums; switch it off in other_config of Open_vSwitch"
            )
        return found


def _utc_now() -> datetime:
    return datetime.now(UTC)


def start_services(configure: Callable[..., None], carrier: Carrier) -> Services:
    """Read the configuration, tell the OpenFlow server its settings, and start the services.

    Raises:
        CloudtapError: with the sentence to show; then nothing is running.
    """
    config = load()
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
    if config.ovsdb.is_tls:
        o = config.ovsdb
        use_certificates(str(o.private_key), str(o.certificate), str(o.ca))
    services = Services(config, carrier)
    try:
        services.start()
    except CloudtapError:
        services.store.close()
        raise
    return services
