"""What selections come to: as Python computes, with quantiles as numpy does, and with columns that are not there."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cogvx.data.select import parse_condition, parse_value
from cogvx.data.select.evaluate import find_thresholds, truth_of_all, values_of_all
from cogvx.data.select.table import FALSE, TRUE, UNKNOWN, Table
from cogvx.errors import UsageError

NAMES = ("a", "b", "c")
NUMBER = st.floats(-100, 100, allow_nan=False).map(lambda value: round(value, 3))
LEAF = st.sampled_from(NAMES) | NUMBER.map(lambda value: repr(abs(value))) | st.integers(0, 9).map(str)
VALUE = st.recursive(
    LEAF,
    lambda inner: (
        st.tuples(inner, st.sampled_from(" + , - , * , / ".split(",")), inner).map("".join)
        | inner.map("({})".format)
        | inner.map("-{}".format)
    ),
    max_leaves=6,
)
SIGN = st.sampled_from([" < ", " <= ", " > ", " >= ", " == ", " != "])
PAIR = st.tuples(VALUE, SIGN, VALUE).map("".join) | st.tuples(VALUE, SIGN, VALUE, SIGN, VALUE).map("".join)
CONDITION = st.recursive(
    PAIR,
    lambda inner: (
        st.tuples(inner, st.sampled_from([" and ", " or "]), inner).map("".join)
        | inner.map("({})".format)
        | inner.map("not ({})".format)
        | inner.map("not {}".format)
    ),
    max_leaves=5,
)
ROWS = st.lists(st.tuples(NUMBER, NUMBER, NUMBER), min_size=1, max_size=4)


def table_of(expression, rows):
    table = Table([expression.node])
    for i, row in enumerate(rows):
        table.add(row, place=f"m.jsonl:{i + 1}", rejected=bool(row.get("rejected")))
    return table


def truths(text, rows):
    expression = parse_condition(text)
    table = table_of(expression, rows)
    counted = ~table.rejected(slice(None))
    return truth_of_all(expression.node, table, find_thresholds(expression, table, counted)).tolist()


def scores(**values):
    return {"video": "a.mp4", "scores": values}


@settings(max_examples=150, deadline=None)
@given(text=CONDITION, rows=ROWS)
def test_conditions_agree_with_python(text, rows):
    found = truths(text, [scores(**dict(zip(NAMES, row, strict=True))) for row in rows])
    for got, row in zip(found, rows, strict=True):
        try:
            expected = eval(text, {"__builtins__": {}}, dict(zip(NAMES, row, strict=True)))
        except ZeroDivisionError:
            continue
        assert got in (UNKNOWN, TRUE if expected else FALSE)
        if "/" not in text:  # Python does not look at what is behind a false "and"
            assert got == (TRUE if expected else FALSE)


@settings(max_examples=100, deadline=None)
@given(text=VALUE, rows=ROWS)
def test_values_agree_with_python(text, rows):
    try:
        expression = parse_value(text)
    except UsageError as error:
        assert "names no column" in str(error) and not set(NAMES) & set(text)
        return
    table = table_of(expression, [scores(**dict(zip(NAMES, row, strict=True))) for row in rows])
    for got, row in zip(values_of_all(expression.node, table, {}).tolist(), rows, strict=True):
        try:
            expected = float(eval(text, {"__builtins__": {}}, dict(zip(NAMES, map(float, row), strict=True))))
        except ZeroDivisionError:
            assert math.isnan(got)
        else:
            assert got == expected or (math.isnan(got) and not math.isfinite(expected))


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(st.floats(-1e6, 1e6) | st.none(), min_size=1, max_size=50),
    share=st.floats(0, 1),
    rejected=st.sets(st.integers(0, 49)),
)
def test_quantiles_are_numpys(values, share, rejected):
    rows = [scores(**({} if value is None else {"x": value})) for value in values]
    for i, row in enumerate(rows):
        row.update({"rejected": ["dark"]} if i in rejected else {})
    expression = parse_condition(f"x < q{share:.15f} + 1 and x * 2 > q0.25")
    table = table_of(expression, rows)
    found = find_thresholds(expression, table, ~table.rejected(slice(None)))
    left = [value for i, value in enumerate(values) if value is not None and i not in rejected]
    if not left:
        assert all(math.isnan(cut) for cut in found.values())
        return
    cuts = {quantile.share: cut for quantile, cut in found.items()}
    assert cuts[float(f"{share:.15f}")] == pytest.approx(np.quantile(left, float(f"{share:.15f}")), rel=1e-12, abs=0)
    assert cuts[0.25] == pytest.approx(np.quantile(2 * np.array(left), 0.25), rel=1e-12, abs=0)


def test_a_quantile_is_of_the_other_side():
    rows = [scores(x=float(i), y=10.0 * i) for i in range(11)]
    assert truths("x >= q0.5", rows) == [FALSE] * 5 + [TRUE] * 6
    assert truths("q0.2 < x <= q0.8", rows) == [FALSE] * 3 + [TRUE] * 6 + [FALSE] * 2
    assert truths("y - x > q0.5 / 2", rows) == [FALSE] * 3 + [TRUE] * 8  # the median of 9 x is 45
    assert truths("y > 2 * q0.1", rows) == [FALSE] * 3 + [TRUE] * 8


def test_what_is_not_there_is_neither_true_nor_false():
    rows = [scores(x=1.0), scores(y=1.0), scores(x=1.0, y=0.0)]
    assert truths("x > 0", rows) == [TRUE, UNKNOWN, TRUE]
    assert truths("not x > 0", rows) == [FALSE, UNKNOWN, FALSE]
    assert truths("x > 0 and y > 0", rows) == [UNKNOWN, UNKNOWN, FALSE]
    assert truths("x > 0 or y > 0", rows) == [TRUE, TRUE, TRUE]
    assert truths("x > 2 and y > 0", rows) == [FALSE, UNKNOWN, FALSE]
    assert truths("missing(x) or x > 2", rows) == [FALSE, TRUE, FALSE]
    assert truths("has(y) and y == 0", rows) == [FALSE, FALSE, TRUE]
    assert truths("x / y > 0", rows) == [UNKNOWN] * 3
    assert truths("x != q0.5", rows) == [FALSE, UNKNOWN, FALSE]


def test_columns_of_every_place():
    entry = {
        "video": "a.mp4",
        "caption": "one two three",
        "split": "train",
        "duration": 4,
        "num_frames": 32,
        "fps": 8.0,
    }
    entry |= {"labels": {"text": 0.25}, "captions": {"dense": "d"}, "errors": [], "mine": 7, "flag": True}
    true = ["caption_words == 3", "split == 'train'", '"test" != split', "num_frames / fps == duration", "text < 0.5"]
    true += ["labels.text == .25", "entry.duration == 4", "captions.dense == 'd'", "has(captions.dense)", "mine > 6"]
    true += ["flag == 1", "missing(errors)", "has(text)", "missing(scores.text)", "not rejected", "missing(latents)"]
    for text in true:
        assert truths(text, [entry]) == [TRUE], text
        assert truths(f"not ({text})", [entry]) == [FALSE], text
    assert truths("rejected", [entry | {"rejected": ["dark"]}]) == [TRUE]
    assert truths("split == 'x'", [{"video": "a.mp4"}]) == [UNKNOWN]
    assert truths("caption_words > 0", [{"video": "a.mp4"}]) == [UNKNOWN]


@pytest.mark.parametrize(
    ("text", "rows", "words"),
    [
        ("x > 1", [{"scores": {"x": 1}, "labels": {"x": 1}}], "m.jsonl:1|labels.x or scores.x"),
        ("x > 1", [{"scores": {"x": 1}}, {"labels": {"x": 1}}], "labels.x or scores.x"),
        ("fps > 1", [{"fps": 8, "scores": {"fps": 1}}], "entry.fps or scores.fps"),
        ("split > 1", [{"split": "train"}], "m.jsonl:1: split is a text, 'train', where a number"),
        ("x == 'a'", [{"scores": {"x": 1}}], "m.jsonl:1: x is no text"),
        ("scores > 1", [{"scores": {"x": 1}}], "neither a number nor a text"),
    ],
)
def test_columns_that_mean_something_else(text, rows, words):
    with pytest.raises(UsageError) as error:
        truths(text, rows)
    assert any(word in str(error.value) for word in words.split("|"))
