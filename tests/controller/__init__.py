"""Tests of the shell around the core: no switch, no network."""
