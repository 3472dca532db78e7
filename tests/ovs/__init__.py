"""Tests on a real Open vSwitch that is private to the run."""
