"""Tests of flows/model."""
