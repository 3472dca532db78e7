"""Tests of flows/openflow."""
