"""The program as its parent starts it, and what both know of each other's messages."""

from __future__ import annotations

from typing import Any

from controller.process import ChildProgram

Record = dict[str, Any]
"""A checked row as it is reported: strings, numbers, None, and maps of strings."""

PROGRAM = ChildProgram(
    name="process that talks to databases", module="controller.databases.main", max_message=16 << 20
)
"""Messages to the parent have 200 rows each: some 100 kB; 12 MB if every text is as long as it may
be, and of characters that JSON writes as two escapes of six bytes."""
