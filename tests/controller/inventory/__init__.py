"""Tests of controller/inventory."""
