"""Rates as text: parsed, formatted again, or refused with an example."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.syntax import read_rate, show_rate
from flows.errors import InvalidValue
from flows.model import Rate, RateUnit


@pytest.mark.parametrize(
    ("words", "rate"),
    [
        ("200 mbps", Rate(RateUnit.KBPS, 200_000)),
        ("200mbit", Rate(RateUnit.KBPS, 200_000)),
        (" 200 Mbit/s ", Rate(RateUnit.KBPS, 200_000)),
        ("1.5 gbps", Rate(RateUnit.KBPS, 1_500_000)),
        ("500 kbps", Rate(RateUnit.KBPS, 500)),
        ("500 kbits", Rate(RateUnit.KBPS, 500)),
        ("0.001 mbps", Rate(RateUnit.KBPS, 1)),
        ("5000 pps", Rate(RateUnit.PPS, 5000)),
        ("4294967295pps", Rate(RateUnit.PPS, 4294967295)),
    ],
)
def test_a_rate_is_read_as_people_write_it(words: str, rate: Rate) -> None:
    assert read_rate(words) == rate


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("", "is not understood: write it like '200 mbps'"),
        ("200", "is not understood"),
        ("mbps", "is not understood"),
        ("-1 mbps", "is not understood"),
        ("1e3 pps", "is not understood"),
        ("200 mb", "is not understood"),
        ("200 MB/s", "is not understood"),
        ("\u0661 pps", "is not understood"),
        ("1.5 pps", "is no whole number of pps"),
        ("0.0001 mbps", "is no whole number of kbps"),
        ("0 pps", r"a rate of 0 pps is outside 1\.\.4294967295"),
        ("5000 gbps", "a rate of 5000000000 kbps is outside"),
    ],
)
def test_what_is_no_rate_is_refused_with_an_example(words: str, why: str) -> None:
    with pytest.raises(InvalidValue, match=why):
        read_rate(words)


@given(st.builds(Rate, st.sampled_from(RateUnit), st.integers(1, (1 << 32) - 1)))
def test_a_formatted_rate_parses_to_the_same_rate(rate: Rate) -> None:
    assert read_rate(show_rate(rate)) == rate


def test_a_rate_is_shown_in_its_largest_whole_unit() -> None:
    assert show_rate(Rate(RateUnit.KBPS, 200_000)) == "200 mbps"
    assert show_rate(Rate(RateUnit.KBPS, 1_500_000)) == "1500 mbps"
    assert show_rate(Rate(RateUnit.KBPS, 1)) == "1 kbps"
    assert show_rate(Rate(RateUnit.PPS, 1000)) == "1000 pps"
