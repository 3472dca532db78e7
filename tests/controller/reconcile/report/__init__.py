"""Tests of controller/reconcile/report."""
