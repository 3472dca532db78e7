"""What tests wait for has happened when the wait is over."""

from __future__ import annotations

import pytest

from controller.status import State
from tests.ovs.waiting import wait_for

SHORT_S = 0.05


@pytest.mark.parametrize(("wanted", "seen"), [(578, None), (("s1", 1), None), (State.ACTIVE, 1)])
def test_a_value_of_another_type_is_not_what_is_waited_for(wanted: object, seen: object) -> None:
    with pytest.raises(AssertionError, match="seen last"):
        wait_for(lambda: seen, wanted.__eq__, SHORT_S)


def test_the_value_that_was_right_is_returned() -> None:
    values = iter([None, 1, 578])

    assert wait_for(lambda: next(values), (578).__eq__) == 578
