"""Checkpoints appear whole or not at all, are checked before use, and nothing else is ever removed."""

import errno
import json
import os
import random
import resource

import pytest
import torch
from safetensors.torch import load_file
from toy_task import Notes, ToyTask, run, toy_recipe

from cogvx.distributed import alone
from cogvx.errors import CogvxError, InputError, MissingError, UsageError
from cogvx.files import sweep
from cogvx.training import run_folder, storage
from cogvx.training.checkpoint import State, choose, differences, read_note, save
from cogvx.training.engine import train
from cogvx.training.optim import EMA
from cogvx.training.recipe import DataOptions
from cogvx.training.run_folder import Metrics, check, checkpoints, list_bad, prune


def make_state(steps=2, name="adamw"):
    task = ToyTask(toy_recipe(optim={"name": name}), alone())
    optimizers = task.optimizers()
    ema = EMA(task.parts, 0.9)
    for step in range(steps):
        task.loss(step, 0).value.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        ema.update(task.parts)
    return State(task.parts, optimizers, ema)


def save_plain(folder, step, state):
    return save(folder, step, state, {"fingerprint": {}}, world=alone())


def no_word(text):
    raise AssertionError(text)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_state_comes_back_bit_by_bit(tmp_path, name):
    state, other = make_state(3, name), make_state(0, name)
    path = save_plain(tmp_path, 3, state)
    check(path)
    assert {file.suffix for file in path.iterdir()} == {".safetensors", ".json"}
    other.restore(path, read_note(path)["numbers"], world=alone())
    whole = state.tensors()
    assert {key.split(".")[0] for key in whole} == {"parts", "optim", "ema"}
    assert "parts.net.count" in whole
    assert set(whole) == set(other.tensors())
    assert all(torch.equal(value, other.tensors()[key]) for key, value in whole.items())
    assert load_file(path / "state-00000-00000.safetensors").keys() == whole.keys()


def test_large_states_are_cut_into_files(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_FILE_BYTES", 500)
    state, other = make_state(), make_state(0)
    path = save_plain(tmp_path, 1, state)
    assert len(list(path.glob("*.safetensors"))) > 3
    other.restore(path, read_note(path)["numbers"], world=alone())
    assert all(torch.equal(value, other.tensors()[key]) for key, value in state.tensors().items())


def test_frozen_weights_are_not_held(tmp_path):
    state = make_state(0)
    state.parts["net"].first.requires_grad_(False)
    assert "parts.net.first.weight" not in state.tensors()


def test_tied_weights_are_held_once(tmp_path):
    parts = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2), "b": torch.nn.Linear(2, 2)})
    parts["b"].weight = parts["a"].weight
    state = State(parts, [torch.optim.AdamW(parts.parameters())], None)
    state.restore(save_plain(tmp_path, 1, state), {}, world=alone())


def test_a_state_of_another_model_is_refused(tmp_path):
    path = save_plain(tmp_path, 1, make_state())
    other = make_state(0)
    other.parts["net"].last = torch.nn.Linear(10, 5)
    with pytest.raises(InputError, match=r"parts.net.last.bias has the shape \[3\] instead of \[5\]"):
        other.restore(path, {}, world=alone())
    other.parts["net"].extra = torch.nn.Linear(1, 1)
    with pytest.raises(InputError, match="parts.net.extra.bias is missing"):
        other.restore(path, {}, world=alone())


class Injected:
    """Lets the nth of some system calls fail."""

    CALLS = ("mkdir", "open", "fsync", "rename", "replace", "chmod", "write")

    def __init__(self, monkeypatch, failing):
        self.count, self.failing, self.failed = 0, failing, None
        for name in self.CALLS:
            monkeypatch.setattr(os, name, self.wrap(name, getattr(os, name)))
        monkeypatch.setattr(storage, "save_file", self.wrap("save_file", storage.save_file))

    def wrap(self, name, real):
        def call(*args, **options):
            self.count += 1
            if self.count == self.failing:
                self.failed = name
                raise OSError(errno.ENOSPC, "No space left on device", "x")
            return real(*args, **options)

        return call


def test_a_failure_at_any_call_of_a_save_leaves_the_old_checkpoint(tmp_path):
    state = make_state()
    old = save_plain(tmp_path, 1, state)
    failed, late = [], 0
    for failing in range(1, 100):
        with pytest.MonkeyPatch.context() as patch:
            injected = Injected(patch, failing)
            try:
                save_plain(tmp_path, 2, state)
            except MissingError as error:
                assert error.exit_code == 4 and "disk full" in str(error)
        if injected.failed is None:
            break
        failed.append(injected.failed)
        check(old)
        assert choose(tmp_path, "latest", world=alone(), tell=no_word) in checkpoints(tmp_path).values()
        if (new := tmp_path / "checkpoint-000002").exists():  # only a flush and cleaning up were left to do
            late += 1
            run_folder.set_aside(new)
        sweep(tmp_path, older_than=0)  # the call that failed may be one that cleans up
    assert {"mkdir", "fsync", "rename", "save_file", "chmod"} <= set(failed)
    assert len(failed) >= 8 and late <= 5
    check(tmp_path / "checkpoint-000002")


def limited(world, folder):
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    parts = torch.nn.ModuleDict({"a": torch.nn.Linear(400, 400)})
    try:
        save(folder, 2, State(parts, [], None), {}, world=world)
    except MissingError as error:
        return str(error)


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, ranks):
    old = save_plain(tmp_path, 1, make_state())
    (message,) = ranks(1, limited, tmp_path)
    assert "disk full" in message
    check(old)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-000001"}


def test_too_little_space_is_said_before(tmp_path, monkeypatch):
    monkeypatch.setattr("cogvx.training.checkpoint.free_bytes", lambda path: 10)
    with pytest.raises(MissingError, match=r"needs [\d,]+ bytes, 10 are free"):
        save_plain(tmp_path, 1, make_state())
    assert not list(tmp_path.iterdir())


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def cut(file):
    os.truncate(file, file.stat().st_size - 3)


@pytest.mark.parametrize("damage", [flip, cut, os.remove])
@pytest.mark.parametrize("name", ["state-00000-00000.safetensors", "state.json", "COMPLETE.json"])
def test_a_damaged_newest_checkpoint_is_reported_and_passed_over(tmp_path, damage, name):
    for step in (1, 2):
        save_plain(tmp_path, step, make_state())
    newest, said = tmp_path / "checkpoint-000002", []
    damage(newest / name)
    try:
        check(newest)
    except InputError:
        pass
    else:
        assert (name, damage) == ("COMPLETE.json", flip)  # a changed byte of the marker may still be JSON
        return
    assert choose(tmp_path, "latest", world=alone(), tell=said.append) == tmp_path / "checkpoint-000001"
    assert (name, damage) == ("COMPLETE.json", os.remove) or "checkpoint-000002" in said[0]
    with pytest.raises(InputError, match="checkpoint-000002"):
        choose(tmp_path, str(newest), world=alone(), tell=no_word)


def test_a_file_that_does_not_belong_is_seen(tmp_path):
    path = save_plain(tmp_path, 1, make_state())
    (path / "state-00001-00000.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="is not part"):
        check(path)


def test_a_missing_checkpoint_is_an_error(tmp_path):
    for wanted in ("latest", str(tmp_path / "checkpoint-000007")):
        with pytest.raises(UsageError, match="no checkpoint"):
            choose(tmp_path, wanted, world=alone(), tell=no_word)
    save_plain(tmp_path, 1, make_state())
    flip(tmp_path / "checkpoint-000001" / "state.json")
    with pytest.raises(InputError, match="no checkpoint of .* is whole"):
        choose(tmp_path, "latest", world=alone(), tell=lambda text: None)


def test_another_schema_is_refused(tmp_path):
    path = save_plain(tmp_path, 1, make_state())
    (path / "state.json").write_text(json.dumps({"schema": 99}))
    with pytest.raises(UsageError, match="schema 99"):
        read_note(path)


def test_pruning_keeps_two_and_touches_nothing_else(tmp_path):
    for step in range(1, 6):
        path = tmp_path / f"checkpoint-{step:06d}"
        path.mkdir()
        (path / "COMPLETE.json").write_text("{}")
    strangers = ["checkpoint-000000", "checkpoint-000003.aside", "checkpoint-x", "checkpoint-12"]
    for name in strangers:
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-12" / "COMPLETE.json").write_text("{}")
    prune(tmp_path, keep=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*strangers, "checkpoint-000004", "checkpoint-000005"]
    )


class Killed(BaseException):
    pass


def test_after_any_history_of_saves_and_kills_a_checkpoint_can_be_loaded(tmp_path, monkeypatch):
    """A kill is an exception that nothing in the code catches, at a random call."""
    dice, state, step, saved = random.Random(0), make_state(), 0, 0
    real = {name: getattr(os, name) for name in Injected.CALLS}

    def killing(name, left):
        def call(*args, **options):
            left[0] -= 1
            if left[0] == 0:
                # What a killed process cannot do either: clean up.
                patch.setattr("cogvx.files.shutil.rmtree", lambda *args, **options: None)
                patch.setattr(os, "rename", lambda *args: (_ for _ in ()).throw(Killed))
                raise Killed
            return real[name](*args, **options)

        return call

    for _ in range(60):
        step += 1
        with pytest.MonkeyPatch.context() as patch:
            left = [dice.randrange(1, 40)]
            for name in real:
                patch.setattr(os, name, killing(name, left))
            try:
                save_plain(tmp_path, step, state)
                saved = step
                prune(tmp_path, keep=2)
            except Killed:
                pass
        if saved:
            found = read_note(choose(tmp_path, "latest", world=alone(), tell=no_word))["step"]
            assert found >= saved
    assert saved > 10


def test_metrics_are_cut_back_to_the_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = Metrics(path)
    sizes = []
    for step in range(4):
        log.write({"step": step, "loss": 0.1})
        sizes.append(log.size)
    log.close()
    with path.open("ab") as file:
        file.write(b'{"step": 4, "lo')
    whole = path.read_bytes()
    Metrics(path, size=sizes[1], step=1).close()
    assert path.read_bytes() == whole[: sizes[1]]
    # A file that was shortened keeps its whole lines up to the step.
    path.write_bytes(whole[: sizes[2] + 5])
    Metrics(path, size=sizes[3], step=3).close()
    assert path.read_bytes() == whole[: sizes[2]]


def test_a_full_disk_is_said_when_a_line_is_written(tmp_path):
    os.symlink("/dev/full", tmp_path / "metrics.jsonl")
    log = object.__new__(Metrics)
    log.path, log._file = tmp_path / "metrics.jsonl", os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(MissingError, match="disk full"):
        log.write({"step": 1})


def stopped(folder, **options):
    class Crash(Exception):
        pass

    def crash(step):
        if step == 7:
            raise Crash

    with pytest.raises(Crash):
        run(alone(), folder, toy_recipe(), before_loss=crash, **options)


CHANGES = {
    "optim.lr": {"optim": {"lr": 2e-2}},
    "run.accumulate": {"accumulate": 2},
    "run.dtype": {"dtype": "bf16"},
    "seed": {"seed": 1},
    "stages.0.steps": {"steps": 13},
}


@pytest.mark.parametrize("field", CHANGES)
def test_a_resume_that_cannot_be_exact_is_refused(tmp_path, field):
    stopped(tmp_path)
    with pytest.raises(UsageError, match=rf"{field}: .* -> .*--resume-allow-changes"):
        run(alone(), tmp_path, toy_recipe(**CHANGES[field]), resume="latest")
    report = run(alone(), tmp_path, toy_recipe(**CHANGES[field]), resume="latest", allow_changes=True)
    assert report.begun == [6]
    assert any(note.startswith(f"changed since checkpoint-000006: {field}") for note in report.notes)


def test_every_difference_is_listed(tmp_path):
    stopped(tmp_path)
    task = ToyTask(toy_recipe(optim={"lr": 1.0}), alone())
    task.identity = {"data": "other"}
    with pytest.raises(UsageError, match=r'optim.lr: 0.01 -> 1.0; task.data: "toy" -> "other"'):
        train(task, toy_recipe(optim={"lr": 1.0}), tmp_path, world=alone(), resume="latest")
    assert differences({"a": 1, "b": 2}, {"b": 2, "c": [3]}) == ["a: 1 -> nothing", "c: nothing -> [3]"]
    one, other = {"a": [{"b": 1, "c": 2}, 3], "d": [1]}, {"a": [{"b": 1, "c": 4}, 3], "d": [1, 2]}
    assert differences(one, other) == ["a.0.c: 2 -> 4", "d: [1] -> [1, 2]"]


def test_what_does_not_change_the_result_may_change(tmp_path):
    stopped(tmp_path)
    recipe = toy_recipe(log_every=5, save_every=4, keep=3)
    object.__setattr__(recipe, "data", DataOptions(train=("elsewhere.jsonl",), workers=2))
    run(alone(), tmp_path, recipe, resume="latest")


def test_an_older_checkpoint_sets_the_later_ones_aside(tmp_path):
    run(alone(), tmp_path, toy_recipe(keep=9))
    whole = (tmp_path / "metrics.jsonl").read_bytes()
    report = run(alone(), tmp_path, toy_recipe(keep=9), resume=str(tmp_path / "checkpoint-000006"))
    assert (tmp_path / "metrics.jsonl").read_bytes() == whole
    names = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
    assert names == [
        "checkpoint-000003",
        "checkpoint-000006",
        "checkpoint-000009",
        "checkpoint-000009.aside",
        "checkpoint-000012",
        "checkpoint-000012.aside",
    ]
    assert any("checkpoint-000009.aside" in note for note in report.notes)


def test_errors_are_ones_a_user_can_fix():
    assert issubclass(UsageError, CogvxError) and Notes().closed == 0


def test_an_entry_that_cannot_be_used_is_listed_once(tmp_path):
    run = tmp_path / "run"
    list_bad(run, "a", InputError("damaged"))
    path = run / "bad.jsonl"
    path.write_text(path.read_text() + '{"entry": "b", "er')  # a process was killed here
    for name in ("a", "é \n", "ab", "é \n", "a"):
        list_bad(run, name, InputError("damaged"))
    lines = path.read_text().splitlines()
    assert lines.pop(1) == '{"entry": "b", "er'
    assert [json.loads(line) for line in lines] == [{"entry": name, "error": "damaged"} for name in ("a", "é \n", "ab")]


def list_many(world, folder):
    for i in range(20):
        list_bad(folder, f"clip {i}", InputError("damaged"))


def test_ranks_share_the_list(ranks, tmp_path):
    ranks(2, list_many, tmp_path)
    assert len((tmp_path / "bad.jsonl").read_text().splitlines()) == 20
