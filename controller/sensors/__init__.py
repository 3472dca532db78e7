"""Configurations for sensor programs, generated from what a collector delivers to them."""

from controller.sensors.configuration import configure

__all__ = ["configure"]
