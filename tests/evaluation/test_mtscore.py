import numpy as np
import pytest

from cogvx.errors import InputError, MissingError
from cogvx.evaluation import mtscore
from cogvx.language.ask import Answer


class Judge:
    """Answers in turn."""

    name, sees_images, concurrent = "openai:judge@here", True, False

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def settings(self):
        return {"model": "judge"}

    def ask(self, messages, **settings):
        self.asked.append((messages, settings))
        answer = self.answers.pop(0)
        return answer if isinstance(answer, Answer) else Answer(answer, "success")


def test_the_eight_frames():
    assert mtscore.frame_indices(49) == [0, 6, 12, 18, 24, 30, 36, 48]
    assert mtscore.frame_indices(8) == list(range(8))
    with pytest.raises(InputError, match="8 frames"):
        mtscore.frame_indices(7)
    shown = mtscore.shown_frames(np.zeros((9, 480, 720, 3), np.uint8))
    assert len(shown) == 8 and shown[0].shape == (256, 384, 3)
    assert mtscore.shown_frames(np.zeros((9, 48, 72, 3), np.uint8))[0].shape == (48, 72, 3)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ('{"reasoning": "none", "score": 1}', 1),
        ('Brief Reasoning Statement: it grows\n"Score":{4}', 4),
        ("Score: 2 at first, but in the end Score: 3", 3),
        ('```json\n{"Score": "5"}\n```', 5),
        ('{"reasoning": "x", "score": 4.0}', 4),
    ],
)
def test_scores_in_many_forms(text, score):
    assert mtscore.read_score(text) == score


@pytest.mark.parametrize(
    "text", ["", "it changes a lot", '{"score": 6}', '{"score": 0}', '{"score": true}', "Score: 3.5"]
)
def test_no_score(text):
    with pytest.raises(InputError, match="score"):
        mtscore.read_score(text)


def test_the_mean_of_three():
    judge = Judge('{"reasoning": "", "score": 2}', "no idea", '{"reasoning": "", "score": 5}')
    opinions = mtscore.judge(judge, np.zeros((8, 32, 32, 3), np.uint8))
    assert [one.score for one in opinions] == [2, None, 5] and mtscore.mean_score(opinions) == 3.5
    assert [settings["seed"] for _, settings in judge.asked] == [0, 1, 2]
    assert len(judge.asked[0][0][0].images) == 8 and "no score" in opinions[1].error
    with pytest.raises(InputError, match="no score"):
        mtscore.mean_score(opinions[1:2])


def test_a_judge_that_is_not_there():
    gone = Answer("", "error", error="wrong key", fatal=True)
    with pytest.raises(MissingError, match="wrong key"):
        mtscore.judge(Judge(gone), np.zeros((8, 32, 32, 3), np.uint8))
    blind = Judge()
    blind.sees_images = False
    with pytest.raises(MissingError, match="sees no pictures"):
        mtscore.judge(blind, np.zeros((8, 32, 32, 3), np.uint8))


def test_only_one_judge_has_the_name():
    assert mtscore.metric_name("gpt-4o-2024-05-13", ["gpt-4o-2024-05-13"]) == "GPT4o-MTScore"
    assert mtscore.metric_name("gpt-4o", ["gpt-4o-2024-05-13"]) == "mtscore@gpt-4o"
    assert mtscore.metric_name("gpt-4o-2024-05-13", ["other"]) == "mtscore@gpt-4o-2024-05-13"
