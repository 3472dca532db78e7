"""Tests of controller/databases."""
