"""Tests of controller/southbound/wire."""
