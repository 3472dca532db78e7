"""Tests of controller/syntax."""
