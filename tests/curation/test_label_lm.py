import json
from types import SimpleNamespace

import numpy as np
import pytest
from mock_server import images, said

from cogvx.curation.label_lm import LanguageLabels
from cogvx.curation.questions import chosen, default_questions
from cogvx.data.labels import NEGATIVE_LABELS
from cogvx.data.stages import Item
from cogvx.data.video import write_clip
from cogvx.errors import InputError, MissingError, UsageError
from cogvx.language.ask import LanguageSpec


@pytest.fixture
def item(tmp_path):
    frames = np.zeros((12, 24, 40, 3), np.uint8) + np.arange(12, dtype=np.uint8)[:, None, None, None] * 20
    write_clip(tmp_path / "a.mkv", frames, 6.0)
    entry = {"video": "a.mkv", "labels": {"text": 0.0, "mine": 1.0}, "made": {"flow": {"version": 1}}}
    return Item(id="a.mkv", entry=entry, path=tmp_path / "a.mkv", place="m.jsonl:1")


def stage(**changes):
    return LanguageLabels(LanguageSpec(model="mock-1"), default_questions(), num_frames=4, longest=20, **changes)


def numbers(**changes):
    return {label: 0.1 for label in NEGATIVE_LABELS} | changes


def test_a_clip_gets_a_number_for_each_label(mock_openai, item):
    mock_openai.answer = lambda body: json.dumps(numbers(text=0.9))
    labels = stage()
    (entry,) = labels.process(item)
    assert entry["labels"] == numbers(text=0.9) | {"mine": 1.0}
    assert entry["made"]["labels.text"] == labels.settings() and entry["made"]["flow"] == {"version": 1}
    assert item.entry["labels"]["text"] == 0.0
    (body,) = mock_openai.chats()
    assert len(images(body)) == 4 and "0.00, 0.50, 1.00, 1.50 seconds" in said(body)[-1]
    schema = json.dumps(body["response_format"])
    assert all(label in schema for label in NEGATIVE_LABELS)
    assert not labels.wanted(entry) and labels.wanted(item.entry)


@pytest.mark.parametrize(
    "bad,reason",
    [
        ("I would say it is fine.", "no JSON object"),
        (json.dumps(numbers(text=7)), "text must be a number from 0 to 1, got 7"),
        (json.dumps({"text": 1}), "editing, static, lecture, screenshot, low_quality missing"),
        (json.dumps(numbers(blur=1)), "unknown: blur"),
        ('{"editing": NaN}', "no JSON object"),
        ('{"editing": 0.1, "static": 0.', "no JSON object"),
    ],
)
def test_an_answer_that_cannot_be_used_goes_back_with_what_is_wrong(mock_openai, item, bad, reason):
    answers = [bad, json.dumps(numbers())]
    mock_openai.answer = lambda body: answers.pop(0)
    (entry,) = stage().process(item)
    assert entry["labels"]["editing"] == 0.1
    _, second = mock_openai.chats()
    assert second["messages"][-2]["role"] == "assistant" and bad[:20] in said(second)[-2]
    assert reason in said(second)[-1] and "JSON object" in said(second)[-1]


def test_a_second_bad_answer_fails_the_clip(mock_openai, item):
    mock_openai.answer = lambda body: "no"
    with pytest.raises(
        InputError, match="gave no answer that can be used, in 2 tries: the answer holds no JSON object"
    ):
        stage().process(item)
    assert len(mock_openai.chats()) == 2


def test_words_around_the_object_do_no_harm(mock_openai, item):
    mock_openai.answer = lambda body: f"Here it is:\n```json\n{json.dumps(numbers(static=True))}\n```"
    assert stage().process(item)[0]["labels"]["static"] == 1


def test_an_answer_that_was_cut_off_is_asked_again(mock_openai, item):
    mock_openai.answer = lambda body: json.dumps(numbers())
    mock_openai.script("length", None)
    assert stage().process(item)[0]["labels"]["text"] == 0.1


def test_a_refusal_and_a_server_that_fails_are_told(mock_openai, item):
    mock_openai.fault = lambda body, number: "content_filter"
    with pytest.raises(InputError):
        stage().process(item)
    mock_openai.fault = lambda body, number: "500"
    with pytest.raises(MissingError):
        stage().process(item)


def test_only_the_labels_that_are_asked_for_are_given(mock_openai, item):
    mock_openai.answer = lambda body: '{"lecture": "yes"}'
    labels = LanguageLabels(LanguageSpec(model="mock-1"), chosen(default_questions(), ["lecture"]), num_frames=1)
    assert labels.process(item)[0]["labels"] == {"text": 0.0, "mine": 1.0, "lecture": 1.0}
    assert labels.columns() == ("labels.lecture", "made.labels.lecture")


def test_other_questions_make_other_labels(mock_openai, item):
    mock_openai.answer = lambda body: json.dumps(numbers())
    (entry,) = stage().process(item)
    other = LanguageLabels(LanguageSpec(model="mock-1"), default_questions(), num_frames=5, longest=20)
    assert other.wanted(entry)


def test_a_model_that_sees_no_images_is_refused(monkeypatch, item):
    blind = SimpleNamespace(name="transformers:words", sees_images=False)
    monkeypatch.setattr("cogvx.curation.label_lm.open_language_model", lambda spec: blind)
    with pytest.raises(UsageError, match="transformers:words sees no images"):
        stage().open()
