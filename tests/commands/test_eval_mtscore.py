import json

import numpy as np
import pytest

from cogvx.data.manifest import write_manifest
from cogvx.data.video import write_clip


@pytest.fixture
def manifest(tmp_path):
    for name, count in (("a", 9), ("b", 9), ("short", 5)):
        write_clip(tmp_path / f"{name}.mp4", np.full((count, 32, 48, 3), 90, np.uint8), 8.0)
    write_manifest(tmp_path / "m.jsonl", [{"video": f"{name}.mp4"} for name in ("a", "b")])
    return "m.jsonl"


def test_three_answers_a_clip(cogvx, manifest, mock_openai):
    answers = iter(['{"reasoning": "", "score": 2}', "hm", "Score: 3", *['{"reasoning": "", "score": 5}'] * 3])
    mock_openai.answer = lambda body: next(answers)
    result = cogvx("eval", "mtscore", manifest, "-o", "result.json")
    assert result.exit_code == 0, result.stderr
    found = json.load(open("result.json"))
    assert found["metric"] == "mtscore@mock-1" and found["value"] == pytest.approx((2.5 + 5) / 2)
    assert found["answers"] == {"asked": 6, "usable": 5} and "1 of 6 answers" in result.stderr
    assert found["protocol"]["repeats"] == 3 and len(found["protocol"]["question_sha256"]) == 64
    assert "canary" not in open("result.json").read() + result.stderr
    assert len(mock_openai.chats()) == 6


def test_clips_that_cannot_be_judged(cogvx, manifest, tmp_path, mock_openai):
    write_manifest(
        tmp_path / "m.jsonl", [{"video": "a.mp4"}, {"video": "short.mp4"}, {"video": "b.mp4"}], overwrite=True
    )
    answers = iter(["1", *['{"reasoning": "", "score": 4}']])
    mock_openai.answer = lambda body: next(answers)
    result = cogvx("eval", "mtscore", manifest, "--repeats", 1, "--json")
    assert result.exit_code == 3 and "short.mp4" in result.stderr and "no score" in result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["value"] == 4 and found["n"] == 1 and found["failed"] == 2


def test_a_wrong_key_ends_it(cogvx, manifest, mock_openai):
    mock_openai.fault = lambda body, number: "401"
    result = cogvx("eval", "mtscore", manifest, "--lm-model", "mock-1")
    assert result.exit_code == 4 and len(mock_openai.chats()) == 1
