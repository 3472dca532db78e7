"""Tests of controller/config."""
