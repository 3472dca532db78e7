"""Tests of controller/sensors."""
