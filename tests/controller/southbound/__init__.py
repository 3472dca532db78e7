"""Tests of controller/southbound."""
