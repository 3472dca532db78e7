"""Errors between this controller and a switch; each message names the bridge and what to do.

CloudtapError
+-- SouthboundError
    +-- WireError          a flow that cannot be encoded, or bytes that cannot be decoded
    +-- SwitchUnreachable  a bridge of this machine that cannot be connected to
    +-- SwitchTimeout      a switch did not answer in time
    +-- SwitchGone         the connection ended before the answer arrived
    +-- SwitchUnfit        a switch lacks a required feature
    +-- Displaced          another controller is master of the switch: it refuses our changes
    +-- NotOurs            a bridge that the configuration does not list in `own`, or that is tapped
    +-- OfAnotherBridge    a connection whose datapath id another bridge may have taken
    +-- SwitchRefused      a switch refused a request that belongs to no single flow
"""

from __future__ import annotations

from flows.errors import CloudtapError


class SouthboundError(CloudtapError):
    """Root of the errors between this controller and the switches."""


class WireError(SouthboundError):
    """A flow that cannot be encoded as an OpenFlow message, or bytes that cannot be decoded."""


class SwitchUnreachable(SouthboundError):
    """A bridge of this machine cannot be connected to."""

    def __init__(self, bridge: str, path: str, problem: str) -> None:
        super().__init__(
            f"bridge {bridge!r} cannot be reached at {path}: {problem}; "
            "see whether Open vSwitch runs here and has this bridge (`ovs-vsctl show`)"
        )
        self.bridge, self.path, self.problem = bridge, path, problem


class SwitchTimeout(SouthboundError):
    """A switch did not answer in time."""

    def __init__(self, bridge: str, what: str, seconds: float) -> None:
        super().__init__(
            f"bridge {bridge!r} did not answer within {seconds:g} s: {what}; "
            "see whether ovs-vswitchd on its host is overloaded or hangs"
        )
        self.bridge, self.what, self.seconds = bridge, what, seconds


class SwitchGone(SouthboundError):
    """The connection to a switch ended before the answer arrived."""

    def __init__(self, bridge: str, what: str) -> None:
        super().__init__(f"the connection to bridge {bridge!r} ended before it could {what}")
        self.bridge, self.what = bridge, what


class SwitchUnfit(SouthboundError):
    """A switch lacks a required feature."""

    def __init__(self, bridge: str, missing: tuple[str, ...]) -> None:
        super().__init__(
            f"bridge {bridge!r} lacks {', '.join(missing)}: it needs Open vSwitch 2.17 or newer "
            "with OpenFlow13 among its protocols"
        )
        self.bridge, self.missing = bridge, missing


class Displaced(SouthboundError):
    """Another controller has become master of the switch; nothing was changed."""

    def __init__(self, bridge: str) -> None:
        super().__init__(
            f"another controller has taken over bridge {bridge!r}: is a second one connected to it "
            f"by mistake? See `ovs-vsctl get-controller {bridge}`"
        )
        self.bridge = bridge


class NotOurs(SouthboundError):
    """A bridge has connected that the configuration does not list in `own`, or that is tapped."""

    def __init__(
        self, bridge: str, why: str = "it is not in `own` of [bridges] in the configuration"
    ) -> None:
        super().__init__(f"bridge {bridge!r} is left alone: {why}")
        self.bridge, self.why = bridge, why


class OfAnotherBridge(SouthboundError):
    """A connection may be that of another bridge than its datapath id says."""

    def __init__(self, bridge: str, why: str) -> None:
        super().__init__(f"bridge {bridge!r} keeps the flows that it has: {why}")
        self.bridge, self.why = bridge, why


class SwitchRefused(SouthboundError):
    """A switch refused a request that belongs to no single flow."""

    def __init__(self, bridge: str, what: str, reason: str) -> None:
        super().__init__(f"bridge {bridge!r} refused to {what}: {reason}")
        self.bridge, self.what, self.reason = bridge, what, reason
