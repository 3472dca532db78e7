"""Answers about sessions and bridges, from what the writers have confirmed."""

from controller.reconcile.report.counter_poller import COUNT_S, CounterPoller
from controller.reconcile.report.inspector import Inspector

__all__ = ["COUNT_S", "CounterPoller", "Inspector"]
