"""How tables are printed: whole in a pipe, wrapped to fit a width that is given."""

from __future__ import annotations

import pytest

from controller.cli.output import Column, print_one, print_table

ITEM = {"id": "0b7e6f3a-6d0c-4d5e-9a53-1c5f0c9f2b11", "name": "a-name-" * 9, "where": "s1:" * 20}
COLUMNS: tuple[Column, ...] = tuple((name, lambda item, name=name: item[name]) for name in ITEM)


def test_a_table_in_a_pipe_has_each_item_on_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    print_table([ITEM], COLUMNS)
    [line] = [line for line in capsys.readouterr().out.splitlines() if ITEM["id"] in line]
    assert all(value in line for value in ITEM.values())
    print_one(ITEM, "table", ITEM.items())
    assert len(capsys.readouterr().out.splitlines()) == len(ITEM)


def test_a_table_fits_the_width_that_is_given(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    print_table([ITEM], COLUMNS)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 3
    assert max(map(len, lines)) <= 60


@pytest.mark.parametrize("width", ["1", "5", "10", "19", "20", "25"])
def test_no_value_is_cut_however_narrow_the_terminal_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: str
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    item = ITEM | {"a name of many words": "value", "x": ["first", "second"]}
    columns: list[Column] = [(name, lambda item, name=name: item[name]) for name in item]
    for show in (
        lambda: print_table([item], columns),
        lambda: print_one(item, "table", item.items()),
    ):
        show()
        out = "".join(capsys.readouterr().out.split())
        for value in (ITEM["id"], ITEM["name"], ITEM["where"], "value", "first", "second"):
            assert value in out, out


@pytest.mark.parametrize("width", ["0", "00", "-5", "abc", "", "9" * 5000, "\u0662"])
def test_a_width_that_is_none_is_as_no_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: str
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    print_table([ITEM], COLUMNS)
    [line] = [line for line in capsys.readouterr().out.splitlines() if ITEM["id"] in line]
    assert all(value in line for value in ITEM.values())


WORDS: tuple[Column, ...] = (
    ("bridge", lambda i: i["bridge"]),
    ("what it delivered", lambda i: i["what"]),
)


@pytest.mark.parametrize("width", range(4, 60))
def test_no_word_is_split_in_a_terminal_that_is_wide_enough_for_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """As a table, or one line for each value where the columns do not fit beside each other."""
    monkeypatch.setenv("COLUMNS", str(width + len("what it delivered  ")))
    item = {"bridge": "br-1", "what": "a frame that nobody has expected"}
    print_table([item, item], WORDS)
    out = capsys.readouterr().out
    longest = max(map(len, item["what"].split()))
    words = [*item["what"].split(), "delivered", "br-1"] if width >= longest else []
    for word in words:
        assert out.split().count(word) >= 2 - (word == "delivered"), out


def test_columns_that_do_not_fit_beside_each_other_become_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    names = [
        *("bridge", "sensor", "network", "sent", "arrived"),
        *("lost", "tag", "bytes", "faults"),
    ]
    columns: list[Column] = [(name, lambda item, name=name: item[name]) for name in names]
    item = dict.fromkeys(names, "value")
    print_table([item, item], columns)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [[name, "value"] for name in names] + [[]] + [[n, "value"] for n in names]
