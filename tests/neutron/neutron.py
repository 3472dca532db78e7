"""A real Neutron on one host: its API, its RPC server, and the Open vSwitch agent that owns br-int.

What Keystone does is left out: the API trusts the headers in which Keystone's middleware would tell
it who asks (`auth_strategy = keystone` without its filter `authtoken`).
"""

from __future__ import annotations

import hashlib
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from tests.neutron.services import (
    DATABASE,
    Service,
    is_listening,
    missing_programs,
    start_database,
    start_queue,
)
from tests.ovs.controller_process import ROOT
from tests.ovs.lab import ofctl
from tests.ovs.waiting import wait_for

VENV = ROOT / ".neutron-lab" / "venv"
AGENT = VENV / "bin" / "neutron-openvswitch-agent"
API_PORT, AGENT_PORT = 9696, 6633
HOST = "compute"
"""The name under which the agent and the bindings of ports know this host."""
PHYSICAL = "physnet1"
UPLINK = "br-ex"
"""The bridge of the owner with the wire to other hosts: its networks are VLANs there."""
MIGRATE_S = 600.0
PLUGIN = "neutron_taas.services.taas.service_drivers.taas_rpc.TaasRpcDriver"
RPC_LOOP, CLEANED = "Agent rpc_loop - iteration:", " - cleanup stale flows"
SECOND_LOOP = f"{RPC_LOOP}1 started"

Document = dict[str, Any]


def why_not_here() -> str | None:
    """Why Neutron cannot run here, or None."""
    missing = missing_programs(AGENT)
    if not missing:
        return None
    return f"not installed: {', '.join(missing)}. Run `tools/neutron-lab` (MariaDB, RabbitMQ)"


class NeutronApi:
    """The API, as one user of one project sees it."""

    def __init__(self, project: str, *roles: str) -> None:
        self.project = hashlib.md5(project.encode(), usedforsecurity=False).hexdigest()
        headers = {
            "X-Identity-Status": "Confirmed",
            "X-User-Id": hashlib.md5(b"u" + project.encode(), usedforsecurity=False).hexdigest(),
            "X-User-Name": project,
            "X-Project-Id": self.project,
            "X-Project-Name": project,
            "X-Roles": ",".join(roles or ("member", "reader")),
            "Connection": "close",
        }
        base = f"http://127.0.0.1:{API_PORT}/v2.0"
        # uwsgi keeps no connection open
        once = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.Client(base_url=base, headers=headers, timeout=120, limits=once)

    def create(self, kind: str, path: str | None = None, **fields: object) -> Document:
        """Make one object, such as a ``port``."""
        return self._ask("POST", f"/{path or f'{kind}s'}", {kind: fields})[kind]

    def change(self, kind: str, key: str, **fields: object) -> Document:
        """Change one object."""
        return self._ask("PUT", f"/{kind}s/{key}", {kind: fields})[kind]

    def get(self, path: str) -> Document:
        """What is there."""
        return self._ask("GET", path, None)

    def delete(self, path: str) -> None:
        """Remove one object."""
        self._ask("DELETE", path, None)

    def _ask(self, method: str, path: str, body: Document | None) -> Document:
        answer = self._http.request(method, path, json=body)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return dict(answer.json()) if answer.content else {}


class Neutron:
    """All processes of it, from an empty database; ``with`` ends them.

    ``firewall`` is the firewall driver of the agent. With ``taas`` tap-as-a-service is a service
    plugin and an extension of the agent, as its own documentation has it.
    """

    def __init__(self, folder: Path, firewall: str = "openvswitch", taas: bool = False) -> None:
        self.folder, self.firewall, self.taas = folder, firewall, taas
        self.agent = Service(folder, "agent")
        self.drop_flows_on_start = False
        self._services: list[Service] = []

    def __enter__(self) -> Neutron:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        what: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.agent.stop(signal.SIGKILL)
        for service in reversed(self._services):
            service.stop()

    def start(self) -> None:
        """Start all but the agent; returns when the API answers."""
        self._write_configuration()
        self._services.append(start_database(self.folder))
        self._services.append(start_queue(self.folder))
        self._migrate()
        bin_folder = VENV / "bin"
        rpc, api = Service(self.folder, "rpc"), Service(self.folder, "api")
        rpc.start([str(bin_folder / "neutron-rpc-server"), *self._files("ml2_conf.ini")])
        api.start(
            [
                *(str(bin_folder / "uwsgi"), "--http-socket", f"127.0.0.1:{API_PORT}"),
                *("--module", "neutron.wsgi.api:application", "--virtualenv", str(VENV)),
                *("--processes", "1", "--threads", "4", "--enable-threads", "--lazy-apps"),
                *("--master", "--die-on-term", "--buffer-size", "65535"),
            ],
            OS_NEUTRON_CONFIG_DIR=str(self.folder),
            OS_NEUTRON_CONFIG_FILES="neutron.conf;ml2_conf.ini",
        )
        self._services += [rpc, api]
        api.wait_until(self._is_answering)

    def start_agent(self) -> None:
        """Start the agent; returns when it has gone once through all ports."""
        self._write_agent_configuration()
        before = self.agent.log_text().count(RPC_LOOP)
        path = f"{self.folder / 'bin'}:{VENV / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"
        self.agent.start([str(AGENT), *self._files("ml2_conf.ini", "ovs_agent.ini")], PATH=path)
        self.agent.wait_until(lambda: self.agent.log_text().count(RPC_LOOP) > before)

    def wait_for_agent(self, admin: NeutronApi) -> None:
        """Block until the agent has reported: a port is bound only to a host with an agent."""
        wait_for(lambda: [one["alive"] for one in admin.get("/agents")["agents"]], [True].__eq__)

    def wait_until_active(self, admin: NeutronApi, ports: list[str]) -> None:
        """Block until the agent has wired these ports."""

        def look() -> set[str]:
            return {admin.get(f"/ports/{port}")["port"]["status"] for port in ports}

        wait_for(look, {"ACTIVE"}.__eq__, 180)

    def cleanings(self) -> int:
        """How often the agent has deleted flows that it does not know: it does so once after each
        start, when it has wired its first ports, and so deletes those of a test as well. It waits
        with that for a change of any port after its first loop.

        With ``drop_flows_on_start`` that is the second time that it deletes them.
        """
        return self.agent.log_text().count(CLEANED)

    def wait_until_cleaned(self, before: int = 0) -> None:
        """Block until the agent has done that more often than ``before``."""
        self.agent.wait_until(lambda: self.cleanings() > before)

    def _is_answering(self) -> bool:
        if not is_listening(API_PORT):
            return False
        with suppress(httpx.HTTPError):
            return httpx.get(f"http://127.0.0.1:{API_PORT}/", timeout=60).is_success
        return False

    def _migrate(self) -> None:
        command = [str(VENV / "bin" / "neutron-db-manage"), *self._files("ml2_conf.ini")]
        done = subprocess.run(
            [*command, "upgrade", "heads"], capture_output=True, text=True, timeout=MIGRATE_S
        )
        assert done.returncode == 0, done.stderr[-4000:]

    def _files(self, *names: str) -> list[str]:
        return [f"--config-file={self.folder / name}" for name in ("neutron.conf", *names)]

    def _write_configuration(self) -> None:
        paste = (VENV / "etc" / "neutron" / "api-paste.ini").read_text()
        assert " authtoken keystonecontext " in paste
        text = paste.replace(" authtoken keystonecontext ", " keystonecontext ")
        (self.folder / "api-paste.ini").write_text(text)
        state = self.folder / "state"
        state.mkdir()
        general: dict[str, object] = {
            "core_plugin": "ml2",
            "service_plugins": "taas" if self.taas else "",
            "auth_strategy": "keystone",
            "transport_url": "rabbit://guest:guest@127.0.0.1:5672//",
            "api_paste_config": self.folder / "api-paste.ini",
            "state_path": state,
            "host": HOST,
            "notify_nova_on_port_status_changes": False,
            "notify_nova_on_port_data_changes": False,
            "rpc_workers": 1,
            "rpc_state_report_workers": 0,
            "dhcp_agent_notification": False,
        }
        sections: dict[str, Mapping[str, object]] = {
            "DEFAULT": general,
            "database": {"connection": DATABASE},
            "oslo_concurrency": {"lock_path": state},
            "agent": {"root_helper": "", "use_helper_for_ns_read": False, "report_interval": 10},
        }
        if self.taas:
            sections["service_providers"] = {"service_provider": f"TAAS:TAAS:{PLUGIN}:default"}
            sections["quotas"] = {"quota_tap_service": 5}
        self._write("neutron.conf", sections)
        self._write("ml2_conf.ini", ML2)
        self._write_sudo()

    def _write_agent_configuration(self) -> None:
        agent: dict[str, object] = {"drop_flows_on_start": self.drop_flows_on_start}
        if self.taas:
            agent["extensions"] = "taas"
        ovs = {
            "bridge_mappings": f"{PHYSICAL}:{UPLINK}",
            "datapath_type": "netdev",
            "ovsdb_connection": "unix:/run/openvswitch/db.sock",
        }
        firewall = {"firewall_driver": self.firewall, "enable_security_group": True}
        self._write("ovs_agent.ini", {"ovs": ovs, "agent": agent, "securitygroup": firewall})

    def _write_sudo(self) -> None:
        """Have the agent's helpers run as root by a `sudo` that only runs them: it is root."""
        program = self.folder / "bin" / "sudo"
        program.parent.mkdir()
        program.write_text('#!/bin/sh\n[ "$1" = -n ] && shift\nexec "$@"\n')
        program.chmod(0o755)

    def _write(self, name: str, sections: Mapping[str, Mapping[str, object]]) -> None:
        lines = []
        for section, values in sections.items():
            lines += [f"[{section}]", *(f"{key} = {value}" for key, value in values.items())]
        (self.folder / name).write_text("\n".join(lines) + "\n")


ML2: dict[str, Mapping[str, object]] = {
    "ml2": {
        "type_drivers": "vlan",
        "tenant_network_types": "vlan",
        "mechanism_drivers": "openvswitch",
        "extension_drivers": "port_security",
    },
    "ml2_type_vlan": {"network_vlan_ranges": f"{PHYSICAL}:101:199"},
    "securitygroup": {"enable_security_group": True},
}


def agents_flows(bridge: str, without: int) -> list[str]:
    """The flows of a bridge without counters, sorted, but those with one cookie."""
    shown = ofctl("--no-stats", "dump-flows", bridge).splitlines()
    return sorted(line for line in shown if f"cookie={without:#x}," not in line)
