"""The process that asks Neutron: ``python -m controller.neutron.main``.

It is started and supervised by the controller (controller/inventory/neutron.py) and ends with it.
It asks again and again, and reports only what has changed. openstacksdk runs here because it must
not run among green threads, and because nothing bounds what a server makes it read.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import os
import resource
import select
import signal
import socket
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import keystoneauth1.exceptions
import openstack
import openstack.exceptions
import requests.exceptions
from openstack.connection import Connection

from controller.neutron.program import NEUTRON_PROGRAM, NeutronRecord, Settings
from controller.neutron.reading import BadAnswer, CloudRecords, read_cloud
from controller.process import Message, MessageSocket, PeerGone, connect_to_parent

ASKING_MEMORY_MAX = 2 << 30
"""The most address space of this process, in bytes."""
CHANGES_BYTES = 1 << 20
"""A message has about so many bytes of records at most."""
ASKING_NICE = 5
"""The controller is more important than this process when processors are busy."""

LIBRARIES = ("keystoneauth", "openstack", "urllib3")
"""Names of the logs of libraries."""


class TooSlow(Exception):
    """One look has taken too long."""


class Reporter:
    """Asks, and tells the parent what differs from what it was told before."""

    def __init__(self, parent: MessageSocket, settings: Settings) -> None:
        self._parent, self._settings = parent, settings
        self._told: CloudRecords = {}
        self._connection: Connection | None = None

    def look(self) -> None:
        """Ask once, and report the answer, or why there is none."""
        try:
            found, risks = self.ask()
        except Exception as error:  # the edge: whatever a server or a library does is a sentence
            self._connection = None
            self._parent.send(Message({"failed": reason(error, self._settings)}))
            return
        for batch in batches(changes(self._told, found)):
            self._parent.send(Message({"changed": batch}))
        self._told = found
        self._parent.send(Message({"answered": True, "risks": risks}))

    def ask(self) -> tuple[CloudRecords, list[str]]:
        """Everything there is now, and what makes the answer unsafe.

        Raises:
            Exception: what openstacksdk and its libraries raise.
        """
        with _at_most(self._settings.look_seconds):
            return self._read()

    def _read(self) -> tuple[CloudRecords, list[str]]:
        wanted = self._settings
        if self._connection is None:
            self._connection = openstack.connect(
                cloud=wanted.cloud,
                region_name=wanted.region,
                api_timeout=wanted.timeout_seconds,
                app_name="cloudtap",
            )
        cloud = self._connection
        return read_cloud(cloud.network, cloud.identity, wanted.projects), risks_of(cloud)


def risks_of(cloud: Connection) -> list[str]:
    """What clouds.yaml says that lets others read or forge answers; a clause each."""
    found = []
    if cloud.session.verify is False:
        found.append("certificates are not checked (`verify: false` in clouds.yaml)")
    url = urlsplit(str(cloud.config.auth.get("auth_url", "")))
    if url.scheme == "http" and not _is_local(url.hostname or ""):
        found.append("the password travels unencrypted (`auth_url` is http: in clouds.yaml)")
    return found


def changes(
    before: CloudRecords, after: CloudRecords
) -> Iterator[tuple[str, str, NeutronRecord | None]]:
    """Kind, id and record of each object that differs; None: it is gone."""
    for kind, objects in after.items():
        old = before.get(kind, {})
        yield from ((kind, key, None) for key in old if key not in objects)
        yield from ((kind, key, one) for key, one in objects.items() if old.get(key) != one)


def batches(
    changed: Iterator[tuple[str, str, NeutronRecord | None]],
) -> Iterator[dict[str, dict[str, NeutronRecord | None]]]:
    """Changes in messages of bounded size."""
    batch: dict[str, dict[str, NeutronRecord | None]] = {}
    size = 0
    for kind, key, record in changed:
        batch.setdefault(kind, {})[key] = record
        size += len(key) + len(json.dumps(record))
        if size >= CHANGES_BYTES:
            yield batch
            batch, size = {}, 0
    if batch:
        yield batch


def reason(error: BaseException, settings: Settings) -> str:
    """Why there is no answer, as a clause. Words of a server are not in it: they may be secrets."""
    match error:
        case BadAnswer() | TooSlow():
            return str(error)
        case (
            openstack.exceptions.ConfigException()
            | keystoneauth1.exceptions.MissingRequiredOptions()
        ):
            return "clouds.yaml does not say how to log in: try `openstack --os-cloud " + (
                f"{settings.cloud} token issue`"
            )
        case keystoneauth1.exceptions.Unauthorized():
            return "the login is refused: see user and password in clouds.yaml"
        case keystoneauth1.exceptions.HttpError():
            return f"Keystone answers with status {error.http_status}"
        case openstack.exceptions.HttpException():
            return f"it answers with status {error.status_code}"
        case keystoneauth1.exceptions.EndpointNotFound():
            return "the catalogue has no endpoint for it in this region"
        case keystoneauth1.exceptions.SSLError() | requests.exceptions.SSLError():
            return "its certificate is not trusted: see `cacert` in clouds.yaml"
        case keystoneauth1.exceptions.ConnectTimeout() | requests.exceptions.Timeout():
            return f"nothing came within {settings.timeout_seconds:g} s"
        case keystoneauth1.exceptions.ConnectionError() | requests.exceptions.ConnectionError():
            return "it cannot be reached"
        case MemoryError():
            return "its answers take too much memory"
    return f"asking failed ({type(error).__name__})"


@contextlib.contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Bound the whole of many requests: a server may send a byte now and then for ever."""

    def stop(*_: object) -> None:
        raise TooSlow(f"its answers took more than {seconds:g} s")

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def look_once(settings: Settings) -> dict[str, Any]:
    """How many objects there are, or why that is not known."""
    here, there = socket.socketpair()
    with here, there:
        try:
            found, risks = Reporter(
                MessageSocket(here, NEUTRON_PROGRAM.max_message), settings
            ).ask()
        except Exception as error:  # the edge, as in Reporter.look
            return {"failed": reason(error, settings)}
    return {"counts": {kind: len(objects) for kind, objects in found.items()}, "risks": risks}


def settings_from(head: Mapping[str, Any]) -> Settings:
    """The settings that the parent sends first."""
    return Settings(**{**head, "projects": tuple(head["projects"])})


def serve(connection: socket.socket) -> None:
    """Ask until the parent ends the connection."""
    parent = MessageSocket(connection, NEUTRON_PROGRAM.max_message)
    first = parent.receive()
    if first is None:
        return
    reporter = Reporter(parent, settings_from(first.head))
    pause_s = float(first.head["poll_seconds"])
    while True:
        reporter.look()
        if select.select([connection], [], [], pause_s)[0] and parent.receive() is None:
            return


def main() -> None:
    """Serve until the controller ends."""
    connection = connect_to_parent()
    for name in LIBRARIES:  # what is wrong is reported, once
        logging.getLogger(name).setLevel(logging.CRITICAL)
    os.nice(ASKING_NICE)
    resource.setrlimit(resource.RLIMIT_AS, (ASKING_MEMORY_MAX, ASKING_MEMORY_MAX))
    with contextlib.suppress(PeerGone):  # the controller has ended
        serve(connection)


if __name__ == "__main__":
    main()
