"""Tests of flows/plan."""
