"""Tests of controller/reconcile/bridge."""
