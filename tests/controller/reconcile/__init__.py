"""Tests of controller/reconcile."""
