"""Tests of flows/pipeline."""
