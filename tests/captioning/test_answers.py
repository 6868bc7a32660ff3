"""Answers that are kept: found again, by other processes too, after any kill, and never asked twice."""

import json
import multiprocessing
import os
import signal
import time

import pytest
from kept_answers import ask_all

from cogvx.captioning.answers import FILE, Answers, question_key
from cogvx.errors import UsageError
from cogvx.language.ask import Answer


def said(text, outcome="success"):
    return lambda: Answer(text, outcome, model="m", completion_tokens=3)


def never():
    raise AssertionError("it is asked although the answer is there")


def test_an_answer_is_found_again(tmp_path):
    first = Answers(tmp_path / "a")
    given = first.get({"clip": "x", "n": 1}, said("a red\nboat \u2028 é"))
    assert first.get({"n": 1, "clip": "x"}, never).text == given.text == "a red\nboat \u2028 é"
    second = Answers(tmp_path / "a")
    found = second.get({"clip": "x", "n": 1}, never)
    assert (found.text, found.model, found.completion_tokens, found.tries) == (given.text, "m", 3, 0)
    assert second.get({"clip": "x", "n": 2}, said("b")).text == "b"
    # What one process writes while another has the folder open is found too.
    assert first.get({"clip": "x", "n": 2}, never).text == "b"


def test_without_a_folder_answers_live_as_long_as_the_object():
    answers = Answers(None)
    answers.get({"n": 1}, said("a"))
    assert answers.get({"n": 1}, never).text == "a"


@pytest.mark.parametrize(("outcome", "kept"), [("truncated", True), ("blocked", True), ("error", False)])
def test_what_failed_is_asked_again(tmp_path, outcome, kept):
    Answers(tmp_path).get({"n": 1}, said("x", outcome))
    again = Answers(tmp_path).get({"n": 1}, never if kept else said("y"))
    assert (again.text, again.outcome) == (("x", outcome) if kept else ("y", "success"))


@pytest.mark.parametrize(
    "torn", [b'{"key": "ab', b"nonsense\n", b"\n\n", b'{"key": 1, "text": 2, "outcome": "success"}\n']
)
def test_a_torn_line_loses_only_itself(tmp_path, torn):
    Answers(tmp_path).get({"n": 1}, said("a"))
    with open(tmp_path / FILE, "ab") as file:
        file.write(torn)
    answers = Answers(tmp_path)
    answers.get({"n": 2}, said("b"))
    again = Answers(tmp_path)
    assert [again.get({"n": n}, never).text for n in (1, 2)] == ["a", "b"]


def test_everything_counts_for_the_key():
    one = {"clip": "x", "parameters": {"temperature": 0.0}}
    assert question_key(one) == question_key(json.loads(json.dumps(one)))
    assert len({question_key(q) for q in (one, one | {"clip": "y"}, one | {"parameters": {"temperature": 1.0}})}) == 3


def test_processes_share_the_questions_and_ask_none_twice(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=ask_all, args=(str(tmp_path), 60, number)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    asked = [line.split()[1] for line in (tmp_path / "asked.txt").read_text().splitlines()]
    assert sorted(map(int, asked)) == list(range(60))
    answers = Answers(tmp_path / "answers")
    assert [answers.get({"n": n}, never).text for n in range(60)] == [f"answer {n}" for n in range(60)]


def test_a_process_that_is_killed_loses_nothing_that_it_was_told(tmp_path):
    context = multiprocessing.get_context("spawn")
    worker = context.Process(target=ask_all, args=(str(tmp_path), 10_000, 0))
    worker.start()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (tmp_path / "asked.txt").exists():
        time.sleep(0.01)
    time.sleep(0.1)
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    asked = len((tmp_path / "asked.txt").read_text().splitlines())
    answers, again = Answers(tmp_path / "answers"), []
    for number in range(asked):
        answers.get({"n": number}, lambda number=number: again.append(number) or Answer("x", "success"))
    assert asked > 0 and len(again) <= 1  # at most the one whose answer was on its way


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot keep answers"):
        Answers(tmp_path / "file")
