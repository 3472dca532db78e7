"""Tests of controller/southbound/openflow."""
