import pytest

from cogvx.data.labels import LABEL_MEANINGS, NEGATIVE_LABELS, source_of, title_of, truth_of
from cogvx.errors import InputError


def test_the_papers_six_labels_all_have_a_meaning():
    assert NEGATIVE_LABELS == ("editing", "static", "lecture", "text", "screenshot", "low_quality")
    assert set(LABEL_MEANINGS) == set(NEGATIVE_LABELS)
    assert title_of("static") == "Lack of Motion Connectivity" and title_of("mine") == "mine"


@pytest.mark.parametrize("value,truth", [(1.0, True), (0.7, True), (0.5, None), (0.2, False), (0, False)])
def test_a_half_is_unsure(value, truth):
    assert truth_of({"labels": {"text": value}}, "text") is truth


def test_nothing_said_is_no_truth():
    assert truth_of({}, "text") is None
    assert truth_of({"labels": {"editing": 1.0}}, "text") is None


def test_the_source_is_the_original_else_the_file():
    assert source_of({"video": "cut/a-1.mp4", "source": "a.mp4"}) == "a.mp4"
    assert source_of({"video": "a.mp4", "start": 3.0}) == "a.mp4"
    assert source_of({"image": "a.png"}) == "a.png"
    with pytest.raises(InputError, match="names neither"):
        source_of({"caption": "a"})
