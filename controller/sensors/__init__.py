"""Configurations for sensors, made from what a collector delivers to them."""

from controller.sensors.configuration import SENSORS, Configuration, configure

__all__ = ["SENSORS", "Configuration", "configure"]
