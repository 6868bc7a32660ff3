"""Conditions over entries in memory, as a stage of training takes them."""

import pytest

from cogvx.data.select import refusals
from cogvx.errors import InputError, UsageError


def scored(*values):
    return [{"video": f"{i}.mp4", "scores": {} if value is None else {"x": value}} for i, value in enumerate(values)]


def test_the_first_part_that_fails_is_named():
    rows = scored(1, 2, 3, 4)
    assert refusals("x >= q0.25 and x < 4", rows) == ["not x >= q0.25", None, None, "not x < 4"]
    assert refusals("x > 9 and x > 8", rows[:1]) == ["not x > 9"]
    assert refusals("x > 9", []) == []


def test_rejected_entries_count_only_if_they_are_trained_on():
    rows = scored(*range(5))
    rows[4]["rejected"] = ["select: old"]
    assert refusals("x >= q0.5", rows) == ["not x >= q0.5"] * 2 + [None] * 3
    assert refusals("x >= q0.5", rows, rejected=True)[:3] == ["not x >= q0.5"] * 2 + [None]
    assert refusals("x > q0.5", rows, rejected=True).count(None) == 2
    assert refusals("not rejected or x > 3", rows, rejected=True) == [None] * 5


def test_missing_columns_are_refused_unless_the_condition_says():
    rows = scored(*[1] * 99, None)
    assert refusals("x > 0", rows)[99] == "x > 0 is not known"
    rows = scored(1, None)
    with pytest.raises(InputError, match="1 lack x"):
        refusals("x > 0", rows)
    with pytest.raises(UsageError, match="no entry has y"):
        refusals("y > 0", rows)
    assert refusals("missing(x) or x > 0", rows) == [None, None]
    assert refusals("has(x) and x > 0", rows) == [None, "not has(x)"]
