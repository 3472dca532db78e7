"""Tests of controller/status."""
