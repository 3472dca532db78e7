"""Whole numbers as people write them: ASCII digits alone.

Python takes the digits of every script, signs, blanks and underscores for a number; switches,
databases and other tools do not.
"""

from __future__ import annotations

import re

_DIGITS = re.compile(r"[0-9]{1,100}")


def is_number(text: str) -> bool:
    """Whether a text is a whole number, without sign, and not longer than any that is meant."""
    return _DIGITS.fullmatch(text) is not None
