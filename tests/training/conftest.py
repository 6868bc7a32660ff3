"""A tiny transformer, its clips and its recipe, as `dit.make_task(dit.make_recipe(), dit.Clips(...))`."""

import sys

import numpy as np
import pytest
import torch

from cogvx.data.buckets import Shape
from cogvx.data.dataset import Sample
from cogvx.distributed import World, alone
from cogvx.training.dit_task import DiTTask
from cogvx.training.examples import Place
from cogvx.training.recipe import ModelOptions, Recipe, Stage
from cogvx.training.stages import StageData
from cogvx.training.start import find_model

TRANSFORMER = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 4,
    "out_channels": 4,
    "time_embed_dim": 12,
    "text_embed_dim": 16,
    "num_layers": 2,
    "sample_height": 4,
    "sample_width": 6,
    "sample_frames": 9,
    "max_text_seq_length": 5,
    "use_rotary_positional_embeddings": True,
}
VAE = {
    "block_out_channels": [4, 4, 8, 8],
    "latent_channels": 4,
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "sample_height": 32,
    "sample_width": 48,
    "scaling_factor": 0.7,
}
TEXT = {
    "vocab_size": 1000,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 16,
    "num_layers": 1,
    "num_heads": 2,
    "feed_forward_proj": "gated-gelu",
}
SHAPES = [Shape(9, 32, 48), Shape(1, 32, 48), Shape(9, 32, 32), Shape(17, 32, 48), Shape(1, 16, 32)]


class Clips:
    """A set of clips in memory: noise that drifts, the same at every reading."""

    def __init__(self, shapes, *, encoded=False, bad=(), captions=True):
        self.shapes, self.encoded, self.bad, self.captions = shapes, encoded, bad, captions

    def __len__(self):
        return len(self.shapes)

    def shape(self, index):
        return self.shapes[index]

    def text(self, prompt):
        return None

    def read(self, index, *, caption_choice=0.0, image_choice=0.0):
        if index in self.bad:
            return None
        shape = self.shapes[index]
        caption = f"clip {index}" if self.captions else ""
        if self.encoded:
            size = (4, (shape.num_frames - 1) // 4 + 1, shape.height // 8, shape.width // 8)
            latents = torch.randn(size, generator=torch.Generator().manual_seed(index))
            return Sample(index, shape, caption, latents=latents)
        rows = np.arange(shape.height)[None, :, None, None] + 5 * np.arange(shape.num_frames)[:, None, None, None]
        frames = np.broadcast_to((rows * 4 + index * 40) % 256, (shape.num_frames, shape.height, shape.width, 3))
        return Sample(index, shape, caption, frames=frames.astype(np.uint8))


def make_recipe(kind="dit", *, packs=1, tokens=0, model=None, transformer=None, steps=8, **tables):
    parts = {"transformer": TRANSFORMER | (transformer or {}), "vae": VAE, "text_encoder": TEXT}
    options = ModelOptions(**({"parts": {"tokenizer": "tiny"}} | parts | (model or {})))
    stage = Stage(steps=steps, sizes=((32, 48),), max_frames=9, tokens=tokens, packs=packs)
    return Recipe(kind=kind, model=options, **({"stages": (stage,)} | tables))


def make_task(recipe, clips, *, world=None, held_out=0, filled=True):
    model = find_model(recipe)
    sizes = {"vae": model.vae_config, "transformer": model.transformer_config}
    stages = [StageData([clips], None, recipe=recipe, stage=i, **sizes) for i in range(len(recipe.stages))]
    held = [(stages[-1], item) for item, _ in stages[-1].items(0)[:held_out]]
    task = DiTTask(recipe, model=model, stages=stages, held_out=held, world=world or alone())
    if filled:
        fill(task.transformer)
    return task


def fill(transformer):
    """Give every trained weight a value, so that no velocity is zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in transformer.named_parameters():
            if weight.requires_grad and "norm" not in name.replace("norm1.linear", "").replace("norm2.linear", ""):
                weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.1)


def data_rank(rank, size):
    return World(rank, size, torch.device("cpu"), rank, size, 0, 1)


def gradients(task):
    found = {name: weight.grad.clone() for name, weight in task.parts.named_parameters() if weight.grad is not None}
    task.parts.zero_grad(set_to_none=True)
    return found


def whole_step(task, step=0):
    """Return the loss of a step of this rank, with its gradients left in place."""
    total = 0.0
    for micro in range(task.num_micro_batches(step)):
        loss = task.loss(step, micro)
        loss.value.backward()
        total += float(loss.value.detach())
    return total


def places(count):
    return [Place(0, step, clip) for step in range(count // 10) for clip in range(10)]


@pytest.fixture
def dit():
    return sys.modules[__name__]
