"""`cogvx data label --serve` and `--export`: addresses on stdout, a kill in between, labels in a manifest."""

import http.client
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from cogvx.data.labels import NEGATIVE_LABELS
from cogvx.data.video import write_clip


@pytest.fixture
def clips(tmp_path):
    write_clip(tmp_path / "a.mp4", np.zeros((4, 16, 16, 3), np.uint8), 8.0)
    (tmp_path / "m.jsonl").write_text('{"video": "a.mp4"}\n{"video": "a.mp4", "start": 0.1}\n')
    return tmp_path


def start(folder):
    command = [sys.executable, "-m", "cogvx", "data", "label", "m.jsonl", "--serve", "--port", "0", "--json"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ask(url, path, body=None):
    place, _, token = url.removeprefix("http://").partition("/?token=")
    connection = http.client.HTTPConnection(place, timeout=60)
    headers = {"X-Cogvx-Token": token, "Content-Type": "application/json"}
    connection.request("POST" if body else "GET", path, json.dumps(body) if body else None, headers)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer


def test_a_killed_page_goes_on_and_its_answers_become_labels(cogvx, clips):
    answer = {"labels": dict.fromkeys(NEGATIVE_LABELS, 0) | {"lecture": 1}}
    first = start(clips)
    url = json.loads(first.stdout.readline())["url"]
    assert ask(url, "/label/0", answer) == {"done": 1, "next": 1}
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    second = start(clips)
    record = json.loads(second.stdout.readline())
    assert (record["done"], record["count"], record["rater"]) == (1, 2, "rater")
    assert record["url"].partition("token=")[2] == url.partition("token=")[2]
    assert ask(record["url"], "/state")["next"] == 1
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
