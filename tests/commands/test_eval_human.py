"""`cogvx eval human`: a study made, judged over HTTP through a kill, and reported."""

import json
import math
import os
import signal

import numpy as np
import pytest
from served_page import ask_page, start_page

from cogvx.data.video import write_clip


@pytest.fixture
def systems(tmp_path):
    for level, name in enumerate(("ours", "theirs")):
        (tmp_path / name).mkdir()
        for index in range(2):
            frames = np.full((3, 16, 16, 3), 99 * level + index, np.uint8)
            write_clip(tmp_path / name / f"prompt {index}-0.mp4", frames, 8.0)
    return tmp_path


def test_a_study_from_clips_to_tables(cogvx, systems, monkeypatch):
    monkeypatch.chdir(systems)
    made = cogvx("eval", "human", "make", "ours=ours", "theirs=theirs", "-o", "study", "--mode", "pairwise", "--json")
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["items"] == 2
    first = start_page(systems, "eval", "human", "serve", "study")
    url = json.loads(first.stdout.readline())["url"]
    assert ask_page(url, "/vote/0", {"choice": "a"}) == {"done": 1, "next": 1}
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    second = start_page(systems, "eval", "human", "serve", "study")
    record = json.loads(second.stdout.readline())
    assert (record["done"], record["count"]) == (1, 2) and record["url"].partition("token=")[2] in url
    assert ask_page(record["url"], "/vote/1", {"choice": "tie"}) == {"done": 2, "next": None}
    second.send_signal(signal.SIGINT)
    _, told = second.communicate(timeout=60)
    assert second.returncode == 130 and "the page is closed" in told and "Traceback" not in told
    shown = cogvx("eval", "human", "report", "study", "-o", "r.json", "--markdown", "r.md")
    assert shown.exit_code == 0 and "no bounds" in shown.stdout  # drawn again, two votes may be two wins
    result = json.loads((systems / "r.json").read_text())
    assert {"metric", "value", "n", "per_video", "protocol", "backend", "version"} <= result.keys() and result["n"] == 2
    strongest, weakest = result["value"]["ranking"].values()  # one win and one tie
    assert strongest["rating"] - weakest["rating"] == pytest.approx(400 * math.log10(3), abs=0.1)
    assert (systems / "r.md").read_text() == shown.stdout
    assert cogvx("eval", "human", "report", "study", "-o", "r.json").exit_code == 2
    line = json.loads(cogvx("eval", "human", "report", "study", "--json").stdout)
    assert line == {key: value for key, value in result.items() if key != "per_video"}


def test_what_cannot_be_made(cogvx, systems, monkeypatch):
    monkeypatch.chdir(systems)
    (systems / "ours" / "broken-0.mp4").write_bytes(b"nothing")
    for arguments, code, why in (
        (["ours"], 2, "NAME="),
        (["a=ours", "a=theirs"], 2, "a name of its own"),
        (["a=missing"], 3, "missing"),
        (["a=theirs", "b=theirs", "--both-seats"], 2, "--both-seats"),
        (["a=ours", "b=theirs"], 3, "broken-0.mp4"),  # the others are in the study
    ):
        result = cogvx("eval", "human", "make", *arguments, "-o", "s")
        assert result.exit_code == code and why in result.stderr, result.stderr
    assert (systems / "s" / "study.json").is_file()
    assert cogvx("eval", "human", "serve", "ours").exit_code == 3
    assert cogvx("eval", "human", "report", "s").exit_code == 3
