"""Tests of controller/topology."""
