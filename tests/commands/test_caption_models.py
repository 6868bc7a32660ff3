"""`cogvx caption` by language models: over HTTP, with its faults, and by a tiny model in this process."""

import base64
import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from mock_server import images, said
from PIL import Image
from tiny_models import save_llama, save_qwen_vl

from cogvx.data.manifest import read_manifest
from cogvx.data.video import write_clip

FAULTS = ("429", "cut", "500", "429", "empty")


@pytest.fixture
def clips(tmp_path):
    """Two clips of five seconds, dark and bright, and their manifest, m.jsonl."""
    for name, level in (("dark", 40), ("bright", 200)):
        frames = np.full((40, 32, 48, 3), level, dtype=np.uint8) + np.arange(40, dtype=np.uint8)[:, None, None, None]
        write_clip(tmp_path / f"{name}.mkv", frames, 8)
    (tmp_path / "m.jsonl").write_text('{"video": "dark.mkv", "caption": "mine"}\n{"video": "bright.mkv"}\n')
    return tmp_path


def level(url):
    """The grey of a picture that was sent."""
    return int(np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))[0, 0, 0])


def rows_of(text):
    return [json.loads(line) for line in text.splitlines()]


def caption(cogvx, *arguments):
    return cogvx("caption", *arguments, "--workers", 0, "-q")


def test_an_endpoint_sees_frames_and_their_times(cogvx, clips, mock_openai):
    mock_openai.answer = lambda body: f"The video shows a wall of {level(images(body)[0])}.\n\n- It brightens."
    result = caption(cogvx, "m.jsonl", "-o", "out.jsonl", "--captioner", "video", "--frames-per-clip", 5)
    assert result.exit_code == 0, result.stderr
    dark, bright = read_manifest("out.jsonl").entries
    assert dark["caption"] == dark["captions"]["video"] == "A wall of 44. It brightens."
    assert dark["captions"]["given"] == "mine" and dark["caption_outcome"] == "success"
    assert bright["caption"] == "A wall of 204. It brightens." and "given" not in bright["captions"]
    assert dark["made"]["caption"]["model"] == {"engine": "openai", "model": "mock-1"}
    assert [len(images(body)) for body in mock_openai.chats()] == [5, 5]
    assert "at 0.5, 1.5, 2.5, 3.5 and 4.5 seconds" in said(mock_openai.chats()[0])[-1]
    assert "canary" not in (clips / "out.jsonl").read_text() + (clips / "out.jsonl.answers/answers.jsonl").read_text()


def test_an_endpoint_gets_a_video_if_that_is_asked_for(cogvx, clips, mock_openai):
    result = caption(cogvx, "dark.mkv", "--captioner", "video", "--send", "video", "--frames-per-clip", 4)
    assert result.exit_code == 0, result.stderr
    (part, _) = mock_openai.chats()[0]["messages"][-1]["content"]
    assert part["type"] == "video_url" and "pictures" not in said(mock_openai.chats()[0])[-1]


def test_dense_captions_by_two_models(cogvx, clips, mock_openai):
    def answer(body):
        seen = [level(url) for url in images(body)]
        if body["model"] == "seer":
            return f"The image depicts a wall of {seen[0]}." if len(seen) == 1 else f"A wall, {len(seen)} times."
        assert not seen and body["model"] == "writer"
        return "The clip depicts a wall that brightens."

    mock_openai.answer = answer
    flags = ("--captioner", "dense", "--lm-model", "writer", "--frame-lm-model", "seer")
    result = caption(cogvx, "dark.mkv", "-o", "out.jsonl", *flags)
    assert result.exit_code == 0, result.stderr
    (row,) = read_manifest("out.jsonl").entries
    assert row["caption"] == "A wall that brightens."
    assert row["captions"]["frames"].splitlines() == [
        "0.0 s: A wall of 40.",
        "2.0 s: A wall of 56.",
        "4.0 s: A wall of 72.",
    ]
    assert row["captions"]["short"] == "A wall, 3 times." and len(mock_openai.chats()) == 5
    assert row["captions"]["frames"] in said(mock_openai.chats()[-1])[-1]


def test_a_clip_is_not_asked_about_twice(cogvx, clips, mock_openai):
    (clips / "again.jsonl").write_text('{"video": "dark.mkv"}\n{"video": "copy.mkv"}\n{"video": "bright.mkv"}\n')
    (clips / "copy.mkv").write_bytes((clips / "dark.mkv").read_bytes())
    flags = ("--captioner", "video", "--cache", "answers")
    assert caption(cogvx, "m.jsonl", "-o", "one.jsonl", *flags).exit_code == 0
    assert caption(cogvx, "again.jsonl", "-o", "two.jsonl", *flags).exit_code == 0
    assert caption(cogvx, "again.jsonl", "-o", "two.jsonl", "--overwrite", *flags).exit_code == 0
    assert len(mock_openai.chats()) == 2
    assert len(read_manifest("two.jsonl").entries) == 3
    # Other words, another length or another model are other questions.
    (clips / "p.toml").write_text('format = "cogvx.caption/1"\n[video]\nask = "What?"\nmax_tokens = 9\n')
    assert caption(cogvx, "m.jsonl", "-o", "three.jsonl", *flags, "--prompts", "p.toml").exit_code == 0
    assert len(mock_openai.chats()) == 4 and said(mock_openai.chats()[-1]) == ["What?"]


def test_what_an_endpoint_refuses_is_an_error_of_its_clip(cogvx, clips, mock_openai):
    mock_openai.fault = lambda body, number: "content_filter" if level(images(body)[0]) < 100 else "length"
    result = caption(cogvx, "m.jsonl", "-o", "out.jsonl", "--captioner", "video")
    assert result.exit_code == 3 and "blocked" in result.stderr
    dark, bright = read_manifest("out.jsonl").entries
    assert dark["caption"] == "mine" and "blocked" in dark["errors"][0]["error"]
    assert bright["caption_outcome"] == "truncated" and bright["caption"] == "What was to be said"


def test_nobody_there(cogvx, clips, mock_openai):
    mock_openai.key = "another"
    result = caption(cogvx, "m.jsonl", "-o", "out.jsonl", "--captioner", "video", "--lm-model", "mock-1")
    assert result.exit_code == 3 and "401" in result.stderr and "canary" not in result.stderr
    assert [row["errors"][0]["exit_code"] for row in read_manifest("out.jsonl").entries] == [4, 4]
    mock_openai.key = None
    assert caption(cogvx, "m.jsonl", "-o", "out.jsonl", "--captioner", "video", "--lm-model", "mock-1").exit_code == 0
    assert all("errors" not in row for row in read_manifest("out.jsonl").entries)
    closed = caption(cogvx, "m.jsonl", "--captioner", "video", "--lm-url", "http://127.0.0.1:9/v1", "--lm-timeout", 2)
    assert closed.exit_code == 4 and "127.0.0.1:9" in closed.stderr


def test_long_captions_are_cut_at_226_tokens(cogvx, clips, mock_openai):
    mock_openai.answer = lambda body: " ".join(f"Sentence number {n} has seven words in all." for n in range(60))
    (row,) = rows_of(caption(cogvx, "dark.mkv", "--captioner", "video").stdout)
    assert row["caption_outcome"] == "truncated" and row["caption"].endswith("words in all.")
    assert row["scores"]["caption_tokens"] > 226 > len(row["caption"].split())
    assert len(row["captions"]["video"].split()) == 480
    (whole,) = rows_of(caption(cogvx, "dark.mkv", "--captioner", "video", "--max-tokens", 0).stdout)
    assert whole["caption"] == whole["captions"]["video"] and whole["caption_outcome"] == "success"


def test_a_model_in_this_process_sees_a_video(cogvx, clips, tmp_path):
    save_qwen_vl(tmp_path / "model", seed=2)
    (tmp_path / "p.toml").write_text('format = "cogvx.caption/1"\n[video]\nask = "What?"\nmax_tokens = 40\n')
    flags = ("--captioner", "video", "--lm", "transformers", "--lm-model", "model", "--prompts", "p.toml")
    result = caption(cogvx, "m.jsonl", *flags, "--lm-device", "cpu")
    assert result.exit_code == 0, result.stderr
    dark, bright = rows_of(result.stdout)
    assert dark["caption"] != bright["caption"] and dark["caption_outcome"] == "truncated"
    assert dark["made"]["caption"]["send"] == "video" and dark["made"]["caption"]["model"]["model"] == "model"
    assert str(tmp_path) not in result.stdout
    save_llama(tmp_path / "blind")
    blind = caption(cogvx, "m.jsonl", *flags[:4], "--lm-model", "blind", "--lm-device", "cpu")
    assert blind.exit_code == 2 and "sees no clips" in blind.stderr


@pytest.mark.slow
def test_after_faults_and_a_kill_every_clip_has_its_caption_and_none_is_asked_twice(cogvx, tmp_path, mock_openai):
    """200 pictures, every tenth request fails, the first run is killed in the middle."""
    rng = np.random.default_rng(0)
    for i in range(200):
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    lines = [json.dumps({"image": f"{i}.png", "mine": i}) + "\n" for i in range(200)]
    (tmp_path / "m.jsonl").write_text("".join(lines))
    mock_openai.fault = lambda body, number: FAULTS[number // 10 % len(FAULTS)] if number % 10 == 9 else None
    command = ["caption", "m.jsonl", "-o", "out.jsonl", "--captioner", "video", "--lm-model", "mock-1"]
    command += ["--cache", "answers", "-q"]
    kept = tmp_path / "answers" / "answers.jsonl"
    run = subprocess.Popen([sys.executable, "-m", "cogvx", *command, "--workers", "2"], start_new_session=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and run.poll() is None:
        if kept.exists() and kept.read_bytes().count(b"\n") >= 40:
            break
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    time.sleep(0.5)  # the workers end with their parent
    answered, before = kept.read_bytes().count(b"\n"), len(mock_openai.chats())
    assert 40 <= answered < 200
    result = cogvx(*command, "--workers", 0)
    assert result.exit_code == 0, result.stderr
    rows = read_manifest("out.jsonl").entries
    assert [row["mine"] for row in rows] == list(range(200))
    assert all(row["caption"] and "errors" not in row for row in rows)
    asked = mock_openai.chats()[before:]
    assert len({images(body)[0] for body in asked}) == 200 - answered  # nothing that was answered is asked again
    keys = [json.loads(line)["key"] for line in kept.read_bytes().splitlines()]
    assert len(keys) == len(set(keys)) == 200
    # A third run has nothing to do.
    count = len(mock_openai.chats())
    assert cogvx(*command, "--workers", 0).exit_code == 0 and len(mock_openai.chats()) == count
