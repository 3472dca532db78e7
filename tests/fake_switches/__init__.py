"""Strict OpenFlow 1.3 switches for tests: they check what Open vSwitch checks, refuse what it
refuses, and fail when they are told to. tests/contracts/switch_contract.py holds both to the same
answers.
"""

from tests.fake_switches.connection import Fleet, serve_unix
from tests.fake_switches.faults import Faults
from tests.fake_switches.model import FakeSwitch

__all__ = ["FakeSwitch", "Faults", "Fleet", "serve_unix"]
