"""Clips in files as the VAE's training reads them, and a whole run on them."""

import json

import numpy as np
import pytest

from cogvx.data.video import write_clip
from cogvx.distributed import alone
from cogvx.errors import InputError
from cogvx.training.engine import train
from cogvx.training.recipe import DataOptions, ModelOptions, OptimOptions, Recipe, RunOptions, Stage, VAEOptions
from cogvx.training.vae_data import VAEBatches, open_clips
from cogvx.training.vae_task import make_task

SMALL = {"block_out_channels": (4, 4, 8, 8), "latent_channels": 4, "layers_per_block": 1, "norm_num_groups": 2}


def write(path, frames, level=0):
    """A clip whose frames grow brighter by six levels each."""
    pixels = np.broadcast_to(level + 6 * np.arange(frames)[:, None, None, None], (frames, 16, 16, 3)).astype(np.uint8)
    write_clip(path, pixels, 8.0, lossless=True)


@pytest.fixture
def manifest(tmp_path):
    for i in range(3):
        write(tmp_path / f"{i}.mkv", 33, level=i)
    write(tmp_path / "short.mkv", 5)
    entries = [{"video": "0.mkv"}, {"video": "1.mkv", "start": 1.0, "end": 3.0}, {"video": "2.mkv", "split": "test"}]
    lines = [json.dumps(entry) for entry in [*entries, {"video": "short.mkv"}]]
    path = tmp_path / "clips.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def make_recipe(manifest, *, base="", max_bad=0, vae=None, **stage):
    return Recipe(
        kind="vae",
        model=ModelOptions(base=base) if base else ModelOptions(vae=SMALL),
        data=DataOptions(train=(str(manifest),), max_bad=max_bad),
        optim=OptimOptions(lr=1e-3, warmup=1, ema=0.5),
        run=RunOptions(log_every=1, validate_every=2, preview_every=2),
        vae=VAEOptions(**(vae or {})),
        stages=(Stage(**{"steps": 2, "sizes": ((16, 16),), "max_frames": 9, "batch_size": 2, **stage}),),
    )


def test_splits_and_lengths_decide_what_is_used(manifest):
    (stage,), held_out = open_clips(make_recipe(manifest, images=0.5, fps=(8.0, 4.0)))
    assert [len(clips) for clips in stage.clips] == [2, 2]  # nine frames at four a second are two seconds too
    assert len(stage.images) == 3
    assert len(held_out) == 1


def test_a_moment_chooses_a_part_of_the_clip(manifest):
    (stage,), _ = open_clips(make_recipe(manifest))
    first, last = (stage.clips[0].frames(0, moment)[:, 0, 0, 0] for moment in (0.0, 0.999))
    assert np.abs(first.astype(int) - 6 * np.arange(9)).max() <= 2
    assert np.abs(last.astype(int) - 6 * np.arange(23, 32)).max() <= 8
    inside = [stage.clips[0].frames(1, moment)[:, 0, 0, 0].astype(int) for moment in (0.0, 0.999)]
    assert 46 <= inside[0][0] <= 52 and inside[1][-1] <= 1 + 6 * 24 + 3


def test_a_damaged_file_is_listed_and_replaced(manifest):
    told = []
    recipe = make_recipe(manifest, max_bad=1)
    stages, _ = open_clips(recipe, on_bad=lambda name, error: told.append(name))
    with (manifest.parent / "1.mkv").open("r+b") as file:
        file.truncate(600)
    batches = VAEBatches(recipe, stages, ranks=(0, 1), num_workers=0)
    assert [len(frames) for step in range(2) for frames in batches.read(step, 0)] == [9] * 4
    assert len(told) == 1 and told[0].startswith("1.mkv")


def test_too_many_damaged_files_stop_the_run(manifest):
    recipe = make_recipe(manifest)
    stages, _ = open_clips(recipe)
    for name in ("0.mkv", "1.mkv"):
        (manifest.parent / name).write_bytes(b"nothing")
    with pytest.raises(InputError, match="max_bad is 0"):
        VAEBatches(recipe, stages, ranks=(0, 1), num_workers=0).read(0, 0)


def test_a_run_and_the_next_stage_as_a_run_of_its_own(manifest, tmp_path):
    gan = {"gan_weight": 0.1, "gan_width": 4, "gan_start": 1}
    recipe, told = make_recipe(manifest, vae=gan), []
    train(make_task(recipe, tmp_path / "one", world=alone()), recipe, tmp_path / "one", world=alone())
    records = [json.loads(line) for line in (tmp_path / "one" / "metrics.jsonl").read_text().splitlines()]
    assert [("psnr" in record, "ssim" in record, "gan" in record) for record in records] == [
        (True, True, False),
        (True, False, False),
        (True, False, True),
        (True, True, False),
    ]
    assert (tmp_path / "one" / "samples" / "step-000002" / "00.mp4").exists()
    after = make_recipe(manifest, base=str(tmp_path / "one" / "model"), vae=gan, max_frames=17)
    task = make_task(after, tmp_path / "two", world=alone(), announce=told.append)
    assert any("goes on" in line for line in told)
    assert task.vae.config.latent_channels == 4
    assert task.loss(0, 0).clips == 2


def test_a_discriminator_of_other_sizes_is_not_taken(manifest, tmp_path):
    gan, told = {"gan_weight": 0.1, "gan_width": 4}, []
    make_task(make_recipe(manifest, vae=gan), tmp_path, world=alone()).export(tmp_path / "model")
    after = make_recipe(manifest, base=str(tmp_path / "model"), vae=gan | {"gan_width": 8})
    make_task(after, tmp_path, world=alone(), announce=told.append)
    assert any("other sizes" in line for line in told)
