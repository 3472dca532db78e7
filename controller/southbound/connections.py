"""The connected switches: one OpenFlowSwitch for each datapath object of the OpenFlow library.

One connection speaks for a datapath id. A second one is refused while the first one answers, and
so is one whose certificate is not that of the bridge's host: it is asked nothing and sent nothing
(docs/decisions/0022-who-speaks-for-a-bridge.md).
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog

from controller.process import CLAIMS_REFUSED, TIME_SLICES, Validity, end_words
from controller.southbound.openflow import OpenFlowSwitch
from controller.southbound.ports import PortChange
from controller.southbound.switch import Switch
from controller.southbound.wire import (
    ECHO_REPLY,
    ECHO_REQUEST,
    decode_port_status,
    encode_message,
)
from flows.model import Dpid

ECHO_ANSWER_S = 5.0
"""How long a connected switch may take to answer the echo request that is sent to it when another
connection claims its datapath id, in seconds."""
PROBE_XID = 0xC7FFFFFF
"""Transaction id of that request: one of ours, so its answer comes as bytes."""
REFUSED_SHOWN_S = 20.0
"""How long a switch without OpenFlow 1.3 is shown; it is refused again at least each 8 s."""
REFUSED_MAX = 64
"""Addresses whose switches were refused that are kept at most."""
CLAIMS_MAX, CLAIMS_SHOWN = 4096, 64
"""Datapath ids whose claims were refused that are kept at most, and so many are told at once; each
bridge has its own."""

NO_BEGINNING = datetime.min.replace(tzinfo=UTC)
"""Since when a certificate counts as valid that was accepted."""

log = structlog.get_logger(__name__)


class SwitchListener(Protocol):
    """Whoever writes to switches: it is called when one connects or disconnects."""

    def connect(self, switch: Switch) -> None:
        """The switch is connected: write to it from now on."""
        ...

    def disconnect(self, switch: Switch) -> None:
        """The connection is over: do not write to the switch any more."""
        ...


class Transport(Protocol):
    """Sends to and ends the connections of the OpenFlow library, by its datapath objects."""

    def send(self, datapath: Any, data: bytes) -> bool:
        """Queue whole messages; False if the connection is over."""
        ...

    def disconnect(self, datapath: Any, why: str) -> None:
        """End a connection at once because of what its switch does; ``why`` is for the log."""
        ...

    def close(self, datapath: Any) -> None:
        """End a connection at once, without a word."""
        ...

    def adopted(self, datapath: Any) -> None:
        """The bridge of this connection is one of ours: it may use more than strangers may."""
        ...

    def queued(self, datapath: Any) -> int:
        """How many sends are queued behind one that the switch has not read yet."""
        ...

    def is_behind(self, datapath: Any) -> bool:
        """Whether the switch has sent something that was not read yet."""
        ...

    def address_of(self, datapath: Any) -> str:
        """Address and port of the peer."""
        ...

    def certificate_of(self, datapath: Any) -> str | None:
        """The name in the verified certificate of the peer; None without TLS."""
        ...

    def certificate_end_of(self, datapath: Any) -> float | None:
        """When that certificate runs out, in Unix time."""
        ...

    def refusals(self) -> Mapping[str, str]:
        """Whose certificate has made a TLS handshake fail lately, a sentence by address."""
        ...

    def problems(self) -> Sequence[str]:
        """What is wrong where switches connect, a sentence each."""
        ...


class PortListener(Protocol):
    """Whoever keeps track of ports."""

    def port_changed(self, dpid: Dpid, change: PortChange) -> None:
        """A port of a bridge was added, deleted or modified."""
        ...


class Identities(Protocol):
    """Whoever knows what each bridge is called, and which certificate its host has."""

    def bridge_name(self, dpid: Dpid) -> str:
        """The name of a bridge; its datapath id where no name is known."""
        ...

    def certificate_of(self, dpid: Dpid) -> str | None:
        """The name in the certificate of its host, declared or seen first; None if not known."""
        ...


@dataclass(eq=False, slots=True)
class _Connection:
    """One connection with a datapath id, and whether its switch was heard since a probe."""

    datapath: Any
    switch: OpenFlowSwitch
    address: str
    heard: threading.Event = field(default_factory=threading.Event)
    is_probed: bool = False
    certificate_end: float | None = None
    """When the certificate of its host runs out, in Unix time."""

    def note_echo(self) -> bool:
        """The switch has answered an echo request of ours; False if there was none."""
        was_probed, self.is_probed = self.is_probed, False
        self.heard.set()
        return was_probed


class Connections:
    """Makes an OpenFlowSwitch of each connection, and dispatches the messages that arrive on it."""

    def __init__(
        self,
        listener: SwitchListener,
        transport: Transport,
        ports: PortListener,
        identities: Identities,
    ) -> None:
        self._listener, self._transport, self._ports = listener, transport, ports
        self._identities = identities
        self._lock = threading.Lock()
        self._notifying = threading.Lock()  # of two events of one bridge, one after the other
        self._refused: dict[str, tuple[float, str]] = {}
        self._claims: OrderedDict[Dpid, tuple[float, str]] = OrderedDict()
        """When a claim of each datapath id was refused last, oldest first; recent ones only."""
        self._by_datapath: dict[int, _Connection] = {}
        self._by_dpid: dict[Dpid, _Connection] = {}
        self._hosts: OrderedDict[Dpid, str] = OrderedDict()
        """From which host each bridge of ours has connected last."""
        self._waiting: dict[Dpid, _Connection] = {}
        """The one connection with each datapath id that may speak for it next: at once, or as soon
        as it is known that the older one is not alive."""

    def connected(self, datapath: Any) -> None:
        """The OpenFlow handshake with a switch is done."""
        new = self._connection(datapath)
        dpid = new.switch.dpid
        if self._has_wrong_certificate(new):
            return
        with self._lock:
            live = self._by_dpid.get(dpid)
            first = self._waiting.setdefault(dpid, new)
        if first is not new:
            self._refuse_claim(new, live or first)
            return
        try:
            if live is None:
                self._begin(new)
            else:
                threading.Thread(
                    target=self._decide, args=(live, new), name=f"claim {dpid:016x}", daemon=True
                ).start()
        except Exception:  # for example, no thread can be started: nobody would write to it
            with self._lock:
                self._ends_waiting(new)
            self._transport.close(datapath)
            raise

    def disconnected(self, datapath: Any) -> None:
        """A connection is over; the same switch may have connected again already."""
        with self._lock:
            for dpid, waiting in list(self._waiting.items()):
                if waiting.datapath is datapath:
                    del self._waiting[dpid]
            over = self._by_datapath.get(id(datapath))
        if over is not None:
            self._end(over)

    @property
    def queued(self) -> int:
        """How many sends are queued on all connections together."""
        with self._lock:
            datapaths = [connection.datapath for connection in self._by_datapath.values()]
        return sum(map(self._transport.queued, datapaths))

    def refused(self, address: str, sentence: str) -> None:
        """A switch was refused or forcibly disconnected; ``problems`` shows it for a while."""
        now = time.monotonic()
        with self._lock:
            self._refused[address.rpartition(":")[0]] = (now, sentence)
            while len(self._refused) > REFUSED_MAX:
                del self._refused[min(self._refused, key=lambda host: self._refused[host][0])]

    def problems(self) -> list[str]:
        """What is wrong where switches connect, and why some were refused, a sentence each."""
        shown_since = time.monotonic() - REFUSED_SHOWN_S
        with self._lock:
            refused, claims = list(self._refused.values()), list(self._claims.values())
        recent = [sentence for when, sentence in claims if when > shown_since]
        found = [sentence for when, sentence in refused if when > shown_since]
        found += recent[-CLAIMS_SHOWN:]
        if len(recent) > CLAIMS_SHOWN:
            found.append(f"{len(recent) - CLAIMS_SHOWN} more datapath ids are claimed like these")
        return [*self._transport.problems(), *self._transport.refusals().values(), *found]

    def claims_of(self, dpid: Dpid) -> tuple[str, ...]:
        """Who has claimed recently to be this bridge and was refused, a sentence."""
        when, sentence = self._claims.get(dpid, (0.0, ""))
        is_recent = sentence and when > time.monotonic() - REFUSED_SHOWN_S
        return (sentence,) if is_recent else ()

    def certificates_of(self, dpid: Dpid) -> tuple[str, ...]:
        """What is wrong with the certificate of a bridge's host, or with ours, a sentence.

        That it runs out; or, while the bridge is away, that its last TLS handshake has failed.
        """
        with self._lock:
            live, host = self._by_dpid.get(dpid), self._hosts.get(dpid)
        if live is None:
            said = self._transport.refusals().get(host) if host is not None else None
        else:
            said = self._end_of_certificate(live)
        return () if said is None else (said,)

    def ending_certificates(self) -> list[str]:
        """The certificates of the hosts of our bridges that run out, a sentence each."""
        with self._lock:
            live = [each for each in self._by_dpid.values() if each.switch.is_adopted]
        found = sorted(filter(None, map(self._end_of_certificate, live)))
        if len(found) > CLAIMS_SHOWN:
            found[CLAIMS_SHOWN:] = [f"{len(found) - CLAIMS_SHOWN} more certificates like these"]
        return found

    def _end_of_certificate(self, live: _Connection) -> str | None:
        if live.certificate_end is None:
            return None
        ends = datetime.fromtimestamp(live.certificate_end, UTC)
        name = self._identities.bridge_name(live.switch.dpid)
        who = f"the certificate of {live.switch.certificate!r}, the host of bridge {name!r},"
        why = "the bridge is refused when it connects again"
        return end_words(who, Validity(NO_BEGINNING, ends), datetime.now(UTC), why)

    def _adopted(self, datapath: Any) -> None:
        """The bridge of a connection is ours: where it comes from is remembered."""
        self._transport.adopted(datapath)
        with self._lock:
            self._hosts[Dpid(datapath.id)] = _host_of(self._transport.address_of(datapath))
            self._hosts.move_to_end(Dpid(datapath.id))
            if len(self._hosts) > CLAIMS_MAX:
                self._hosts.popitem(last=False)

    def message_received(self, datapath: Any, message: bytes) -> bool:
        """A switch has answered a request of ours; False if nobody waits for that answer."""
        connection = self._by_datapath.get(id(datapath))
        if connection is None:
            return False
        if message[1] == ECHO_REPLY:
            return connection.note_echo()
        return connection.switch.on_message(message)

    def port_status_received(self, datapath: Any, message: bytes) -> None:
        """A switch reports that a port was added, deleted or modified; it counts if it is ours.

        The ports of a bridge that is not adopted yet are all asked for once it is. What a
        connection reports that does not speak for its datapath id is dropped.
        """
        connection = self._by_datapath.get(id(datapath))
        if connection is not None and connection.switch.is_adopted:
            self._ports.port_changed(connection.switch.dpid, decode_port_status(message))

    def error_received(self, datapath: Any, kind: int, code: int) -> None:
        """A switch has sent an error that belongs to no request of ours."""
        log.warning("error received from switch", dpid=f"{datapath.id:016x}", type=kind, code=code)

    def _connection(self, datapath: Any) -> _Connection:
        dpid, transport = Dpid(datapath.id), self._transport
        switch = OpenFlowSwitch(
            dpid,
            f"{dpid:016x}",
            lambda data: transport.send(datapath, data),
            disconnect=lambda why: transport.disconnect(datapath, why),
            adopted=lambda: self._adopted(datapath),
            certificate=transport.certificate_of(datapath),
            is_behind=lambda: transport.is_behind(datapath),
        )
        return _Connection(
            datapath,
            switch,
            transport.address_of(datapath),
            certificate_end=transport.certificate_end_of(datapath),
        )

    def _begin(self, new: _Connection) -> None:
        """Let a connection that waits speak for its datapath id, unless it has ended meanwhile."""
        with self._notifying:
            with self._lock:
                if not self._ends_waiting(new):
                    return
                self._by_dpid[new.switch.dpid] = new
                self._by_datapath[id(new.datapath)] = new
            with TIME_SLICES.taken():  # a thousand may connect or disconnect at once
                self._listener.connect(new.switch)

    def _ends_waiting(self, new: _Connection) -> bool:
        """Have a connection wait no more; False if it does not wait, another one may."""
        dpid = new.switch.dpid
        if self._waiting.get(dpid) is not new:
            return False
        del self._waiting[dpid]
        return True

    def _end(self, over: _Connection) -> None:
        """A connection does not speak for its datapath id any more."""
        with self._notifying:
            with self._lock:
                is_known = self._by_datapath.pop(id(over.datapath), None) is over
                if self._by_dpid.get(over.switch.dpid) is over:
                    del self._by_dpid[over.switch.dpid]
            over.heard.set()  # nobody needs to wait for it
            if is_known:
                over.switch.on_disconnect()
                with TIME_SLICES.taken():
                    self._listener.disconnect(over.switch)

    def _decide(self, live: _Connection, new: _Connection) -> None:
        """Probe the older connection: if its switch answers it stays, else the new one follows."""
        dpid = new.switch.dpid
        live.heard.clear()
        live.is_probed = True
        probe = encode_message(ECHO_REQUEST, PROBE_XID)
        is_answering = self._transport.send(live.datapath, probe) and (
            live.heard.wait(ECHO_ANSWER_S)
            or (self._transport.is_behind(live.datapath) and live.heard.wait(ECHO_ANSWER_S))
        )
        with self._lock:
            is_live = self._by_dpid.get(dpid) is live
            is_refused = is_live and is_answering and self._ends_waiting(new)
        if is_live and is_answering:
            if is_refused:
                self._refuse_claim(new, live)
            return
        if is_live:
            why = (
                f"it has answered nothing for {ECHO_ANSWER_S:g} s, and its bridge has connected "
                f"again from {new.address}"
            )
            log.warning("connection replaced", dpid=f"{dpid:016x}", old=live.address, why=why)
            self._end(live)
            self._transport.close(live.datapath)
        self._begin(new)

    def _has_wrong_certificate(self, new: _Connection) -> bool:
        """Refuse a connection whose certificate is not that of the bridge's host."""
        dpid, shown = new.switch.dpid, new.switch.certificate
        expected = self._identities.certificate_of(dpid)
        if expected is None or shown == expected:
            return False
        name = self._identities.bridge_name(dpid)
        proof = "has no certificate" if shown is None else f"has the certificate of {shown!r}"
        with self._lock:
            live = self._by_dpid.get(dpid)
        where = f", which is connected from {live.address}" if live is not None else ""
        self._refuse(
            new,
            "certificate",
            f"the switch at {new.address} {proof} and claims datapath id {dpid:016x} of bridge "
            f"{name!r}{where}, whose certificate is that of {expected!r}: it is refused; if its "
            "host has a new certificate, name it in `bridges` of the inventory",
        )
        return True

    def _refuse_claim(self, new: _Connection, live: _Connection) -> None:
        dpid = new.switch.dpid
        name = self._identities.bridge_name(dpid)
        self._refuse(
            new,
            "datapath id",
            f"bridge {name!r} is connected from {live.address}, and the switch at {new.address} "
            f"claims its datapath id {dpid:016x}, too: the second one is refused; give each bridge "
            "an id of its own (other_config:datapath-id), and see whose that host is",
        )

    def _refuse(self, new: _Connection, kind: str, sentence: str) -> None:
        """End a connection that may not speak for its datapath id; it was sent nothing of ours."""
        dpid = new.switch.dpid
        now = time.monotonic()
        with self._lock:
            before, _ = self._claims.pop(dpid, (-math.inf, ""))
            self._claims[dpid] = (now, sentence)
            oldest = now - REFUSED_SHOWN_S
            while len(self._claims) > CLAIMS_MAX or next(iter(self._claims.values()))[0] < oldest:
                self._claims.popitem(last=False)
        CLAIMS_REFUSED.labels(kind).inc()
        if before < now - REFUSED_SHOWN_S:  # it tries again each few seconds
            log.warning("claim refused", dpid=f"{dpid:016x}", reason=sentence)
        self._transport.close(new.datapath)


def _host_of(address: str) -> str:
    """The host of an address with a port, without brackets."""
    return address.rpartition(":")[0].removeprefix("[").removesuffix("]")
