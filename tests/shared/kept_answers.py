"""Processes that ask the same questions and keep the answers in one folder."""

import os
from pathlib import Path

from cogvx.captioning.answers import Answers
from cogvx.language.ask import Answer


def ask_all(folder, count, number):
    """Ask questions 0...count-1, beginning at another one in each process; note each that is asked."""
    answers = Answers(Path(folder, "answers"))
    log = os.open(Path(folder, "asked.txt"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def ask(n):
        os.write(log, f"{number} {n}\n".encode())
        return Answer(f"answer {n}", "success")

    for i in range(count):
        n = (i + 7 * number) % count
        assert answers.get({"n": n}, lambda n=n: ask(n)).text == f"answer {n}"
