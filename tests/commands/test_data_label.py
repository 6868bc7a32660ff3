import json

import numpy as np
import pytest

from cogvx.data.labels import NEGATIVE_LABELS
from cogvx.data.video import write_clip


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def clips(tmp_path):
    for i in range(3):
        write_clip(tmp_path / f"{i}.mkv", np.full((5, 16, 16, 3), i * 90, np.uint8), 5.0)
    return write(tmp_path / "clips.jsonl", [{"video": f"{i}.mkv", "caption": f"clip {i}"} for i in range(3)])


def numbers(value):
    return json.dumps({label: value for label in NEGATIVE_LABELS})


def test_a_language_model_labels_a_manifest_and_only_what_is_missing(cogvx, clips, tmp_path, mock_openai):
    mock_openai.fault = lambda body, number: None
    mock_openai.answer = lambda body: numbers(0.25)
    asked = ("data", "label", clips, "-o", "out.jsonl", "--workers", 0, "--lm-model", "mock-1", "--frames", 2)
    done = cogvx(*asked)
    assert done.exit_code == 0, done.output
    assert done.stdout == "out.jsonl\n"
    rows = read(tmp_path / "out.jsonl")
    assert [row["caption"] for row in rows] == ["clip 0", "clip 1", "clip 2"]
    assert all(row["labels"] == {label: 0.25 for label in NEGATIVE_LABELS} for row in rows)
    cogvx(*asked)
    assert len(mock_openai.chats()) == 3


def test_a_clip_without_a_usable_answer_fails_alone(cogvx, clips, tmp_path, mock_openai):
    mock_openai.answer = lambda body: "cannot say"
    answers = {}

    def answer(body):
        number = len(mock_openai.chats())
        answers[number] = body
        return numbers(0.5) if number in (1, 4) else "cannot say"

    mock_openai.answer = answer
    done = cogvx("data", "label", clips, "-o", "out.jsonl", "--workers", 0, "--lm-model", "mock-1", "--frames", 1)
    assert done.exit_code == 3
    assert "gave no answer that can be used" in done.stderr and "1.mkv" in done.stderr
    rows = read(tmp_path / "out.jsonl")
    assert ["labels" in row for row in rows] == [True, False, True]
    assert rows[1]["errors"][0]["stage"] == "label"
    mock_openai.answer = lambda body: numbers(0.75)
    assert (
        cogvx(
            "data", "label", clips, "-o", "out.jsonl", "--workers", 0, "--lm-model", "mock-1", "--frames", 1
        ).exit_code
        == 0
    )
    assert [row["labels"]["text"] for row in read(tmp_path / "out.jsonl")] == [0.5, 0.75, 0.5]


def test_own_questions_give_own_labels(cogvx, clips, tmp_path, mock_openai):
    printed = cogvx("data", "label", "--print-questions")
    assert printed.exit_code == 0 and "[labels]" in printed.stdout
    head = printed.stdout.partition("[labels]")[0]
    (tmp_path / "mine.toml").write_text(head + '[labels]\nsmoke = "Is there smoke?"\n')
    mock_openai.answer = lambda body: '{"smoke": 1}'
    done = cogvx(
        "data", "label", clips, "-o", "-", "--workers", 0, "--lm-model", "mock-1", "--questions", "mine.toml", "-q"
    )
    assert [json.loads(line)["labels"] for line in done.stdout.splitlines()] == [{"smoke": 1.0}] * 3


@pytest.fixture
def trained(cogvx, tmp_path):
    """A filter that tells text from its area, the clips that it was trained on, and others."""
    rng = np.random.default_rng(0)

    def rows(count, start):
        found = []
        for i in range(start, start + count):
            area = float(rng.random())
            found.append({"video": f"film-{i % 15}.mp4", "start": float(i), "end": i + 1.0, "scores": {"area": area}})
            found[-1] |= {"made": {"area": {"version": 1}}, "labels": {"text": float(area > 0.6)}}
        return found

    write(tmp_path / "train.jsonl", rows(90, 0))
    write(tmp_path / "new.jsonl", rows(40, 200))
    done = cogvx("train", "filter", "train.jsonl", "-o", "run", "--set", "frames.network=none", "-q")
    assert done.exit_code == 0, done.output
    return tmp_path


def test_from_labels_to_a_filter_to_a_report(cogvx, trained):
    done = cogvx("data", "label", "new.jsonl", "--filter", "run", "-o", "found.jsonl", "--workers", 0)
    assert done.exit_code == 0, done.output
    found, truth = read(trained / "found.jsonl"), read(trained / "new.jsonl")
    right = sum((f["labels"]["text"] >= 0.5) == bool(t["labels"]["text"]) for f, t in zip(found, truth, strict=True))
    assert right >= 37
    shown = cogvx("data", "label", "--report", "found.jsonl", "--truth", "new.jsonl", "--json")
    assert shown.exit_code == 0, shown.output
    record = json.loads(shown.stdout)
    assert record["per_label"]["text"]["accuracy"] == pytest.approx(right / 40, abs=1e-4)
    table = cogvx("data", "label", "found.jsonl", "--report", "--truth", "new.jsonl", "--calibrate", "accuracy")
    header, row = table.stdout.splitlines()
    assert header.split()[:6] == ["Classifier", "TP", "FP", "TN", "FN", "Acc"] and row.split()[0] == "text"
    assert float(row.split()[5]) >= right / 40 - 0.005
    assert "labels.text < " in table.stderr
    given = cogvx("data", "label", "--report", "found.jsonl", "--truth", "new.jsonl", "--threshold", "text=1", "--json")
    assert json.loads(given.stdout)["per_label"]["text"]["tp"] == 0


def test_the_condition_that_calibration_prints_can_be_selected_by(cogvx, trained):
    cogvx("data", "label", "new.jsonl", "--filter", "run", "-o", "found.jsonl", "--workers", 0)
    shown = cogvx("data", "label", "--report", "found.jsonl", "--truth", "new.jsonl", "--calibrate", "f1")
    condition = shown.stderr.split('--where "')[1].split('"')[0]
    done = cogvx("data", "select", "found.jsonl", "-o", "kept.jsonl", "--where", condition, "--keep-only")
    assert done.exit_code == 0, done.output
    truth = {(row["video"], row["start"]): row["labels"]["text"] for row in read(trained / "new.jsonl")}
    kept = [truth[(row["video"], row["start"])] for row in read(trained / "kept.jsonl")]
    assert kept and sum(kept) <= 2


def test_a_clip_without_its_scores_names_the_command(cogvx, trained):
    write(trained / "bare.jsonl", [{"video": "a.mp4"}])
    done = cogvx("data", "label", "bare.jsonl", "--filter", "run", "-o", "found.jsonl", "--workers", 0)
    assert done.exit_code == 3 and "cogvx data score" in done.stderr


@pytest.mark.parametrize(
    "arguments,message",
    [
        ([], "name a MANIFEST"),
        (["clips.jsonl", "--labeller", "filter"], "--filter DIR"),
        (["clips.jsonl", "--filter", "x", "--labeller", "lm"], "--filter is for --labeller filter"),
        (["clips.jsonl", "--filter", "x", "--questions", "q"], "--questions is for a language model"),
        (["clips.jsonl", "--truth", "t.jsonl"], "--truth is for --report"),
        (["clips.jsonl", "--report"], "--truth TRUTH.jsonl"),
        (["clips.jsonl", "--report", "--serve"], "exclude each other"),
        (["clips.jsonl", "--labels", "blur"], "no question for the label blur"),
    ],
)
def test_flags_that_do_not_go_together(cogvx, clips, arguments, message):
    done = cogvx("data", "label", *arguments)
    assert done.exit_code == 2 and message in done.stderr, done.stderr


def test_a_folder_without_a_filter_is_named(cogvx, clips, tmp_path):
    (tmp_path / "empty").mkdir()
    done = cogvx("data", "label", clips, "--filter", "empty", "-o", "out.jsonl", "--workers", 0)
    assert done.exit_code == 3 and "`cogvx train filter` makes one" in done.stderr
