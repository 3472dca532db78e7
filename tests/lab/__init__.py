"""Tests on whole networks: Mininet, real controllers, real commands."""
