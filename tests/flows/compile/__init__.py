"""Tests of flows/compile."""
