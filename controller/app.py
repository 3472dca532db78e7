"""The Ryu application: hands events to the services and does nothing else.

Run it with `ryu-manager controller.app`, or on os-ken with `cloudtap controller --runtime os-ken`.
"""

from __future__ import annotations

from typing import Any

from controller import runtime
from controller.launch import Services, start_services
from controller.southbound.wire.message import PortReason
from flows.errors import CloudtapError


class Cloudtap(runtime.App):
    """Events of switches in, calls of services out."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.services: Services | None = None
        try:
            self.services = start_services(runtime.configure, runtime)
        except CloudtapError as problem:
            runtime.fail(problem)
            return
        runtime.listen_raw(self.services.switches.answered)
        runtime.listen_handler_errors(self.services.reconciler.handler_failed)
        runtime.listen_refused(self.services.refused_switch)

    def close(self) -> None:
        """End in order; every flow stays in place."""
        if self.services is not None:
            self.services.stop()

    @runtime.set_ev_cls(
        runtime.ofp_event.EventOFPStateChange, [runtime.MAIN_DISPATCHER, runtime.DEAD_DISPATCHER]
    )
    def state_changed(self, event: Any) -> None:
        """A switch is ready, or gone."""
        if self.services is not None and event.datapath.id is not None:
            is_ready = event.state == runtime.MAIN_DISPATCHER
            switches = self.services.switches
            (switches.connected if is_ready else switches.gone)(event.datapath)

    @runtime.set_ev_cls(runtime.ofp_event.EventOFPPortStatus, runtime.MAIN_DISPATCHER)
    def port_changed(self, event: Any) -> None:
        """A port came, went, or changed."""
        if self.services is not None:
            port = event.msg.desc
            reason = PortReason(event.msg.reason)
            self.services.switches.port_changed(event.msg.datapath, reason, port)

    @runtime.set_ev_cls(runtime.ofp_event.EventOFPErrorMsg, runtime.MAIN_DISPATCHER)
    def error_reported(self, event: Any) -> None:
        """A switch complains of something that none of our requests asked for."""
        if self.services is not None:
            message = event.msg
            self.services.switches.complained(message.datapath, message.type, message.code)
