"""--upsample where clips are made: the model reads the long prompt, the clip records both."""

import json
import re

import numpy as np
import pytest
from mock_server import images, said
from PIL import Image

from cogvx import presets
from cogvx.data.video import probe

KEY = "canary-4f1d7c0b"
LONG = "a red star moves to the right over a green field in the sea"  # 14 tokens are more than the model reads
SHORT = "a red star moves to the right"


@pytest.fixture
def server(mock_openai):
    mock_openai.answer = lambda body: answers[re.findall(r"(?:request|Request): (.*)", "\n".join(said(body)))[-1]]
    answers = mock_openai.answers = {
        "star": SHORT,
        "boat": "a blue boat moves to the left of the sea",
        "bad": "I'm sorry, no.",
    }
    return mock_openai


@pytest.fixture
def make(cogvx, server, model_folder):
    """Run a generating command with a tiny model; nothing that it prints has the key."""

    def run(command, *arguments, form="5b"):
        fixed = [] if "--like" in arguments else ["-m", model_folder(form), "--steps", 1, "--frames", 9]
        result = cogvx(command, *arguments, *fixed)
        assert KEY not in result.stdout + result.stderr
        return result

    return run


def rows(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def record(path):
    text = probe(path).comment
    assert KEY not in text
    return json.loads(text)


def test_the_clip_records_both_prompts(make, server, model_folder):
    result = make("sample", "star", "--upsample", "-o", "x.mkv", "--json")
    assert result.exit_code == 0, result.stderr
    assert f"upsampled: {SHORT}" in result.stderr and len(server.chats()) == 1
    found = record("x.mkv")
    assert found["prompt"] == SHORT and found["upsampled"]["from"] == "star"
    assert found["upsampled"]["by"].startswith("openai:mock-1@") and found["upsampled"]["params"]["preset"] == "t2v"
    (row,) = rows(result)
    assert row["prompt"] == SHORT and row["upsampled"] == found["upsampled"]
    plain = rows(make("sample", SHORT, "-o", "y.mkv", "--json"))[0]
    assert plain["frames_sha256"] == row["frames_sha256"] and "upsampled" not in record("y.mkv")
    # repeated without asking again
    again = make("sample", "--like", "x.mkv", "-o", "z.mkv", "-m", model_folder("5b"), "--json")
    assert rows(again)[0]["frames_sha256"] == row["frames_sha256"] and len(server.chats()) == 1
    assert record("z.mkv")["upsampled"] == found["upsampled"]
    make("sample", "--like", "x.mkv", "--upsample", "--seed", 5, "-o", "w.mkv", "-m", model_folder("5b"))
    assert record("w.mkv")["upsampled"] == found["upsampled"] and len(server.chats()) == 1
    other = make("sample", "boat", "--like", "x.mkv", "--upsample", "-o", "v.mkv", "-m", model_folder("5b"))
    assert other.exit_code == 0 and record("v.mkv")["upsampled"]["from"] == "boat" and len(server.chats()) == 2


def test_a_batch_asks_once_a_prompt_and_only_for_what_is_missing(make, server, tmp_path):
    arguments = ("sample", "star", "boat", "bad", "--num-videos", 2, "--upsample", "-o", "clips")
    first = make(*arguments)
    assert first.exit_code == 3 and "bad: openai:mock-1" in first.stderr and "2 of 6 failed" in first.stderr
    assert len(first.stdout.splitlines()) == len(list((tmp_path / "clips").iterdir())) == 4
    assert len(server.chats()) == 2 + 3
    server.answers["bad"] = "a green circle moves up"
    second = make(*arguments)
    assert second.exit_code == 0 and len(server.chats()) == 6
    assert len(second.stdout.splitlines()) == len(list((tmp_path / "clips").iterdir())) == 6
    assert make(*arguments).exit_code == 0 and len(server.chats()) == 6


@pytest.mark.parametrize(("mode", "code"), [("401", 4), ("500", 4), ("content_filter", 3)])
def test_failing_makes_no_clip_unless_the_original_will_do(make, server, tmp_path, mode, code):
    server.fault = lambda body, number: mode
    result = make("sample", SHORT, "--upsample", "-o", "x.mp4")
    assert result.exit_code == code and len(result.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == [] and result.stdout == ""
    kept = make("sample", SHORT, "--upsample", "--fallback", "original", "-o", "x.mp4")
    assert kept.exit_code == 0 and "left as it was" in kept.stderr
    found = record("x.mp4")
    assert found["prompt"] == found["upsampled"]["from"] == SHORT and found["upsampled"]["fallback"]


def test_the_length_is_that_of_the_model(make, server):
    server.answers["star"] = LONG
    result = make("sample", "star", "--upsample", "-o", "x.mp4")
    assert result.exit_code == 3 and "too long" in result.stderr and "at most 12" in result.stderr


def test_a_dry_run_asks_nobody(make, server):
    result = make("sample", "star", "--upsample", "--dry-run", "-o", "x.mp4")
    assert result.exit_code == 0 and server.requests == []


def test_an_image_is_shown_to_the_language_model(make, server, tmp_path):
    Image.fromarray(np.full((32, 48, 3), 90, np.uint8)).save(tmp_path / "a.png")
    result = make("i2v", "a.png", "star", "--upsample", "-o", "x.mp4", form="5b-i2v")
    assert result.exit_code == 0, result.stderr
    (body,) = server.chats()
    assert len(images(body)) == 1 and record("x.mp4")["upsampled"]["params"]["preset"] == "i2v"
    assert record("x.mp4")["inputs"]["image"]["name"] == "a.png"


def test_rows_that_were_upsampled_before(make, cogvx, server):
    with open("p.jsonl", "w") as file:
        file.write(json.dumps({"prompt": SHORT, "upsampled": {"from": "star", "by": "somebody"}, "output": "x.mp4"}))
    result = make("sample", "--prompts", "p.jsonl", "-o", "clips")
    assert result.exit_code == 0, result.stderr
    assert record("clips/x.mp4")["upsampled"] == {"from": "star", "by": "somebody"} and server.requests == []


def test_the_embedded_model_has_rules_of_its_own(cogvx, server):
    if not (presets.EMBEDDED / "tiny" / "model_index.json").is_file():
        pytest.skip("no embedded model in this build")
    result = cogvx("sample", "a huge yacht on the ocean", "--upsample", "--steps", 1, "-o", "x.mp4", "-q")
    assert result.exit_code == 0, result.stderr
    found = record("x.mp4")
    assert found["upsampled"]["by"] == "storyboard" and "boat" in found["prompt"] and server.requests == []
