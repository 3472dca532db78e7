"""The one tree of errors: every message names who, what and why, in the operator's words.

    CloudtapError
    +-- InvalidValue              a value that is wrong whatever the rest of the world is
    |   +-- InvalidFlow           a flow that breaks the contract of its table
    |   +-- BadRule, BadPacket    (controller/syntax) a rule or packet that cannot be read
    +-- Refused                   a valid request that is not granted
    |   +-- CrossTenantSource     a session would watch a port of another tenant
    |   +-- CrossTenantNetwork    a session would watch a network of another tenant
    |   +-- CrossTenantCollector  a session would deliver into another tenant's collector
    |   +-- CrossTenantFilter     a session would use another tenant's filter
    |   +-- CrossTenantSensor     a collector would use another tenant's tap port
    |   +-- NotAWorkload          a session would watch a tap port
    |   +-- NotATapPort           a collector would deliver to a workload
    |   +-- TooManySessions       more sessions on a network than a switch can evaluate
    |   +-- TooManyOverlaps       more cohorts of exclusive sessions than a switch can record
    |   +-- NoLinkTagLeft         more networks on the links than there are 802.1Q ids
    |   +-- NoMeterLeft           more sessions with a rate cap than a switch has meters for
    |   +-- KeyTaken              two tenants would send to one address with the same key
    |   +-- NoKeyLeft             more collectors of one kind than it has keys
    |   +-- NotTold               a bridge that was not told may still use what it was for before
    |       +-- KeyHeld           another tenant's copies may still come with the key
    |       +-- TooManyKeys       a tenant would take tunnel keys that others are to have
    |       +-- TooManyHeldKeys   a tenant has given up more keys than are held for it
    |       +-- TooManyNumbers    a tenant would take numbers that others are to have
    |   +-- NotFound, NameTaken, NumberTaken, InUse, Repeated    (controller/store)
    +-- SouthboundError           (controller/southbound) a switch cannot be reached or used
    +-- StoreError                (controller/store) the database cannot be used
    +-- ConfigError               (controller/config) the configuration is wrong
    +-- InventoryError            (controller/inventory) the inventory is wrong
    +-- UnknownRuntime, CannotListen, BadTlsSettings    (controller/runtime)

The controller's branches are listed in the errors module of their folder.
"""

from __future__ import annotations

_WHEN_TOLD = (
    "try again when every bridge is connected and active (`cloudtap bridge list`), or forgotten "
    "(`cloudtap bridge forget`)"
)


class CloudtapError(Exception):
    """Root of every error that cloudtap raises on purpose."""


class InvalidValue(CloudtapError):
    """A value that is wrong whatever the rest of the world is."""


class InvalidFlow(InvalidValue):
    """A flow that breaks the contract of its table (see flows/pipeline/tables.py)."""


class Refused(CloudtapError):
    """A valid request that is not granted; the message becomes a status."""


class CrossTenantSource(Refused):
    """A session would watch a port of another tenant."""

    def __init__(self, session: str, tenant: str, port: str, owner: str) -> None:
        super().__init__(
            f"session {session!r} of tenant {tenant!r} may not watch port {port!r}, "
            f"which belongs to tenant {owner!r}: choose a port of tenant {tenant!r}"
        )
        self.session, self.tenant, self.port, self.owner = session, tenant, port, owner


class CrossTenantCollector(Refused):
    """A session would deliver into the collector of another tenant."""

    def __init__(self, session: str, tenant: str, collector: str, owner: str) -> None:
        super().__init__(
            f"session {session!r} of tenant {tenant!r} may not deliver into collector "
            f"{collector!r}, which belongs to tenant {owner!r}: create a collector of its own"
        )
        self.session, self.tenant, self.collector, self.owner = session, tenant, collector, owner


class CrossTenantFilter(Refused):
    """A session would use the filter of another tenant."""

    def __init__(self, session: str, tenant: str, filter: str, owner: str) -> None:
        super().__init__(
            f"session {session!r} of tenant {tenant!r} may not use filter {filter!r}, "
            f"which belongs to tenant {owner!r}: create a filter of its own"
        )
        self.session, self.tenant, self.filter, self.owner = session, tenant, filter, owner


class CrossTenantSensor(Refused):
    """A collector would deliver to the tap port of another tenant."""

    def __init__(self, collector: str, tenant: str, port: str, owner: str) -> None:
        super().__init__(
            f"collector {collector!r} of tenant {tenant!r} may not use tap port {port!r}, "
            f"which belongs to tenant {owner!r}"
        )
        self.collector, self.tenant, self.port, self.owner = collector, tenant, port, owner


class CrossTenantNetwork(Refused):
    """A session would watch a network of another tenant."""

    def __init__(self, session: str, tenant: str, network: str, owner: str) -> None:
        super().__init__(
            f"session {session!r} of tenant {tenant!r} may not watch network {network!r}, "
            f"which belongs to tenant {owner!r}: choose a network of tenant {tenant!r}"
        )
        self.session, self.tenant, self.network, self.owner = session, tenant, network, owner


class NotAWorkload(Refused):
    """A session would watch a tap port; tap ports only receive."""

    def __init__(self, session: str, port: str) -> None:
        super().__init__(
            f"session {session!r} may not watch port {port!r}: it is a tap port, "
            "and copies are never copied again"
        )
        self.session, self.port = session, port


class NotATapPort(Refused):
    """A collector would deliver to a workload."""

    def __init__(self, collector: str, port: str) -> None:
        super().__init__(
            f"collector {collector!r} may not deliver to port {port!r}: it is a workload, "
            "not a tap port (declare it with `kind: tap` in the inventory)"
        )
        self.collector, self.port = collector, port


class TooManySessions(Refused):
    """More sessions on one network than a switch can evaluate for one packet."""

    def __init__(self, session: str, network: str, limit: int) -> None:
        super().__init__(
            f"session {session!r} is one too many on network {network!r}: a switch serves at most "
            f"{limit} sessions for one packet; delete or narrow another session"
        )
        self.session, self.network, self.limit = session, network, limit


class TooManyOverlaps(Refused):
    """More cohorts (ports that the same exclusive sessions watch) than a switch can record."""

    def __init__(self, session: str, network: str, limit: int) -> None:
        super().__init__(
            f"exclusive session {session!r} is one too many on network {network!r}: a switch keeps "
            f"at most {limit} sets of ports apart that different exclusive sessions compete for; "
            "let exclusive sessions watch the same ports, or watch in mode 'copy'"
        )
        self.session, self.network, self.limit = session, network, limit


class NoLinkTagLeft(Refused):
    """More networks and unprotected ports on the links than there are 802.1Q ids."""

    def __init__(self, what: str, limit: int) -> None:
        cause = (
            f"all {limit} link tags are taken; remove unused networks or protect ports against "
            "spoofing"
        )
        if what.startswith("tap-"):
            cause = f"its tenant gets no more of the {limit} link tags; have fewer tags there"
        super().__init__(f"{what} cannot cross the links between bridges: {cause}")
        self.what, self.limit = what, limit


class NoMeterLeft(Refused):
    """More sessions have a rate cap than a switch has meters for."""

    def __init__(self, session: str, tenant: str, limit: int) -> None:
        super().__init__(
            f"session {session!r} cannot be capped, so nothing is copied: of {limit} meters none "
            f"is left for tenant {tenant!r}, because sessions that have, or had, max_rate have "
            "them; delete one of them"
        )
        self.session, self.tenant, self.limit = session, tenant, limit


class KeyTaken(Refused):
    """A collector would send to an address with the key that another tenant uses there."""

    def __init__(self, collector: str, tenant: str, word: str, key: int, address: str) -> None:
        super().__init__(
            f"collector {collector!r} of tenant {tenant!r} may not send to {address} with {word} "
            f"{key}: another tenant does, and the sensor could not tell their copies apart; choose "
            f"another {word}, or leave it out"
        )
        self.collector, self.tenant, self.key, self.address = collector, tenant, key, address


class NotTold(Refused):
    """Something is not free, because a bridge that was not told may use it for what it was for.

    Whoever knows which bridges are away adds their names to the sentence.
    """


class KeyHeld(NotTold):
    """A collector would send to an address with a key that another tenant has given up there, and
    a bridge may not know yet."""

    def __init__(self, collector: str, tenant: str, word: str, key: int, address: str) -> None:
        super().__init__(
            f"collector {collector!r} of tenant {tenant!r} may not send to {address} with {word} "
            f"{key} yet: another tenant did, and a bridge that has not confirmed the change may "
            f"still send its copies there; choose another {word}, or leave it out, or {_WHEN_TOLD}"
        )
        self.collector, self.tenant, self.key, self.address = collector, tenant, key, address


class TooManyKeys(NotTold):
    """A tenant would take tunnel keys that are left for other tenants."""

    def __init__(self, tenant: str, word: str, in_use: int, given_up: int) -> None:
        super().__init__(
            f"tenant {tenant!r} may have no {word} more, because the others are for other tenants: "
            f"its collectors have {in_use}, and {given_up} that it has given up are held because a "
            f"bridge may still send with them; use one that it has, or {_WHEN_TOLD}"
        )
        self.tenant, self.in_use, self.given_up = tenant, in_use, given_up


class TooManyHeldKeys(NotTold):
    """A tenant has given up so many tunnel keys at addresses that it gets no others for now."""

    def __init__(self, tenant: str, held: int) -> None:
        super().__init__(
            f"tenant {tenant!r} may not send to another address, or with another key: {held} keys "
            "at addresses that it has given up are held because a bridge may still send with them; "
            f"use one of those, or {_WHEN_TOLD}"
        )
        self.tenant, self.held = tenant, held


class TooManyNumbers(NotTold):
    """A tenant would take numbers on switches that are left for other tenants."""

    def __init__(self, kind: str, tenant: str, used: int) -> None:
        super().__init__(
            f"tenant {tenant!r} may have no {kind} more, because the numbers that are left are for "
            f"other tenants: it has {used}, those included that were deleted and that a bridge may "
            f"still have; delete some, and {_WHEN_TOLD}"
        )
        self.kind, self.tenant, self.used = kind, tenant, used


class NoKeyLeft(Refused):
    """More collectors of one kind than it has keys."""

    def __init__(self, delivery: str, word: str, first: int, last: int) -> None:
        super().__init__(
            f"no {word} is left to choose for delivery {delivery!r}: {first}..{last} are all taken "
            "by other collectors, or are held for some that are gone because a bridge may not know "
            "yet; delete one of them when every bridge is connected, or choose a number below if "
            "there is one"
        )
        self.delivery, self.first, self.last = delivery, first, last
