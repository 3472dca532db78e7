"""The Ryu application: hands events to the services and does nothing else.

Run it with `ryu-manager controller.app`, or on os-ken with `cloudtap up --runtime os-ken`.
"""

from __future__ import annotations

from typing import Any

from controller.process import building_permanent_objects

# modules stay: a quarter of the time to load them would be spent on examining them for garbage
with building_permanent_objects():
    from controller import runtime
    from controller.launch import Services, start_services
    from flows.errors import CloudtapError


class Cloudtap(runtime.App):
    """Events of switches in, calls of services out."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.services: Services | None = None
        try:
            self.services = start_services(runtime.configure, runtime, runtime.BACKEND)
        except CloudtapError as problem:
            runtime.fail(problem)
            return
        connections = self.services.bridges.connections
        runtime.listen_raw(connections.message_received)
        runtime.listen_port_status(connections.port_status_received)
        runtime.listen_errors(connections.error_received)
        runtime.listen_handler_errors(self.services.bridges.writers.handler_failed)
        runtime.listen_refused(connections.refused)
        runtime.listen_hangup(self.services.read_files_again)

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
            connections = self.services.bridges.connections
            (connections.connected if is_ready else connections.disconnected)(event.datapath)
