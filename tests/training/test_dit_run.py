"""Whole trainings of a tiny transformer: from a manifest, on several ranks, to a model that samples."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from cogvx import presets
from cogvx.checkpoints.diffusers import open_model
from cogvx.checkpoints.lora import read_lora
from cogvx.data.buckets import Shape
from cogvx.data.dataset import Sample
from cogvx.data.manifest import read_manifest
from cogvx.data.selection import Selection
from cogvx.data.storyboard import render, spec_at
from cogvx.data.storyboard.synth import SynthOptions, synthesise
from cogvx.data.video import read_clip, to_video
from cogvx.distributed import alone
from cogvx.generate.options import Runtime
from cogvx.models.transformer import ExpertTransformer
from cogvx.training.dit_task import make_task
from cogvx.training.encode import EncodeOptions, ManifestEncoder
from cogvx.training.encoders import ModelEncoders, open_cache
from cogvx.training.engine import train
from cogvx.training.plot import read_metrics
from cogvx.training.recipe import (
    DataOptions,
    DiffusionOptions,
    LoRAOptions,
    ModelOptions,
    OptimOptions,
    PreviewOptions,
    Recipe,
    RunOptions,
    Stage,
    ValidationOptions,
)
from cogvx.training.start import find_model


def test_four_storyboard_clips_are_learned_by_heart(dit):
    form = {"in_channels": 16, "out_channels": 16, "sample_height": 8, "sample_width": 12}
    form |= {"num_attention_heads": 4, "attention_head_dim": 32, "time_embed_dim": 64}
    model = {"parts": {"vae": "tiny", "tokenizer": "tiny"}, "vae": {}}
    recipe = dit.make_recipe(tokens=10**4, transformer=form, model=model, steps=60)
    vae = find_model(recipe).vae(torch.device("cpu"))

    class Drawn(dit.Clips):
        def __init__(self):
            super().__init__([Shape(9, 64, 96)] * 4)
            drawn = [render(spec_at(3, i), num_frames=9, height=64, width=96, fps=8) for i in range(4)]
            with torch.no_grad():
                self.latents = [vae.scale(vae.encode(to_video(frames)[None]).mean[0]) for frames in drawn]

        def read(self, index, **choices):
            return Sample(index, self.shapes[index], f"scene {index}", latents=self.latents[index])

    task = dit.make_task(recipe, Drawn(), filled=False, held_out=4)
    before = task.validate()
    optimizer = torch.optim.AdamW(task.parts.parameters(), lr=2e-3, betas=(0.9, 0.95))
    losses = []
    for step in range(60):
        loss = task.loss(step, 0)
        loss.value.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.value.detach()))
    after = task.validate()
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    assert after["val_loss"] < 0.7 * before["val_loss"]


@pytest.mark.parametrize("kind", ["dit", "i2v"])
def test_previews_are_clips_of_the_prompts(dit, tmp_path, kind):
    image = tmp_path / "first.png"
    if kind == "i2v":
        from PIL import Image

        Image.new("RGB", (60, 60), (200, 30, 30)).save(image)
    preview = PreviewOptions(prompts=("a red ball",), images=(str(image),) if kind == "i2v" else (), steps=2)
    task = dit.make_task(dit.make_recipe(kind, preview=preview, tokens=100), dit.Clips(dit.SHAPES[:1]))
    task.preview(tmp_path / "samples")
    clip = read_clip(tmp_path / "samples" / "00.mp4")
    assert clip.frames.shape == (9, 32, 48, 3) and clip.fps == 8


@pytest.mark.parametrize("kind,train_text", [("dit", True), ("dit", False), ("i2v", False)])
def test_the_result_is_a_model_of_diffusers(dit, tmp_path, kind, train_text):
    import diffusers

    recipe = dit.make_recipe(kind, tokens=100, model={"train_text": train_text})
    task = dit.make_task(recipe, dit.Clips(dit.SHAPES[:1]))
    if train_text:
        with torch.no_grad():
            task.parts["text_encoder"].shared.weight.mul_(1.5)
    task.export(tmp_path)
    folder = open_model(tmp_path)
    loaded = folder.load_transformer()
    assert isinstance(loaded, ExpertTransformer)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), task.transformer.parameters(), strict=True))
    embeds = folder.load_text_encoder().encode(["a red ball"])
    assert torch.allclose(embeds, task.texts.encoder.encode(["a red ball"]), atol=1e-6)
    assert folder.configs["model_index"].get("_cogvx") is None  # its sizes are the trained ones
    kinds = {"dit": diffusers.CogVideoXPipeline, "i2v": diffusers.CogVideoXImageToVideoPipeline}
    pipeline = kinds[kind].from_pretrained(tmp_path)
    generator = torch.Generator().manual_seed(0)
    x, text, time = (
        torch.randn(1, task.transformer.config.in_channels, 3, 4, 6, generator=generator),
        torch.randn(1, 5, 16, generator=generator),
        torch.tensor([400]),
    )
    rope = pipeline._prepare_rotary_positional_embeddings(32, 48, 3, "cpu")
    with torch.no_grad():
        wanted = pipeline.transformer(x.transpose(1, 2), text, time, image_rotary_emb=rope).sample.transpose(1, 2)
        assert torch.allclose(task.transformer(x, text, time), wanted, atol=1e-4)


def test_the_result_says_its_sizes_and_its_convention(dit, tmp_path):
    stage = Stage(steps=1, sizes=((64, 64),), max_frames=17)
    form = {"patch_size_t": 2, "patch_bias": False, "ofs_embed_dim": 12}
    recipe = dit.make_recipe(
        "i2v",
        transformer=form,
        model={"vae": dit.VAE | {"invert_scale_latents": True}},
        stages=(stage,),
        diffusion=DiffusionOptions(image_latent="sat"),
        data=DataOptions(fps=4.0),
    )
    dit.make_task(recipe, dit.Clips([Shape(17, 64, 64)])).export(tmp_path)
    folder = open_model(tmp_path)
    assert folder.configs["model_index"]["_cogvx"] == {"height": 64, "width": 64, "num_frames": 17, "fps": 4.0}
    assert not folder.vae_config.invert_scale_latents


# From a manifest


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return synthesise(folder, SynthOptions(count=12, num_frames=9, height=32, width=48)).manifest


def tables(manifest, **more):
    transformer = {
        "num_layers": 2,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "in_channels": 4,
        "out_channels": 4,
        "time_embed_dim": 12,
        "text_embed_dim": 16,
        "sample_height": 4,
        "sample_width": 6,
        "sample_frames": 9,
        "max_text_seq_length": 5,
        "use_rotary_positional_embeddings": True,
    }
    vae = {"block_out_channels": [4, 4, 8, 8], "latent_channels": 4, "layers_per_block": 1, "norm_num_groups": 2}
    text = {"vocab_size": 1000, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    model = ModelOptions(parts={"tokenizer": "tiny"}, transformer=transformer, vae=vae, text_encoder=text)
    stage = Stage(steps=4, sizes=((32, 48),), max_frames=9, tokens=100, packs=2, images=0.3)
    return {
        "kind": "dit",
        "model": model,
        "data": DataOptions(train=(str(manifest),), validation=(str(manifest),)),
        "optim": OptimOptions(lr=1e-2, warmup=0),
        "run": RunOptions(log_every=1, save_every=2, validate_every=2),
        "validation": ValidationOptions(clips=2),
        "stages": (stage,),
    } | more


def run_it(world, recipe, folder, resume=None):
    """Train, and return the metrics' file and the weights."""
    task = make_task(recipe, folder, world=world)
    train(task, recipe, folder, world=world, resume=resume)
    weights = open_model(folder / "model").load_transformer().state_dict() if world.rank == 0 else None
    return read_metrics(folder), weights


def test_from_a_manifest_to_clips(clips, tmp_path):
    """Text to video, image to video on top of it, a LoRA on top of that; each one's result is the next one's base."""
    metrics, _ = run_it(alone(), Recipe(**tables(clips)), tmp_path / "t2v")
    assert metrics[0]["step"] == 0 and "val_loss_500" in metrics[0]
    assert [record["step"] for record in metrics if "loss" in record] == [1, 2, 3, 4]
    tokenizers = [path / "tokenizer" for path in (presets.EMBEDDED / "tiny", tmp_path / "t2v" / "model")]
    contents = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in tokenizers]
    assert contents[0] == contents[1] and "spiece.model" in contents[0]
    base = {"model": ModelOptions(base=str(tmp_path / "t2v" / "model"))}
    run_it(alone(), Recipe(**tables(clips, **base, kind="i2v")), tmp_path / "i2v")
    wide = open_model(tmp_path / "i2v" / "model").load_transformer()
    assert wide.config.in_channels == 8 and wide.patch_embed.proj.weight[:, 4:].any()
    base = {"model": ModelOptions(base=str(tmp_path / "i2v" / "model"))}
    recipe = Recipe(**tables(clips, **base, kind="lora", lora=LoRAOptions(rank=2, alpha=1.0)))
    task = make_task(recipe, tmp_path / "lora", world=alone())
    train(task, recipe, tmp_path / "lora", world=alone())
    lora = read_lora(tmp_path / "lora" / "model")
    assert {pair.alpha for pair in lora.pairs.values()} == {1.0} and any(p.up.any() for p in lora.pairs.values())
    held = [record for record in read_metrics(tmp_path / "lora") if "lora_change" in record]
    assert held[0]["lora_change"] == 0 < held[-1]["lora_change"]


def test_clips_encoded_ahead_give_the_same_losses(clips, tmp_path):
    """And neither the VAE nor the text encoder is loaded then."""
    run_it(alone(), Recipe(**tables(clips)), tmp_path / "base")
    model = open_model(tmp_path / "base" / "model")
    cache = open_cache(tmp_path / "cache", model, dtype=torch.float32)
    selection = Selection(sizes=((32, 48),), max_frames=9, fps=8.0)
    encoders = ModelEncoders(model, Runtime(device=torch.device("cpu"), dtype=torch.float32))
    ManifestEncoder(read_manifest(clips), cache, EncodeOptions(selection=selection, model="x")).run(encoders)
    stages = (Stage(steps=4, sizes=((32, 48),), max_frames=9),)
    raw = Recipe(**tables(clips, model=ModelOptions(base=str(model.path)), stages=stages))
    ahead = replace(raw, data=replace(raw.data, cache=str(tmp_path / "cache")))
    told: list[str] = []
    tasks = [make_task(recipe, tmp_path / "run", world=alone(), announce=told.append) for recipe in (raw, ahead)]
    assert not [line for line in told if "data.cache" in line]
    for step in range(3):
        one, two = (task.loss(step, 0).metrics for task in tasks)
        assert one == pytest.approx(two, rel=1e-5)
    assert tasks[0].encoder._loaded is not None and tasks[0].texts._loaded is not None
    assert tasks[1].encoder._loaded is None and tasks[1].texts._loaded is None
    other = replace(ahead, run=replace(ahead.run, dtype="bf16"))
    make_task(other, tmp_path / "run", world=alone(), announce=told.append)
    assert "clips looked at are not in data.cache as these weights give them in bf16" in told[-1]


def test_a_run_that_goes_on_is_the_same(clips, tmp_path):
    whole, wanted = run_it(alone(), Recipe(**tables(clips)), tmp_path / "whole")
    run_it(alone(), Recipe(**tables(clips)), tmp_path / "again")
    for path in [tmp_path / "again" / "checkpoint-000004", tmp_path / "again" / "model"]:
        shutil.rmtree(path)
    metrics, weights = run_it(alone(), Recipe(**tables(clips)), tmp_path / "again", "latest")
    assert all(torch.equal(weights[name], value) for name, value in wanted.items())
    assert metrics == whole


@pytest.mark.parametrize("ways", ["data", "context", "shard"])
def test_two_ranks_train_as_one(ranks, clips, tmp_path, ways):
    _, wanted = run_it(alone(), Recipe(**tables(clips)), tmp_path / "one")
    run = RunOptions(log_every=1, save_every=4, validate_every=2, context=2 if ways == "context" else 1)
    recipe = Recipe(**tables(clips, run=replace(run, shard=ways == "shard")))
    (metrics, weights), _ = ranks(2, run_it, recipe, tmp_path / "two", context=recipe.run.context)
    for one, two in zip(read_metrics(tmp_path / "one"), metrics, strict=True):
        assert two == pytest.approx(one, rel=1e-5, abs=1e-5)
    assert all(torch.allclose(weights[name], value, atol=1e-4) for name, value in wanted.items())


def lora_of(world, recipe, folder):
    train(make_task(recipe, folder, world=world), recipe, folder, world=world)
    return {name: (pair.down, pair.up) for name, pair in read_lora(folder / "model").pairs.items()}


def test_two_ranks_train_a_lora_as_one(ranks, clips, tmp_path):
    """With the frozen weights spread over both."""
    run_it(alone(), Recipe(**tables(clips)), tmp_path / "base")
    model = ModelOptions(base=str(tmp_path / "base" / "model"))
    recipe = Recipe(**tables(clips, kind="lora", model=model, lora=LoRAOptions(rank=2, alpha=1.0)))
    wanted = lora_of(alone(), recipe, tmp_path / "one")
    shared = replace(recipe, run=replace(recipe.run, shard=True))
    found, _ = ranks(2, lora_of, shared, tmp_path / "two")
    for name, pair in wanted.items():
        assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(pair, found[name], strict=True)), name
    assert any(up.any() for _, up in wanted.values())
