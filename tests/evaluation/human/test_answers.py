"""Which ratings and choices there are."""

import pytest

from cogvx.errors import InputError
from cogvx.evaluation.human.answers import checked_choice, checked_rating


@pytest.mark.parametrize(("score", "total", "good"), [(0, 2, True), (0, 3, False), (0.5, 5, True), (0, 0, True)])
def test_the_total_is_capped_where_instructions_are_not_followed(rating, score, total, good):
    vote = rating(total, instruction_following=score)
    if good:
        assert checked_rating(vote)["total"] == total
    else:
        with pytest.raises(InputError, match="at most 2"):
            checked_rating(vote)


def test_what_is_no_rating(rating):
    good = rating(4, " too slow ", physics_simulation=0.5)
    assert checked_rating(good) == {
        "scores": {"sensory_quality": 1, "instruction_following": 1, "physics_simulation": 0.5, "cover_quality": 1},
        "total": 4,
        "reasons": "too slow",
    }
    bad = [None, {}, good | {"total": 6}, good | {"total": 2.5}, good | {"total": True}, good | {"total": "4"}]
    bad += [rating(5, cover_quality=0.7), rating(5, cover_quality=True), rating(5, beauty=1), good | {"reasons": 3}]
    bad += [good | {"reasons": "x" * 2001}, good | {"scores": {"cover_quality": 1}}]
    for vote in bad:
        with pytest.raises(InputError):
            checked_rating(vote)


def test_what_is_no_choice():
    assert checked_choice({"choice": "tie"}) == {"choice": "tie", "reasons": ""}
    for vote in (None, {}, {"choice": "c"}, {"choice": 1}, {"choice": ["a"]}):
        with pytest.raises(InputError):
            checked_choice(vote)
