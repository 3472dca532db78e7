"""Tests of controller/process."""
