"""The ports that the source of a session selects."""

from __future__ import annotations

from collections.abc import Iterable

from flows.model.port import Port, PortKind
from flows.model.session import Session, SourceKind


def watched_by(session: Session, ports: Iterable[Port]) -> tuple[Port, ...]:
    """The ports of ``ports`` that a session watches, in their order.

    Networks, labels and the whole tenant select workloads of the session's tenant only; a list of
    ports selects exactly these, whoever owns them: flows/model/tenancy.py checks that.
    """
    return tuple(port for port in ports if is_watched(session, port))


def is_watched(session: Session, port: Port) -> bool:
    """Whether the source of a session selects one port."""
    source = session.source
    if source.kind is SourceKind.PORT:
        return port.id in source.ports
    if port.tenant != session.tenant or port.kind is not PortKind.VM:
        return False
    match source.kind:
        case SourceKind.NETWORK:
            return port.network in source.networks
        case SourceKind.LABEL:
            return set(source.labels) <= set(port.labels)
        case _:
            return True
