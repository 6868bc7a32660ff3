"""`cogvx data label --serve` and `--export`: addresses on stdout, a kill in between, labels in a manifest."""

import json
import os
import signal

import numpy as np
import pytest
from served_page import ask_page, start_page

from cogvx.data.labels import NEGATIVE_LABELS
from cogvx.data.video import write_clip


@pytest.fixture
def clips(tmp_path):
    write_clip(tmp_path / "a.mp4", np.zeros((4, 16, 16, 3), np.uint8), 8.0)
    (tmp_path / "m.jsonl").write_text('{"video": "a.mp4"}\n{"video": "a.mp4", "start": 0.1}\n')
    return tmp_path


def test_a_killed_page_goes_on_and_its_answers_become_labels(cogvx, clips):
    answer = {"labels": dict.fromkeys(NEGATIVE_LABELS, 0) | {"lecture": 1}}
    first = start_page(clips, "data", "label", "m.jsonl", "--serve")
    url = json.loads(first.stdout.readline())["url"]
    assert ask_page(url, "/label/0", answer) == {"done": 1, "next": 1}
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    second = start_page(clips, "data", "label", "m.jsonl", "--serve")
    record = json.loads(second.stdout.readline())
    assert (record["done"], record["count"], record["rater"]) == (1, 2, "rater")
    assert record["url"].partition("token=")[2] == url.partition("token=")[2]
    assert ask_page(record["url"], "/state")["next"] == 1
    second.send_signal(signal.SIGINT)
    _, told = second.communicate(timeout=60)
    assert second.returncode == 130 and "the page is closed" in told and "Traceback" not in told
    result = cogvx("data", "label", "m.jsonl", "--export", "labels.sqlite", "-o", "o.jsonl", "--json", "-q")
    assert result.exit_code == 0 and json.loads(result.stdout)["labelled"] == 1
    first, second = map(json.loads, (clips / "o.jsonl").read_text().splitlines())
    assert first["labels"]["lecture"] == 1.0 and "labels" not in second


def test_what_cannot_be_served_or_exported(cogvx, clips):
    assert cogvx("data", "label", "-", "--serve").exit_code == 2
    assert cogvx("data", "label", "none.jsonl", "--serve").exit_code == 3
    assert cogvx("data", "label", "m.jsonl", "--export", "none.sqlite", "-o", "o.jsonl").exit_code == 3
    (clips / "text.sqlite").write_text("no database, but some text")
    assert cogvx("data", "label", "m.jsonl", "--export", "text.sqlite", "-o", "o.jsonl").exit_code == 3
    assert not (clips / "o.jsonl").exists()
