"""What the managers of bridges do to ports while virtual machines come and go, and how many copies
are missing then: streams of numbered frames tell which were delivered and not copied."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.ovs.attached_cloud import APP, DB, OWNER, TENANTS, WEB, WORKLOADS, AttachedCloud
from tests.ovs.controller_process import ControllerProcess
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import disable_checksum_offload, vsctl
from tests.ovs.traffic import Stream, Traffic
from tests.ovs.waiting import wait_for

ONE, TWO, OTHER = "red-t1", "red-t2", "blue-t1"
"""The tap ports of sessions on web, on web and db, and on everything of the other tenant."""
AFTER = 20
"""So many frames after the repair must be copied, each once."""
DEVICES = {name: f"{OWNER}-eth{number}" for number, name in WORKLOADS.items()}


@dataclass(frozen=True)
class Gap:
    """Frames that were delivered and not copied after an event."""

    seconds: float
    """From the delivery of the first of them to the first copy of a later frame."""
    frames: int
    repeated: int
    """Frames that were copied more than once."""


@dataclass(frozen=True)
class Outcome:
    """What an event did to copies of what web sends, and of what app sends to db."""

    of_web: Gap
    of_app: Gap


class OwnersLife:
    """An attached bridge with sessions and streams; each method is an event in its life.

    Web sends to db, and app sends to db. Where web alone goes, no copy of app's may be missing,
    though the session that copies both has another Mirror then.
    """

    def __init__(self, cloud: AttachedCloud, controller: ControllerProcess) -> None:
        self.cloud, self.controller = cloud, controller
        controller.create_session("red", ONE, ["web"], "t1")
        controller.create_session("red", TWO, ["web", "db"], "t2")
        controller.create_session("blue", OTHER, ["web", "db", "app"], "t1")
        for name in (ONE, TWO, OTHER):
            controller.wait_for_session(name)
        self._numbers = dict(zip(WORKLOADS.values(), WORKLOADS, strict=True))
        self._next = 100

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send inside the block; all streams are copied when it begins."""
        at, taps = self.cloud.at, self.cloud.tap_at
        ends = [at["red-db"], at["blue-db"], *(taps[tap] for tap in (ONE, TWO, OTHER))]
        with Traffic(ends) as self.traffic:
            self.web = self.traffic.add(at["red-web"], WEB, DB)
            self.app = self.traffic.add(at["red-app"], APP, DB)
            self.blue = self.traffic.add(at["blue-app"], APP, DB)
            self._wait_until_copied(self.web, ONE, 0)
            self._wait_until_copied(self.app, TWO, 0)
            self._wait_until_copied(self.blue, OTHER, 0)
            yield
            self.check_tenants()

    def check_tenants(self) -> None:
        """No frame of a tenant is at a tap port of the other."""
        found = self.traffic.strangers(self.cloud.tap_at[OTHER], [self.blue])
        assert not found, f"{OTHER} got frames of the other tenant: {found[:9]}"
        for tap in (ONE, TWO):
            seen = self.traffic.arrived(self.blue, self.cloud.tap_at[tap])
            assert not seen, f"{tap} got frames of the other tenant: {sorted(seen)[:9]}"

    # --- events -----------------------------------------------------------------------------------

    def restart(self) -> Outcome:
        """The virtual machine stops and starts: its device and port are deleted, and made anew with
        the same name, as libvirt and Proxmox do; Open vSwitch gives another number."""
        return self.measure(lambda: self._come_back(self._go(), lambda: None))

    def migrate(self) -> Outcome:
        """As one host sees it: the virtual machine goes, the status says so, and later it comes."""

        def notice() -> None:
            self.controller.wait_for_session(ONE, "pending")
            self.controller.wait_for_session(TWO, "degraded")

        return self.measure(lambda: self._come_back(self._go(), notice))

    def reload(self) -> Outcome:
        """All ports of workloads of red are deleted and made again at once; devices stay."""
        names = [name for name in DEVICES if name.startswith("red")]
        command: list[str] = []
        for name in names:
            command += ["--", "del-port", OWNER, DEVICES[name]]
        for name in names:
            command += self._add(name)
        return self.measure(lambda: vsctl(*command[1:]) and None)

    def exchange_vlans(self) -> Outcome:
        """The owner gives each tenant's network the VLAN that the other one had, at once."""
        red, blue = (self._vlan(name) for name in ("red-web", "blue-web"))
        command: list[str] = []
        for name, device in DEVICES.items():
            vlan = blue if name.startswith("red") else red
            command += ["--", "set", "Port", device, f"tag={vlan}"]
        return self.measure(lambda: vsctl(*command[1:]) and None)

    def measure(self, event: Callable[[], None]) -> Outcome:
        """Let an event happen, wait until copies are whole again, and see what was missing."""
        before = self.traffic.now(self.app)
        stream = self.web
        begun = self.traffic.now(stream)
        event()
        if self.web is not stream:
            begun = 0
        self._wait_until_copied(self.web, ONE, self.traffic.now(self.web))
        self._wait_until_copied(self.app, TWO, self.traffic.now(self.app))
        self._wait_until_copied(self.blue, OTHER, self.traffic.now(self.blue))
        for name in (ONE, TWO, OTHER):
            self.controller.wait_for_session(name)
        return Outcome(self._gap(self.web, ONE, begun), self._gap(self.app, TWO, before))

    # --- how --------------------------------------------------------------------------------------

    def _go(self) -> Endpoint:
        """Delete the port and the device of web; returns its endpoint."""
        old = self.cloud.at["red-web"]
        self.traffic.end(self.web)
        vsctl("del-port", OWNER, DEVICES["red-web"])
        subprocess.run(["ip", "link", "del", DEVICES["red-web"]], check=True)
        return old

    def _come_back(self, old: Endpoint, meanwhile: Callable[[], None]) -> None:
        """Make the device of web again, and then its port; it sends from the beginning."""
        meanwhile()
        near, far = DEVICES["red-web"], old.far
        for words in (f"add {near} type veth peer name {far}", f"set {near} up", f"set {far} up"):
            subprocess.run(["ip", "link", *words.split()], check=True)
        for end in (near, far):
            disable_checksum_offload(end)
        command = self._add("red-web")
        new = Endpoint(OWNER, self._numbers["red-web"], near, far)
        self.cloud.lab.endpoints[self.cloud.lab.endpoints.index(old)] = new
        self.cloud.at["red-web"] = new
        old.close()
        self.web = self.traffic.add(new, WEB, DB)
        vsctl(*command[1:])

    def _add(self, name: str) -> list[str]:
        """Words for ovs-vsctl that add a port with its VLAN and the next number."""
        self._next += 1
        self._numbers[name] = self._next
        device = DEVICES[name]
        return [
            *("--", "add-port", OWNER, device, f"tag={self._vlan(name)}"),
            *("--", "set", "Interface", device, f"ofport_request={self._next}"),
            f"external_ids:iface-id={name}",
        ]

    def _vlan(self, name: str) -> int:
        """The VLAN that a workload's tenant has now: some port that stays has it."""
        tenant = name.partition("-")[0]
        found = vsctl("--if-exists", "get", "Port", DEVICES[f"{tenant}-app"], "tag").strip()
        return int(found or TENANTS[tenant])

    def _wait_until_copied(self, stream: Stream, tap: str, number: int) -> None:
        """Block until AFTER frames behind some frame that follows were copied, each in turn."""
        end = self.cloud.tap_at[tap]

        def is_whole() -> bool:
            seen = self.traffic.arrived(stream, end)
            last = max(seen, default=0)
            return last - AFTER > number and all(seen[n] for n in range(last - AFTER + 1, last + 1))

        wait_for(is_whole, bool)
        self.traffic.wait_until_spread(stream, end, self.traffic.now(stream))

    def _gap(self, stream: Stream, tap: str, begun: int) -> Gap:
        """What is missing behind a frame, of those that were copied or followed by a copy."""
        db, end = self.cloud.at["red-db"], self.cloud.tap_at[tap]
        delivered, copied = self.traffic.arrived(stream, db), self.traffic.arrived(stream, end)
        last = max(copied)
        missing = [n for n in delivered if begun < n < last and not copied[n]]
        repeated = sum(count > 1 for n, count in copied.items() if n > begun)
        if not missing:
            return Gap(0.0, 0, repeated)
        again = min(n for n in copied if n > max(missing))
        seconds = self.traffic.when(stream, end, again) - self.traffic.when(
            stream, db, min(missing)
        )
        return Gap(seconds, len(missing), repeated)


ONLY_WEB = "a virtual machine stops and starts", "it leaves the host, and comes back later"
EVENTS: dict[str, Callable[[OwnersLife], Outcome]] = {
    ONLY_WEB[0]: OwnersLife.restart,
    ONLY_WEB[1]: OwnersLife.migrate,
    "all ports of a tenant are made anew at once": OwnersLife.reload,
    "two tenants exchange their VLANs": OwnersLife.exchange_vlans,
}
