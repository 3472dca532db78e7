"""Tests of flows/resolve."""
