"""`kill -9` at any moment, then --resume latest: the end is the same, bit by bit."""

import multiprocessing
import os
import random
import signal
import time

import pytest
import torch
from toy_task import digest, run, toy_recipe

from cogvx.distributed import alone
from cogvx.training import storage
from cogvx.training.run_folder import checkpoints

SERVER = multiprocessing.get_context("forkserver")
PRELOADED = ["torch", "torch.distributed.fsdp", "cogvx.models.transformer", "pytest", "toy_task"]
CALLS = ("mkdir", "open", "fsync", "rename", "chmod", "write", "ftruncate")
RECIPES = {
    "toy": toy_recipe(45, log_every=2, save_every=3, validate_every=5, preview_every=20),
    "transformer": toy_recipe(15, log_every=2, save_every=3, optim={"name": "muon"}),
}


def kill_at_call(number):
    """Kill this process at one of its system calls."""
    left = [number]

    def killing(real):
        def call(*args, **options):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **options)

        return call

    for name in CALLS:
        setattr(os, name, killing(getattr(os, name)))
    storage.save_file = killing(storage.save_file)


def train_toy(task, folder, kill_after):
    torch.set_num_threads(1)
    resume = "latest" if checkpoints(folder) else None
    if kill_after is not None:
        kill_at_call(kill_after)
    run(alone(), folder, RECIPES[task], task=task, resume=resume)


def train_in_process(task, folder, *, seconds=None, calls=None):
    """Train until killed, by time or at a system call; tell whether it was."""
    SERVER.set_forkserver_preload(PRELOADED)
    process = SERVER.Process(target=train_toy, args=(task, folder, calls))
    process.start()
    process.join(seconds)
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


@pytest.mark.slow
@pytest.mark.parametrize("task,trials", [("toy", 10), ("transformer", 3)])
def test_killed_runs_end_as_one_that_was_not(tmp_path, task, trials):
    train_in_process(task, tmp_path / "first", calls=1)  # starts the server
    started = time.monotonic()
    assert not train_in_process(task, tmp_path / "whole")
    duration, whole = time.monotonic() - started, digest(tmp_path / "whole")
    dice, kills, inside = random.Random(1), 0, 0
    for trial in range(trials):
        folder = tmp_path / f"killed-{trial}"
        for attempt in range(3):
            if attempt % 2:
                kills += train_in_process(task, folder, seconds=dice.uniform(0.2, 0.7) * duration)
            else:  # at a call of a save, so that some come inside one for certain
                kills += train_in_process(task, folder, calls=dice.randrange(5, 80))
                inside += bool(list(folder.glob(".cogvx-tmp-*")))
        train_in_process(task, folder)
        assert digest(folder) == whole
        assert not list(folder.glob(".cogvx-tmp-*"))
    assert kills >= 2 * trials
    assert inside >= trials / 2
