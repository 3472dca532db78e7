"""MariaDB and RabbitMQ for one Neutron, in the namespaces of tools/isolate.

Both are those of Debian, with all their files in one folder. They listen on the loopback of the
private network only.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from tests.ovs.waiting import wait_for

START_S = 180.0
"""A bound for the start of a service on a busy machine."""
STOP_S = 10.0
LOG_SHOWN = 4000
"""Characters of a log that an error shows, from its end."""
SQL_PORT, AMQP_PORT = 3306, 5672
DATABASE = "mysql+pymysql://neutron:neutron@127.0.0.1/neutron"
GRANTS = """
create database neutron character set utf8mb3;
create user neutron@localhost identified by 'neutron';
create user neutron@'127.0.0.1' identified by 'neutron';
grant all on neutron.* to neutron@localhost;
grant all on neutron.* to neutron@'127.0.0.1';
"""


class Service:
    """One process in a session of its own, with its log in a file."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.log = name, folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, command: list[str], **environment: str) -> None:
        """Start it, without waiting."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_until(self, is_ready: Callable[[], bool]) -> None:
        """Block until it is ready.

        Raises:
            AssertionError: it has ended, or takes too long; with the end of its log.
        """

        def look() -> bool:
            assert self._process is not None and self._process.poll() is None, (
                f"{self.name} has ended: {self.log_text()[-LOG_SHOWN:]}"
            )
            return is_ready()

        wait_for(look, bool, START_S)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it and what it has started; the agent of Neutron may need SIGKILL."""
        process, self._process = self._process, None
        if process is None:
            return
        for each in (number, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, each)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)

    def log_text(self) -> str:
        """What it has logged."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def is_listening(port: int) -> bool:
    """Whether somebody listens on a port of the loopback."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def start_database(folder: Path) -> Service:
    """An empty database ``neutron``; returns when it can be used."""
    data, near = folder / "mariadb", folder / "mariadb.sock"
    _run(
        ["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}"],
        *("--auth-root-authentication-method=normal", "--skip-test-db"),
    )
    service = Service(folder, "mariadb")
    service.start(
        [
            *("mariadbd", "--no-defaults", "--user=root", f"--datadir={data}"),
            *(f"--socket={near}", "--bind-address=127.0.0.1", f"--port={SQL_PORT}"),
            *("--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0"),
        ]
    )
    service.wait_until(lambda: is_listening(SQL_PORT))
    _run(["mariadb", "--no-defaults", f"--socket={near}", "-e", GRANTS])
    return service


def start_queue(folder: Path) -> Service:
    """RabbitMQ with its default user; returns when it can be used."""
    [command] = Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server")
    home, plugins = folder / "rabbitmq", folder / "rabbitmq-plugins"
    home.mkdir()
    plugins.write_text("[].\n")
    (folder / "rabbitmq.conf").write_text("")
    names: Mapping[str, str | Path] = {
        "HOME": home,
        "RABBITMQ_NODENAME": "rabbit@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_MNESIA_BASE": home / "mnesia",
        "RABBITMQ_LOG_BASE": home,
        "RABBITMQ_CONFIG_FILE": folder / "rabbitmq",
        "RABBITMQ_ENABLED_PLUGINS_FILE": plugins,
        "RABBITMQ_PID_FILE": home / "pid",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1",
    }
    service = Service(folder, "rabbitmq")
    service.start([str(command)], **{name: str(value) for name, value in names.items()})
    service.wait_until(lambda: is_listening(AMQP_PORT))
    return service


def missing_programs(*more: Path) -> list[str]:
    """Which of the programs are not installed: tools/neutron-lab installs them."""
    names = ("mariadbd", "mariadb-install-db", "rabbitmq-server")
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [name for name in names if shutil.which(name, path=path) is None]
    return missing + [str(program) for program in more if not os.access(program, os.X_OK)]


def _run(command: list[str], *more: str) -> None:
    done = subprocess.run([*command, *more], capture_output=True, text=True, timeout=START_S)
    assert done.returncode == 0, f"{command[0]}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
