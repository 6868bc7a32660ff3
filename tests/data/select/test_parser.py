"""The language of selections: what it takes, and errors that point at the character."""

import string
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cogvx.data.select import parse_condition, parse_value
from cogvx.data.select.tokens import MAX_LENGTH
from cogvx.errors import UsageError


@pytest.mark.parametrize(
    ("text", "conjuncts"),
    [
        ("flow >= q0.2 and aesthetic >= 4.5 and text_area < 0.02", 3),
        ("0.2 < flow < 3", 2),
        ("(a > 1 and b > 2) and c > 3", 3),
        ("a > 1 and b > 2 or c > 3", 1),
        ("not (editing > 0.5 or text > 0.5)", 1),
        ("split == 'train' and caption_words >= 10", 2),
        ('labels."lecture type" < .5 and scores.flow != entry.fps', 2),
        ("flow > 2 * q0.5 - 1e-3", 1),
        ("has(flow) and not missing(captions.dense) and not rejected", 3),
        ("a / b >= (c + 1) * -d", 1),
        ("q1 > a and q0 <= a and q.5 < a", 3),
    ],
)
def test_what_it_takes(text, conjuncts):
    expression = parse_condition(text)
    assert len(expression.conjuncts) == conjuncts
    assert expression.source(expression.node) == text


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("flow >", 7, "ends where a number, a column or ( is needed"),
        ("flow = 3", 6, "write == to compare"),
        ("a > 1 && b > 1", 7, "write and"),
        ("a > 20%", 7, "write a share as a number"),
        ("a > 1 AND b > 1", 7, "write and in small letters"),
        ("flow and a > 2", 1, "a condition is needed here: compare flow"),
        ("a > 2 or flow + 1", 10, "compare flow + 1 with something"),
        ("(flow > 2", 1, "never closed"),
        ("flow > 2)", 9, "and, or, or the end is needed here, not )"),
        ("a > 3 b", 7, "not b"),
        ("q1.5 < flow", 1, "a share from 0 to 1"),
        ("q0.2 < 3", 1, "must be compared with a column"),
        ("q0.2 < q0.3", 8, "cannot be compared with a quantile"),
        ("max(a) > 3", 1, "there is no function max"),
        ("__import__('os') == 1", 1, "there is no function __import__"),
        ("a.b > 3", 1, "columns stand under entry, scores, labels, captions"),
        ("a.__class__ > 3", 1, "columns stand under"),
        ("split > 'a'", 9, "by == or !="),
        ("'a' == 'b'", 1, "by == or !="),
        ("a + 'b' > 3", 5, "a text can only be compared"),
        ("1e999 > a", 1, "too large"),
        ("3x > 2", 1, "not a number"),
        ("a > 'open", 5, "without its closing quote"),
        ("(a > 1) + 2 > 3", 1, "a number is needed here, and this is a condition"),
        ("has(3)", 5, "name of a column"),
        ("a > 1\x00", 6, "cannot stand here"),
        ("a[0] > 1", 2, "cannot stand here"),
        ("lambda: 3", 7, "cannot stand here"),
    ],
)
def test_errors_point_at_the_character(text, place, words):
    with pytest.raises(UsageError) as error:
        parse_condition(text)
    message = str(error.value)
    assert words in message and f"at character {place}: " in message and "\n" not in message
    assert message.count("▸") == 1


def test_a_long_expression_is_shown_around_the_place():
    with pytest.raises(UsageError) as error:
        parse_condition("a > 1 and " * 100 + "b ? 2")
    assert len(str(error.value)) < 250 and "…" in str(error.value) and "b ▸? 2" in str(error.value)


@pytest.mark.parametrize("text", ["", "  ", "5", "aesthetic > 3", "'text'", "q0.2", "aesthetic - q0.5", "1 + 2"])
def test_what_is_no_value_of_each_entry(text):
    with pytest.raises(UsageError):
        parse_value(text)


@pytest.mark.parametrize("deep", ["(", "not ", "-", "- (", "has(", "(not "])
def test_depth_is_bounded(deep):
    with pytest.raises(UsageError):
        parse_condition((deep * MAX_LENGTH)[: MAX_LENGTH - 6] + "a > 1")
    with pytest.raises(UsageError, match="characters"):
        parse_condition(deep * MAX_LENGTH + "a > 1")


def test_long_and_flat_is_no_problem():
    began = time.monotonic()
    for text in ("a+" * 1900 + "b > 1", "a > 1 and " * 390 + "b > 1", "1 <" + "a <" * 1200 + "3"):
        parse_condition(text)
    assert time.monotonic() - began < 5


WORDS = "and or not ( ) < >= == != + - * / . q0.2 q2 1 .5 1e5 flow scores labels.x 't' \" has missing rejected".split()
WORDS += ["split", "=", "%", "é", "\n", "\x00"]


def test_the_message_is_one_line_even_if_the_condition_is_not():
    with pytest.raises(UsageError) as error:
        parse_condition("0/\n0")
    assert "\n" not in str(error.value)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join)
    | st.text(string.printable, max_size=60)
    | st.text(max_size=40)
)
def test_any_text_is_taken_or_refused(text):
    for parse in (parse_condition, parse_value):
        try:
            expression = parse(text)
        except UsageError as error:
            assert "\n" not in str(error) and "\x00" not in str(error)
        else:
            assert parse(expression.source(expression.node)).conjuncts is not None
