"""Tests of controller/runtime."""
