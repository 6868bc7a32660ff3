"""Stages small enough to test what runs them; run as a script, it runs one: `toy_stages.py SOURCE TARGET WORKERS`."""

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from cogvx.errors import InputError, MissingError


@dataclass(frozen=True)
class Length:
    """Adds the length of a file's name as a score; some names do harm.

    Attributes:
        factor: A parameter.
        log: Folder where each call leaves a file, named after the process and the item.
        seconds: How long an item takes.
    """

    factor: int = 1
    log: str | None = None
    seconds: float = 0.0
    name = "length"

    def settings(self):
        return {"factor": self.factor}

    def columns(self):
        return ("scores.length", "made.length")

    def wanted(self, entry):
        return entry.get("made", {}).get("length") != self.settings()

    def open(self):
        print("this must not stand between the rows")

    def process(self, item):
        stem = item.path.stem
        if self.log is not None:
            Path(self.log, f"{os.getpid()}-{stem}-{time.monotonic_ns()}").touch()
        if self.seconds:
            time.sleep(self.seconds)
        if stem.startswith("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        if stem.startswith("hang"):
            time.sleep(1000)
        if stem.startswith("bad"):
            raise InputError(f"cannot read {item.path}: it is bad")
        if stem.startswith("missing"):
            raise MissingError("a network is missing")
        if stem.startswith("fault"):
            raise KeyError("a fault")
        if stem.startswith("nan"):
            return [item.entry | {"scores": {"length": float("nan")}}]
        scores = item.entry.get("scores", {}) | {"length": self.factor * len(stem)}
        return [item.entry | {"scores": scores, "made": item.entry.get("made", {}) | {"length": self.settings()}}]

    def close(self):
        pass


@dataclass(frozen=True)
class Halves:
    """Cuts an entry in two."""

    log: str | None = None
    name = "halves"

    def settings(self):
        return {"version": 1}

    def wanted(self, entry):
        return "halves" not in entry.get("made", {})

    def open(self):
        pass

    def process(self, item):
        if self.log is not None:
            Path(self.log, f"{item.path.stem}-{time.monotonic_ns()}").touch()
        made = item.entry.get("made", {}) | {"halves": self.settings()}
        return [item.entry | {"start": i, "end": i + 1, "made": made} for i in range(2)]

    def close(self):
        pass


@dataclass(frozen=True)
class Unable:
    """Cannot be opened: what it needs is missing, or its process dies."""

    dies: bool = False
    name = "unable"

    def settings(self):
        return {}

    def wanted(self, entry):
        return True

    def open(self):
        if self.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        raise MissingError("the extra is missing")

    def process(self, item):
        raise AssertionError

    def close(self):
        pass


def main():
    from cogvx.commands import _errors
    from cogvx.data.stages import RunOptions, run_stage

    source, target, workers, log = sys.argv[1:5]
    _errors.stop_on_signals()

    def run():
        options = RunOptions(workers=int(workers))
        stage = Length(log=log, seconds=float(sys.argv[5]))
        result = run_stage(stage, source, target, options=options, on_stop=lambda: print("stopping", file=sys.stderr))
        print(result, file=sys.stderr)

    sys.exit(_errors.run(run))


if __name__ == "__main__":
    main()
