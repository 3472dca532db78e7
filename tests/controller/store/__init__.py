"""Tests of controller/store."""
