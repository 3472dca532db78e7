"""Tests of flows/beacon."""
