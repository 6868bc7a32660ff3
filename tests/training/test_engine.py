"""The loop: what it computes, logs and writes, and how it stops."""

import hashlib
import json
import math
import multiprocessing
import os
import signal
import time

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from toy_task import BATCH, Notes, ToyTask, losses, run, toy_recipe

from cogvx.distributed import alone
from cogvx.errors import MissingError, UsageError
from cogvx.training.checkpoint import read_note
from cogvx.training.engine import train
from cogvx.training.optim import EMA, lr_factor, make_optimizers
from cogvx.training.recipe import Stage
from cogvx.training.run_folder import check, checkpoints


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_metrics_checkpoints_and_the_result(tmp_path):
    report = run(alone(), tmp_path / "run", toy_recipe(preview_every=6))
    folder = tmp_path / "run"
    assert [record["step"] for record in records(folder)] == [0, 2, 4, 4, 6, 8, 8, 10, 12, 12]
    assert report.records == records(folder)
    assert report.begun == [0] and report.steps == list(range(1, 13)) and report.closed == 1
    assert list(checkpoints(folder)) == [9, 12]
    for path in checkpoints(folder).values():
        check(path)
    assert not list(folder.glob(".cogvx-tmp-*"))
    line = records(folder)[1]
    assert line["loss"] == pytest.approx(line["again"])
    assert (line["clips"], line["tokens"]) == (2 * BATCH, 12 * BATCH)
    assert {"lr", "grad_norm"} < set(line)
    assert "seconds" not in line and "seconds" in json.loads((folder / "speed.jsonl").read_text().splitlines()[0])
    assert (folder / "samples" / "step-000006" / "numbers.json").exists()
    assert losses(folder)[-1] < losses(folder)[0]


def test_the_result_is_the_running_mean(tmp_path):
    recipe, world = toy_recipe(6, optim={"clip": 0.05, "decay": "constant"}), alone()
    run(world, tmp_path, recipe)
    # The same steps by hand.
    task = ToyTask(recipe, world)
    (optimizer,) = task.optimizers()
    mean = {name: weight.detach().clone() for name, weight in task.parts["net"].named_parameters()}
    for step in range(6):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * min(1, (step + 1) / 3)
        task.loss(step, 0).value.backward()
        nn.utils.clip_grad_norm_(task.parts.parameters(), 0.05)
        optimizer.step()
        optimizer.zero_grad()
        decay = min(0.9, (2 + step) / (11 + step))
        for name, weight in task.parts["net"].named_parameters():
            mean[name] = decay * mean[name] + (1 - decay) * weight.detach()
    result = load_file(tmp_path / "model" / "net.safetensors")
    for name, weight in mean.items():
        torch.testing.assert_close(result[name], weight, rtol=1e-4, atol=1e-6)


def test_accumulated_micro_batches_are_one_batch(tmp_path):
    run(alone(), tmp_path / "one", toy_recipe())
    run(alone(), tmp_path / "four", toy_recipe(accumulate=4))
    assert losses(tmp_path / "four") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_without_a_running_mean_the_result_is_the_weights(tmp_path, name):
    recipe = toy_recipe(optim={"ema": 0, "name": name})
    task = ToyTask(recipe, alone())
    train(task, recipe, tmp_path, world=alone())
    result = load_file(tmp_path / "model" / "net.safetensors")
    assert all(torch.equal(result[name], value) for name, value in task.parts["net"].state_dict().items())


def test_bf16_is_another_arithmetic_with_the_same_weights(tmp_path):
    run(alone(), tmp_path / "a", toy_recipe(dtype="fp32"))
    run(alone(), tmp_path / "b", toy_recipe(dtype="bf16"))
    a, b = losses(tmp_path / "a"), losses(tmp_path / "b")
    assert a != b
    assert a == pytest.approx(b, rel=0.1)
    assert load_file(tmp_path / "b" / "model" / "net.safetensors")["first.weight"].dtype == torch.float32


def test_a_stage_may_have_its_own_rate(tmp_path):
    stages = (Stage(steps=4), Stage(steps=4, lr=1e-3))
    run(alone(), tmp_path, toy_recipe(stages=stages, optim={"decay": "constant"}))
    lines = [record for record in records(tmp_path) if "loss" in record]
    assert [record["stage"] for record in lines] == [0, 0, 1, 1]
    assert [record["lr"] for record in lines][1:] == [1e-2, 1e-3, 1e-3]


def test_schedules():
    cosine = [lr_factor(step, 110, warmup=10, decay="cosine") for step in range(110)]
    assert cosine[:2] == pytest.approx([0.1, 0.2])
    assert cosine[10] == 1 and cosine[60] == pytest.approx(0.5) and cosine[-1] < 0.001
    assert [lr_factor(step, 10, warmup=0, decay="constant") for step in (0, 9)] == [1, 1]
    assert lr_factor(99, 100, warmup=0, decay="trapezoid") == pytest.approx(1 / 40)


def test_the_running_mean_takes_the_weights_place_for_a_while():
    net = nn.Linear(2, 2)
    ema = EMA(net, 0.5)
    before = net.weight.detach().clone()
    with torch.no_grad():
        net.weight.add_(1)
    with ema.in_place(net):
        assert torch.equal(net.weight, before)
    assert torch.equal(net.weight, before + 1) and torch.equal(ema.weights["weight"], before)


def test_eight_bits_need_cuda():
    with pytest.raises(MissingError, match="CUDA"):
        make_optimizers(nn.Linear(2, 2), lr=1e-3, name="adamw8bit")


@pytest.mark.parametrize("bad", ["loss", "gradient"])
def test_a_loss_that_is_no_number_stops_with_the_last_good_state(tmp_path, bad):
    options = {"nan_at": 7} if bad == "loss" else {}
    task = ToyTask(toy_recipe(), alone(), **options)
    if bad == "gradient":
        weight = task.parts["net"].first.weight
        task.before_loss = lambda step: step == 7 and weight.register_hook(lambda grad: grad * math.inf)
    with pytest.raises(UsageError, match=r"step 8, so training stops.*checkpoint-000007"):
        train(task, toy_recipe(), tmp_path, world=alone(), report=Notes())
    assert list(checkpoints(tmp_path)) == [6, 7]
    note = read_note(tmp_path / "checkpoint-000007")
    assert note["step"] == 7
    assert all(torch.isfinite(w).all() for w in task.parts.parameters())
    run(alone(), tmp_path, toy_recipe(), resume="latest")
    run(alone(), tmp_path / "whole", toy_recipe())
    assert (tmp_path / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_step_with_a_checkpoint(tmp_path, number, capfd):
    class Terminated(BaseException):
        pass

    def terminate(number, frame):
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        kind = KeyboardInterrupt if number == signal.SIGINT else Terminated
        with pytest.raises(kind):
            run(alone(), tmp_path, toy_recipe(), before_loss=lambda step: step == 3 and os.kill(os.getpid(), number))
        assert signal.getsignal(signal.SIGTERM) is terminate
    finally:
        signal.signal(signal.SIGTERM, before)
    assert list(checkpoints(tmp_path)) == [3, 4]
    assert "stopping after this step" in capfd.readouterr().err
    run(alone(), tmp_path, toy_recipe(), resume="latest")
    run(alone(), tmp_path / "whole", toy_recipe())
    assert (tmp_path / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


def test_a_second_interrupt_ends_at_once(tmp_path):
    def twice(step):
        if step == 4:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            raise AssertionError("went on")

    with pytest.raises(KeyboardInterrupt):
        run(alone(), tmp_path, toy_recipe(), before_loss=twice)
    assert list(checkpoints(tmp_path)) == [3]


def compute_for_long(folder, pipe):
    os.dup2(pipe.fileno(), 2)

    def compute(step):
        if step == 2:
            os.write(2, b"computing")
            # Python's own signal handlers wait for the end of this, as they do in a backward pass.
            hashlib.pbkdf2_hmac("sha256", b"", b"", 100_000_000)

    run(alone(), folder, toy_recipe(), before_loss=compute)


def seconds_until_a_signal_is_answered(folder):
    server = multiprocessing.get_context("forkserver")
    ours, theirs = server.Pipe(duplex=False)
    process = server.Process(target=compute_for_long, args=(folder, theirs))
    process.start()
    theirs.close()
    said = b""
    while not said.endswith(b"computing"):
        said += os.read(ours.fileno(), 100)
    started = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    assert b"SIGINT: stopping after this step" in os.read(ours.fileno(), 100)
    seconds = time.monotonic() - started
    os.kill(process.pid, signal.SIGINT)
    process.join(5)
    assert process.exitcode == 130
    return seconds


def test_signals_are_heard_while_the_main_thread_computes(tmp_path):
    # Another process may have the processor at that moment; not three times.
    seconds = (seconds_until_a_signal_is_answered(tmp_path / str(turn)) for turn in range(3))
    assert any(one < 0.2 for one in seconds)


def test_a_folder_takes_one_run_at_a_time(tmp_path):
    def second(step):
        if step == 0:
            with pytest.raises(UsageError, match=f"in use by process {os.getpid()}"):
                run(alone(), tmp_path, toy_recipe())

    run(alone(), tmp_path, toy_recipe(), before_loss=second)


def test_a_new_run_does_not_take_an_old_ones_folder(tmp_path):
    run(alone(), tmp_path, toy_recipe())
    with pytest.raises(UsageError, match="--resume latest"):
        run(alone(), tmp_path, toy_recipe())
