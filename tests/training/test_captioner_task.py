"""Training of the captioner and of the dual encoder: what is learned, exactly resumed, shared by ranks."""

import json
from dataclasses import replace

import pytest
import torch

from cogvx.checkpoints.clip_text import load_captioner, load_dual_encoder
from cogvx.checkpoints.diffusers import open_model
from cogvx.data.buckets import Shape
from cogvx.data.storyboard import plain_caption, render, spec_at
from cogvx.data.video import to_video
from cogvx.distributed import alone
from cogvx.errors import InputError, UsageError
from cogvx.models.caption_search import beam_captions, greedy_captions
from cogvx.models.words import Vocabulary, clean_words
from cogvx.training import captioner_task, dual_encoder_task
from cogvx.training.clip_text import Opened
from cogvx.training.engine import train
from cogvx.training.plot import read_metrics
from cogvx.training.recipe import (
    CLIP_TEXT,
    CaptionerOptions,
    DataOptions,
    DualEncoderOptions,
    ModelOptions,
    OptimOptions,
    Recipe,
    RunOptions,
    Stage,
)
from cogvx.training.stages import StageData
from cogvx.training.start import find_model

SIZES = {"grid": (4, 6), "hidden_size": 16, "embed_size": 8}
CAPTIONS = ["A red star moves up.", "a blue boat", "the red boat sails down the sea", "a blue boat", "a star", "a sea"]

SHAPES = (Shape(9, 32, 48), Shape(1, 32, 48))


class Clips:
    """Latents with captions, in memory."""

    def __init__(self, dit, captions, latents=None, shapes=SHAPES, bad=()):
        self.texts, self.latents = captions, latents
        shapes = [shapes[i % len(shapes)] for i in range(len(captions))]
        self._clips = dit.Clips(shapes, encoded=True, bad=bad)
        self.shape = self._clips.shape

    def __len__(self):
        return len(self.texts)

    def captions(self, index):
        return [self.texts[index]]

    def read(self, index, **choices):
        sample = self._clips.read(index)
        if sample is None:
            return None
        latents = sample.latents if self.latents is None else self.latents[index]
        return replace(sample, caption=self.texts[index], latents=latents)


def make_recipe(dit, kind, *, steps=6, batch_size=4, packs=1, vae=None, **tables):
    stage = Stage(steps=steps, sizes=((32, 48),), max_frames=9, batch_size=batch_size, packs=packs)
    tables = {
        "model": vae or ModelOptions(vae=dit.VAE),
        "captioner": CaptionerOptions(**SIZES, dropout=0.3),
        "dual_encoder": DualEncoderOptions(**SIZES, dropout=0.3, output_size=12),
        "optim": OptimOptions(name="adamw", lr=1e-2, warmup=2, ema=0.5),
        "run": RunOptions(dtype="fp32", log_every=1, save_every=2, keep=9, validate_every=3, preview_every=6),
    } | tables
    return Recipe(kind=kind, stages=(stage,), **tables)


def make_task(recipe, clips, *, world=None, held_out=0):
    model = find_model(recipe)
    stages = [StageData([clips], None, recipe=recipe, stage=0, vae=model.vae_config, transformer=None)]
    held = [(stages[0], item) for item, _ in stages[0].items(0)[:held_out]]
    options = recipe.captioner if recipe.kind == "captioner" else recipe.dual_encoder
    vocabulary = Vocabulary.of(stages[0].captions(), max_words=options.max_words)
    kind = captioner_task.CaptionerTask if recipe.kind == "captioner" else dual_encoder_task.DualEncoderTask
    return kind(recipe, Opened(model, stages, held, vocabulary, "hash"), world=world or alone())


@pytest.fixture(params=CLIP_TEXT)
def kind(request):
    return request.param


def test_eight_storyboard_clips_are_learned_by_heart(dit, tmp_path):
    specs = [spec_at(3, i) for i in range(8)]
    vae = ModelOptions(parts={"vae": "tiny"})
    options = CaptionerOptions(grid=(8, 12), hidden_size=64, embed_size=32, dropout=0.0)
    recipe = make_recipe(
        dit,
        "captioner",
        steps=240,
        batch_size=8,
        vae=vae,
        captioner=options,
        optim=OptimOptions(name="adamw", lr=3e-3, warmup=5, ema=0.0),
        run=RunOptions(dtype="fp32", log_every=30, save_every=300, validate_every=240, preview_every=240),
    )
    network = find_model(recipe).vae(torch.device("cpu"))
    with torch.no_grad():
        drawn = [to_video(render(spec, num_frames=9, height=64, width=96, fps=8)) for spec in specs]
        latents = [network.scale(network.encode(video[None]).mean[0]) for video in drawn]
    captions = [plain_caption(spec) for spec in specs]
    task = make_task(recipe, Clips(dit, captions, latents, [Shape(9, 64, 96)]), held_out=8)
    train(task, recipe, tmp_path, world=alone())
    before, *_, after = [record for record in read_metrics(tmp_path) if "val_loss" in record]
    assert before["val_exact_match"] == 0 and before["val_loss"] > 3
    assert after["val_exact_match"] == 1 and after["val_word_accuracy"] == 1 and after["val_loss"] < 0.2
    captioner = load_captioner(tmp_path / "model")
    found = greedy_captions(captioner, torch.stack(latents))
    assert [one.text for one in found] == [" ".join(clean_words(caption)) for caption in captions]
    assert [one.text for one in beam_captions(captioner, torch.stack(latents), num_beams=3)] == [o.text for o in found]
    lines = (tmp_path / "samples" / "step-000240" / "captions.jsonl").read_text().splitlines()
    assert len(lines) == 8 and all(json.loads(line)["caption"] == json.loads(line)["reference"] for line in lines)
    assert (captioner.config.num_frames, captioner.config.sizes, captioner.config.fps) == (9, ((32, 48),), 8.0)


def test_a_dual_encoder_learns_which_caption_is_whose(dit, tmp_path):
    captions = [f"{colour} {thing}" for colour in ("red", "blue", "green") for thing in ("star", "boat")]
    recipe = make_recipe(dit, "dual-encoder", steps=40, batch_size=6)
    recipe = replace(recipe, dual_encoder=replace(recipe.dual_encoder, dropout=0.0))
    task = make_task(recipe, Clips(dit, captions), held_out=6)
    before = task.validate()
    train(task, recipe, tmp_path, world=alone())
    after = task.validate()
    assert before["val_loss"] > 1 and after["val_loss"] < 0.3
    assert after["val_text_rank1"] == after["val_clip_rank1"] == 1 > before["val_text_rank1"]
    network = load_dual_encoder(tmp_path / "model")
    latents = torch.stack([task._held_out.latents(i) for i in range(6) if task._held_out.latents(i).shape[1] == 3])
    assert network.encode_clips(latents).shape == (3, 12)
    lines = (tmp_path / "samples" / "step-000040" / "retrieval.jsonl").read_text().splitlines()
    assert len(lines) == 6 and all(json.loads(line)["caption"] == json.loads(line)["nearest"] for line in lines)


def test_a_run_goes_on_exactly(dit, tmp_path, kind):
    recipe, clips = make_recipe(dit, kind, packs=2), Clips(dit, CAPTIONS)
    train(make_task(recipe, clips, held_out=3), recipe, tmp_path / "whole", world=alone())
    train(make_task(recipe, clips, held_out=3), recipe, tmp_path / "run", world=alone())
    checkpoint = str(tmp_path / "run" / "checkpoint-000002")
    train(make_task(recipe, clips, held_out=3), recipe, tmp_path / "run", world=alone(), resume=checkpoint)
    names = ["metrics.jsonl", f"model/{kind.replace('-', '_')}/model.safetensors"]
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()
    records = read_metrics(tmp_path / "whole")
    assert [record["step"] for record in records if "val_loss" in record] == [0, 3, 6]
    assert "ema_val_loss" in records[-1] and len({record["loss"] for record in records if "loss" in record}) == 6
    # The result has what it needs to be used: the VAE lies beside it.
    assert open_model(tmp_path / "run" / "model").vae_config.latent_channels == 4


def test_a_run_does_not_go_on_with_its_words_in_another_order(dit, tmp_path, kind):
    recipe = make_recipe(dit, kind)
    train(make_task(recipe, Clips(dit, CAPTIONS)), recipe, tmp_path, world=alone())
    longer = make_recipe(dit, kind, steps=8)
    other = make_task(longer, Clips(dit, ["a sea", *CAPTIONS[1:]]))  # as other stages count the same words
    with pytest.raises(UsageError, match="other words"):
        train(other, longer, tmp_path, world=alone(), resume="latest", allow_changes=True)
    same = make_task(longer, Clips(dit, CAPTIONS))
    train(same, longer, tmp_path, world=alone(), resume="latest", allow_changes=True)
    assert read_metrics(tmp_path)[-1]["step"] == 8


def test_two_ranks_compute_what_one_does(dit, kind):
    recipe, clips = make_recipe(dit, kind, packs=2), Clips(dit, CAPTIONS)
    task = make_task(recipe, clips)
    total, wanted = dit.whole_step(task, 1), dit.gradients(task)
    found, sums = 0.0, {}
    for rank in range(2):
        other = make_task(recipe, clips, world=dit.data_rank(rank, 2))
        assert other.num_micro_batches(1) == 1
        found += dit.whole_step(other, 1)
        for name, gradient in dit.gradients(other).items():
            sums[name] = sums.get(name, 0) + gradient
    assert found == pytest.approx(total, rel=1e-5)
    assert all(torch.allclose(sums[name], gradient, atol=1e-5) for name, gradient in wanted.items())
    assert any(gradient.abs().max() > 0 for gradient in wanted.values())


@pytest.mark.parametrize("change", [{"bad": (1,)}, {"captions": [CAPTIONS[0], "...", *CAPTIONS[2:]]}])
def test_clips_that_cannot_be_used_count_nothing(dit, kind, change):
    recipe = make_recipe(dit, kind, batch_size=6)
    whole = make_task(recipe, Clips(dit, CAPTIONS)).loss(0, 0)
    broken = Clips(dit, change.get("captions", CAPTIONS), bad=change.get("bad", ()))
    task = make_task(recipe, broken)
    loss = task.loss(0, 0)
    assert (whole.clips, loss.clips) == (6, 5) and loss.tokens < whole.tokens
    assert task.share(0) == 1 / 6


def test_a_pack_without_a_usable_clip_has_a_loss_of_zero(dit, kind):
    recipe = make_recipe(dit, kind)
    task = make_task(recipe, Clips(dit, CAPTIONS, bad=range(6)))
    loss = task.loss(0, 0)
    loss.value.backward()
    assert float(loss.value.detach()) == 0 and loss.clips == 0
    assert all(weight.grad is not None and not weight.grad.any() for weight in task.parts.parameters())


def test_temporal_consistency_is_added_with_its_weight(dit):
    recipe = make_recipe(dit, "captioner")
    plain = make_task(recipe, Clips(dit, CAPTIONS)).loss(0, 0)
    weighted = replace(recipe, captioner=replace(recipe.captioner, temporal=0.5))
    found = make_task(weighted, Clips(dit, CAPTIONS)).loss(0, 0)
    assert found.metrics["cross_entropy"] == pytest.approx(plain.metrics["loss"])
    assert found.metrics["temporal"] > 0
    assert found.metrics["loss"] == pytest.approx(plain.metrics["loss"] + 0.5 * found.metrics["temporal"])


def test_what_is_drawn_depends_on_the_place_in_the_run(dit, kind):
    """Dropout is on: the same step again is the same, whatever came before it, and draws nothing from the globals."""
    recipe, clips = make_recipe(dit, kind), Clips(dit, CAPTIONS)
    early, late = make_task(recipe, clips), make_task(recipe, clips)
    for step in range(3):
        early.loss(step, 0)
    torch.manual_seed(5)
    assert early.loss(3, 0).metrics == late.loss(3, 0).metrics
    none = replace(recipe, captioner=CaptionerOptions(**SIZES, dropout=0.0))
    none = replace(none, dual_encoder=replace(recipe.dual_encoder, dropout=0.0))
    assert make_task(none, clips).loss(3, 0).metrics["loss"] != late.loss(3, 0).metrics["loss"]


def test_the_vocabulary_is_of_the_training_captions(dit, tmp_path, kind):
    rows = [{"video": "a.mp4", "width": 48, "height": 32, "fps": 8, "num_frames": 9, "caption": "Red star, red."}]
    rows += [rows[0] | {"video": "b.mp4", "caption": "blue star", "captions": {"dense": "unseen"}}]
    rows += [rows[0] | {"video": "c.mp4", "caption": "green boat", "split": "validation"}]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    make = {"captioner": captioner_task, "dual-encoder": dual_encoder_task}[kind].make_task
    data = DataOptions(train=(str(tmp_path / "m.jsonl"),))
    told = []
    task = make(make_recipe(dit, kind, data=data), tmp_path, world=alone(), announce=told.append)
    network = task.parts[kind.replace("-", "_")]
    assert network.config.words == ("red", "star", "blue") and task.num_held_out == 1 and not told
    few = make_recipe(
        dit, kind, data=data, captioner=CaptionerOptions(max_words=1), dual_encoder=DualEncoderOptions(max_words=1)
    )
    assert make(few, tmp_path, world=alone()).parts[kind.replace("-", "_")].config.words == ("red",)
    nothing = make_recipe(dit, kind, data=replace(data, captions={"short": 1.0}))
    with pytest.raises(InputError, match="short"):
        make(nothing, tmp_path, world=alone())


def test_what_cannot_be_shared_is_refused(dit, kind):
    recipe = make_recipe(dit, kind)
    with pytest.raises(UsageError, match="context"):
        make_task(replace(recipe, run=replace(recipe.run, context=2)), Clips(dit, CAPTIONS))
    with pytest.raises(UsageError, match="2 ranks cannot share"):
        make_task(recipe, Clips(dit, CAPTIONS), world=dit.data_rank(0, 2))
