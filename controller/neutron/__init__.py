"""The process that asks Neutron which projects, networks and ports there are."""

from controller.neutron.program import NEUTRON_PROGRAM, OBJECTS_MAX, NeutronRecord, Settings

__all__ = ["NEUTRON_PROGRAM", "OBJECTS_MAX", "NeutronRecord", "Settings"]
