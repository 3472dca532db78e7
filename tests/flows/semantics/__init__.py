"""Tests of flows/semantics."""
