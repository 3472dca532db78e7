"""The resources of the HTTP API, a file for each noun or action."""

from controller.api.v1 import (
    audit,
    bridges,
    explain,
    filters,
    health,
    inventory,
    inventory_file,
    sensor_config,
    status,
    verify,
)

__all__ = ["HEALTH", "RESOURCES"]

RESOURCES = (
    inventory.tenants,
    inventory.networks,
    inventory.ports,
    filters.filters,
    sensor_config.collectors,
    verify.sessions,
    explain.explain,
    bridges.bridges,
    inventory_file.inventory,
    audit.audit,
    status.status,
)
"""The resources under /v1, in the order of the reference page; all need the token."""

HEALTH = health.health
"""/healthz, /readyz and /metrics."""
