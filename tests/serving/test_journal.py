"""Answers that stay: the latest counts, other files are refused, and a kill loses nothing that was confirmed."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading

import pytest

from cogvx.errors import InputError, UsageError
from cogvx.serving.journal import Journal

ABOUT = {"labels": ["a", "b"]}


def test_the_latest_answer_of_each_rater_counts(tmp_path):
    with Journal(tmp_path / "j.sqlite", "labels", ABOUT) as journal:
        for rater in ("anna", "ben"):
            journal.token(rater)
        journal.add("anna", "clip", {"a": 0}, seconds=2.5)
        journal.add("ben", "clip", {"a": 1})
        journal.add("anna", "clip", {"a": 1, "b": "é😀"})
        journal.add("anna", "other", {"a": 0})
        found = [(answer.item, answer.rater, answer.answer) for answer in journal.latest()]
        both = [("clip", "anna", {"a": 1, "b": "é😀"}), ("clip", "ben", {"a": 1})]
        assert found == [*both, ("other", "anna", {"a": 0})]
        assert [answer.item for answer in journal.latest(rater="anna")] == ["clip", "other"]
        assert [answer.rater for answer in journal.latest(item="clip")] == ["anna", "ben"]
        assert [answer.seconds for answer in journal.latest(rater="ben", item="clip")] == [None]
        assert journal.count() == 4 and journal.raters() == ["anna", "ben"] and journal.about == ABOUT


def test_a_token_stays_and_is_nobody_elses(tmp_path):
    path = tmp_path / "j.sqlite"
    with Journal(path, "labels", ABOUT) as journal:
        first = journal.token("anna")
    with Journal(path, "labels", ABOUT) as journal:
        assert journal.token("anna") == first != journal.token("ben") and len(first) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_other_files_are_refused_and_stay(tmp_path):
    path = tmp_path / "j.sqlite"
    Journal(path, "labels", ABOUT).close()
    with pytest.raises(UsageError, match="it holds labels, not votes"):
        Journal(path, "votes", ABOUT)
    with pytest.raises(UsageError, match="answers to other questions"):
        Journal(path, "labels", {"labels": ["c"]})
    Journal(path, "labels").close()
    with pytest.raises(InputError, match="no such file"):
        Journal(tmp_path / "none.sqlite", "labels")
    (tmp_path / "text").write_bytes(b"some text that is not a database" * 100)
    with pytest.raises(InputError, match="damaged, or no SQLite file"):
        Journal(tmp_path / "text", "labels", ABOUT)
    with sqlite3.connect(tmp_path / "mine.sqlite") as file:
        file.execute("CREATE TABLE mine (x)")
    with pytest.raises(InputError, match="no file of answers"):
        Journal(tmp_path / "mine.sqlite", "labels", ABOUT)
    with sqlite3.connect(path) as file:
        file.execute("PRAGMA user_version = 99")
    with pytest.raises(UsageError, match="newer cogvx"):
        Journal(path, "labels", ABOUT)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot write"):
        Journal(tmp_path / "file" / "j.sqlite", "labels", ABOUT)


def test_many_threads_write_at_a_time(tmp_path):
    with Journal(tmp_path / "j.sqlite", "labels", ABOUT) as one, Journal(tmp_path / "j.sqlite", "labels", ABOUT) as two:
        for rater in "abcd":
            one.token(rater)

        def work(journal, rater):
            for number in range(25):
                journal.add(rater, f"clip {number}", {"n": number})

        threads = [threading.Thread(target=work, args=((one, two)[i % 2], rater)) for i, rater in enumerate("abcd")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert one.count() == two.count() == 100


KILLED = """
import sys
from cogvx.serving.journal import Journal
journal = Journal(sys.argv[1], "labels", {})
journal.token("anna")
for number in range(10**6):
    journal.add("anna", str(number), {"n": number})
    print(number, flush=True)
"""


def test_what_was_confirmed_survives_a_kill(tmp_path):
    path = tmp_path / "j.sqlite"
    child = subprocess.Popen([sys.executable, "-c", KILLED, path], stdout=subprocess.PIPE, text=True)
    for _ in range(20):
        last = int(child.stdout.readline())
    os.kill(child.pid, signal.SIGKILL)
    told = [last, *map(int, child.stdout.read().split())]
    child.wait()
    child.stdout.close()
    with Journal(path, "labels", {}) as journal:
        found = {answer.answer["n"] for answer in journal.latest()}
        assert set(range(told[-1] + 1)) <= found <= set(range(told[-1] + 2))
        journal.add("anna", "after", {})
