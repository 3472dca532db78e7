"""/v1/collectors/{id}/sensor-config: a configuration for the sensor program."""

from __future__ import annotations

from typing import Literal

from flask import Response
from pydantic import Field

from controller.api.context import answer, context
from controller.api.problems import not_found
from controller.api.schemas import OneQuery, Path, SensorConfigOut
from controller.api.v1.collectors import collectors, find_collector
from controller.sensors import configure

__all__ = ["collectors"]


class SensorConfigQuery(OneQuery):
    """Which program, and the interface that it listens on."""

    program: Literal["suricata", "zeek"] = Field(alias="for")
    interface: str = Field(
        "eth0",
        pattern=r"^[A-Za-z0-9_.:@-]{1,15}$",
        description="The interface of the sensor, as the sensor calls it.",
    )


@collectors.get("/<ref>/sensor-config", responses={200: SensorConfigOut})
def sensor_config(path: Path, query: SensorConfigQuery) -> Response:
    """Say how a sensor must be configured for what it gets"""
    collector = find_collector(path.ref, query.tenant)
    feed = context().inspector.feed(collector.id)
    if feed is None:
        raise not_found("collector", path.ref)
    made = configure(query.program, feed, query.interface)
    shown = SensorConfigOut.model_validate(
        {"for": query.program, "text": made.text, "notes": list(made.notes)}
    )
    return answer(shown)
