"""Checkpoints of older versions go on: the next losses are those that the version itself had.

`python tests/training/test_old_checkpoints.py FOLDER` makes the folder of the present version, once it is released.
"""

import json
import shutil
import sys
from pathlib import Path

import pytest

from cogvx.distributed import alone
from cogvx.training.engine import train
from cogvx.training.plot import read_metrics
from cogvx.training.recipe import OptimOptions, RunOptions

OLD = sorted((Path(__file__).parents[1] / "data").glob("ckpt-v*"))


def begin(dit, folder, steps, resume=None):
    recipe = dit.make_recipe(
        steps=steps,
        transformer={"num_layers": 1, "num_attention_heads": 1, "time_embed_dim": 16},
        packs=2,
        optim=OptimOptions(name="muon", lr=1e-2, warmup=2, ema=0.9, decay="constant"),
        run=RunOptions(dtype="fp32", log_every=1, save_every=3, validate_every=3),
    )
    task = dit.make_task(recipe, dit.Clips(dit.SHAPES, encoded=True), held_out=2)
    train(task, recipe, folder, world=alone(), resume=resume, allow_changes=resume is not None)
    return read_metrics(folder)


@pytest.mark.parametrize("old", OLD, ids=lambda path: path.name)
def test_an_old_checkpoint_goes_on(dit, tmp_path, old):
    run = tmp_path / "run"
    shutil.copytree(old, run)
    expected = read_metrics(old / "golden.jsonl")
    found = begin(dit, run, 6, resume="latest")
    assert len(found) == len(expected) and [record["step"] for record in found][-1] == 6
    for got, want in zip(found, expected, strict=True):
        assert got.keys() == want.keys()
        assert list(got.values()) == pytest.approx(list(want.values()), rel=1e-4)


def test_there_are_old_checkpoints_and_they_are_small():
    assert OLD
    for old in OLD:
        assert sum(path.stat().st_size for path in old.rglob("*")) < 200_000


def make(folder):
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    import conftest as dit

    begin(dit, folder, 3)
    whole = folder.with_name(folder.name + "-whole")
    records = begin(dit, whole, 6)
    (folder / "golden.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    shutil.rmtree(whole)
    shutil.rmtree(folder / "model")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
