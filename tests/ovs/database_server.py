"""An ovsdb-server of its own, without ovs-vswitchd: it can be killed, and can be large."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from controller.databases.framing import JsonSplitter
from tests.ovs.waiting import wait_for

PORTS_AT_ONCE = 1000
"""Ports that are added in one transaction."""


class DatabaseServer:
    """An ovsdb-server of its own, which can be killed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.remote = folder, f"unix:{folder}/db.sock"
        schema = "/usr/share/openvswitch/vswitch.ovsschema"
        subprocess.run(["ovsdb-tool", "create", f"{folder}/db", schema], check=True)

    def start(self, *options: str) -> None:
        """Start it, with more options of ovsdb-server."""
        command = ["ovsdb-server", f"{self.folder}/db", f"--remote=p{self.remote}", "--no-chdir"]
        command += [f"--unixctl={self.folder}/ctl", "-vconsole:off"]
        self.process = subprocess.Popen([*command, *options])
        wait_for(self._is_listening, bool)

    def _is_listening(self) -> bool:
        """Whether it takes connections: it makes the socket a moment before it listens there."""
        with socket.socket(socket.AF_UNIX) as peer:
            return peer.connect_ex(str(self.folder / "db.sock")) == 0

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        (self.folder / "db.sock").unlink(missing_ok=True)

    def add_bridge(self, name: str, dpid: int) -> None:
        command = ["ovs-vsctl", f"--db={self.remote}", "--no-wait", "--", "init", "--"]
        command += ["add-br", name, "--", "set", "Bridge", name, f'datapath_id="{dpid:016x}"']
        subprocess.run(command, check=True)

    def fill(self, name: str, dpid: int, ports: int) -> None:
        """Add a bridge with so many ports, ``vm0`` with OpenFlow port number 1 and so on."""
        self.add_bridge(name, dpid)
        with self.transactions() as transact:
            for first in range(0, ports, PORTS_AT_ONCE):
                numbers = range(first, min(first + PORTS_AT_ONCE, ports))
                refs = [["named-uuid", f"p{number}"] for number in numbers]
                mutation = ["ports", "insert", ["set", refs]]
                where = [["name", "==", name]]
                transact(
                    *(operation for number in numbers for operation in _port(number)),
                    {"op": "mutate", "table": "Bridge", "where": where, "mutations": [mutation]},
                )

    @contextmanager
    def flapping(self, interface: str) -> Iterator[None]:
        """The link of an interface goes up and down as fast as the server can."""
        stopping = threading.Event()

        def flap() -> None:
            where, state = [["name", "==", interface]], "up"
            with self.transactions() as transact:
                while not stopping.is_set():
                    state = "down" if state == "up" else "up"
                    row = {"link_state": state}
                    transact({"op": "update", "table": "Interface", "where": where, "row": row})

        thread = threading.Thread(target=flap, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join()

    @contextmanager
    def transactions(self) -> Iterator[Any]:
        """A function that carries out the operations of one transaction."""
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(self.remote.removeprefix("unix:"))
        peer.settimeout(60)
        splitter = JsonSplitter()

        def transact(*operations: dict[str, Any]) -> None:
            request = {"method": "transact", "params": ["Open_vSwitch", *operations], "id": "t"}
            peer.sendall(json.dumps(request).encode())
            while True:
                for answer in splitter.feed(peer.recv(1 << 16)):
                    if answer.get("method") == "echo":
                        reply = {"result": answer["params"], "error": None, "id": answer["id"]}
                        peer.sendall(json.dumps(reply).encode())
                    elif answer.get("id") == "t":
                        assert not answer["error"], answer
                        assert not [r for r in answer["result"] if r and r.get("error")], answer
                        return

        try:
            yield transact
        finally:
            peer.close()


def _port(number: int) -> Iterator[dict[str, Any]]:
    name = f"vm{number}"
    interface = {
        "name": name,
        "ofport": number + 1,
        "external_ids": ["map", [["iface-id", f"port-{number}"]]],
        "link_state": "up",
    }
    port = {"name": name, "interfaces": ["named-uuid", f"i{number}"]}
    yield {"op": "insert", "table": "Interface", "row": interface, "uuid-name": f"i{number}"}
    yield {"op": "insert", "table": "Port", "row": port, "uuid-name": f"p{number}"}
