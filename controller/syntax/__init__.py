"""Filters, packets and rates as text or JSON: parsed into values, and formatted again."""

from controller.syntax.digits import is_number
from controller.syntax.filters import BadRule, check_readable, flow_count, read_rules, show_rules
from controller.syntax.packets import BadPacket, build_frame
from controller.syntax.rates import read_rate, show_rate

__all__ = [
    "BadPacket",
    "BadRule",
    "build_frame",
    "check_readable",
    "flow_count",
    "is_number",
    "read_rate",
    "read_rules",
    "show_rate",
    "show_rules",
]
