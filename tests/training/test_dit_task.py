"""Losses of the transformer's training: packs, draws, captions, stages."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cogvx.data.dataset import Sample
from cogvx.distributed import alone
from cogvx.errors import UsageError
from cogvx.training.dit_task import DiTTask
from cogvx.training.recipe import DataOptions, DiffusionOptions, OptimOptions, PreviewOptions, RunOptions, Stage
from cogvx.training.stages import StageData
from cogvx.training.start import find_model


@pytest.mark.parametrize("mixed", [True, False])
def test_a_pack_equals_its_clips_alone(dit, mixed):
    shapes = dit.SHAPES if mixed else dit.SHAPES[:1] * 3
    task = dit.make_task(dit.make_recipe(tokens=1000), dit.Clips(shapes, encoded=True))
    packed = dit.whole_step(task)
    together = dit.gradients(task)
    batch, alone_total = task.batch(0, 0), 0.0
    assert len(batch.inputs) == len(shapes)
    for x_t, target, time, text in zip(batch.inputs, batch.targets, batch.timesteps, batch.text_embeds, strict=True):
        velocity = task.transformer(x_t[None], text[None], time[None])[0]
        loss = (velocity - target).square().mean() / len(shapes)
        loss.backward()
        alone_total += float(loss.detach())
    assert packed == pytest.approx(alone_total, rel=1e-5)
    for name, grad in dit.gradients(task).items():
        assert torch.allclose(grad, together[name], atol=1e-5, rtol=1e-5), name


@pytest.mark.parametrize("packs", [2, 4])
def test_two_ranks_draw_what_one_does(dit, packs):
    recipe = dit.make_recipe(packs=packs, tokens=60)
    clips = dit.Clips(dit.SHAPES[:1] * 9, encoded=True)
    task = dit.make_task(recipe, clips)
    total = dit.whole_step(task, 3)
    wanted, batches = dit.gradients(task), [task.batch(3, micro) for micro in range(packs)]
    found, sums = 0.0, {}
    for rank in range(2):
        other = dit.make_task(recipe, clips, world=dit.data_rank(rank, 2))
        assert other.num_micro_batches(3) == packs // 2
        for micro in range(packs // 2):
            batch, same = other.batch(3, micro), batches[rank * packs // 2 + micro]
            assert torch.equal(batch.timesteps, same.timesteps)
            assert all(torch.equal(a, b) for a, b in zip(batch.inputs, same.inputs, strict=True))
        found += dit.whole_step(other, 3)
        for name, grad in dit.gradients(other).items():
            sums[name] = sums.get(name, 0) + grad
    assert found == pytest.approx(total, rel=1e-6)
    assert all(torch.allclose(sums[name], grad, atol=1e-6) for name, grad in wanted.items())


def test_a_step_does_not_depend_on_what_came_before(dit):
    recipe = dit.make_recipe(tokens=60, packs=2)
    clips = dit.Clips(dit.SHAPES[:1] * 7)
    early, late = dit.make_task(recipe, clips), dit.make_task(recipe, clips)
    for step in range(5):
        early.loss(step, 0)
    assert early.loss(5, 1).metrics == late.loss(5, 1).metrics


def test_every_clip_is_trained_once_an_epoch(dit):
    recipe = dit.make_recipe(tokens=60, packs=2)
    task = dit.make_task(recipe, dit.Clips(dit.SHAPES[:1] * 12))
    order = task._stages[0].order
    seen = [item.index for place in range(6) for pack in order.step(place) for item in pack]
    assert {len(pack) for place in range(6) for pack in order.step(place)} == {2}  # of 60 tokens, a clip has 5 + 18
    assert sorted(seen[:12]) == sorted(seen[12:]) == list(range(12)) and seen[:12] != seen[12:]
    assert order.step(4) == dit.make_task(recipe, dit.Clips(dit.SHAPES[:1] * 12))._stages[0].order.step(4)


def test_explicit_uniform_sampling_lessens_the_variance(dit):
    """On one device: the mean of the times, and the loss of a network that says nothing, over many steps."""
    spread = {}
    for explicit in (True, False):
        options = DiffusionOptions(explicit_uniform=explicit)
        task = dit.make_task(dit.make_recipe(diffusion=options, steps=400), dit.Clips(dit.SHAPES[:1] * 8))
        times = torch.stack([task.timesteps(step, 8) for step in range(400)]).double()
        alphas = task.schedule.alphas_cumprod[times.long()]
        # With latents three times as wide as the noise, the square of the velocity depends on the time.
        losses = (alphas + 9 * (1 - alphas)).mean(dim=1)
        spread[explicit] = float(times.mean(dim=1).var()), float(losses.var())
        assert times.min() >= 0 and times.max() <= 999 and times.unique().numel() > 900
    assert spread[True][0] < 0.05 * spread[False][0] and spread[True][1] < 0.1 * spread[False][1]


def test_one_time_falls_in_each_interval(dit):
    task = dit.make_task(dit.make_recipe(), dit.Clips(dit.SHAPES[:1]))
    times = task.timesteps(7, 10)
    assert sorted((times // 100).tolist()) == list(range(10)) and times.tolist() != sorted(times.tolist())


@pytest.mark.parametrize("dropped", ["empty", "zero"])
def test_dropped_captions(dit, dropped):
    options = DiffusionOptions(dropped_caption=dropped)
    recipe = dit.make_recipe(tokens=1000, data=DataOptions(caption_dropout=1.0), diffusion=options)
    task = dit.make_task(recipe, dit.Clips(dit.SHAPES[:1] * 2))
    embeds = task.batch(0, 0).text_embeds
    wanted = task.texts.encoder.encode([""])[0] if dropped == "empty" else torch.zeros(5, 16)
    assert all(torch.allclose(one, wanted) for one in embeds)
    kept = dit.make_task(replace(recipe, data=DataOptions(caption_dropout=0.0)), dit.Clips(dit.SHAPES[:1] * 2))
    assert not torch.allclose(kept.batch(0, 0).text_embeds, embeds)
    share = np.mean([kept._caption(Sample(0, dit.SHAPES[0], "x"), place) is None for place in dit.places(500)])
    assert share == 0.0


def test_a_tenth_of_the_captions_is_dropped(dit):
    task = dit.make_task(dit.make_recipe(), dit.Clips(dit.SHAPES[:1]))
    share = np.mean([task._caption(Sample(0, dit.SHAPES[0], "x"), place) is None for place in dit.places(2000)])
    assert share == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("dropped", ["empty", "zero"])
def test_the_text_encoder_is_trained_along(dit, dropped):
    tables = {"data": DataOptions(caption_dropout=0.5), "diffusion": DiffusionOptions(dropped_caption=dropped)}
    recipe = dit.make_recipe(tokens=1000, model={"train_text": True}, **tables)
    task = dit.make_task(recipe, dit.Clips(dit.SHAPES[:1] * 4))
    task.loss(0, 0).value.backward()
    grads = dit.gradients(task)
    assert set(task.parts) == {"transformer", "text_encoder"}
    assert any(name.startswith("text_encoder") and grad.abs().max() > 0 for name, grad in grads.items())
    assert sum(w.numel() for o in task.optimizers() for g in o.param_groups for w in g["params"]) == sum(
        w.numel() for w in task.parts.parameters()
    )


def test_frozen_parts_get_no_gradient(dit):
    task = dit.make_task(dit.make_recipe(tokens=1000), dit.Clips(dit.SHAPES[:1] * 2))
    task.loss(0, 0).value.backward()
    assert not any(weight.requires_grad for weight in task.texts.encoder.parameters())
    assert not any(weight.requires_grad for weight in task.encoder.vae.parameters())


def test_a_clip_that_cannot_be_read_counts_nothing(dit):
    recipe = dit.make_recipe(tokens=1000)
    whole, broken = (dit.make_task(recipe, dit.Clips(dit.SHAPES[:1] * 3, bad=bad)) for bad in ((), (1,)))
    batch, other = whole.batch(0, 0), broken.batch(0, 0)
    (zero,) = [i for i, weight in enumerate(other.weights) if weight == 0]
    kept = [i for i in range(3) if i != zero]
    assert all(torch.equal(batch.inputs[i], other.inputs[i]) for i in kept)
    assert [other.weights[i] for i in kept] == [1 / 3, 1 / 3]
    assert torch.isfinite(broken.loss(0, 0).value)


def test_threads_change_nothing(dit):
    recipe = dit.make_recipe(tokens=60, packs=2)
    clips = dit.Clips(dit.SHAPES[:1] * 7)
    plain, threaded = (dit.make_task(replace(recipe, data=DataOptions(workers=n)), clips) for n in (0, 2))
    for step in range(3):
        for micro in range(2):
            pairs = zip(plain.batch(step, micro).inputs, threaded.batch(step, micro).inputs, strict=True)
            assert all(torch.equal(a, b) for a, b in pairs)


def test_stages_follow_each_other(dit):
    stages = (
        Stage(steps=2, sizes=((32, 48),), max_frames=1, tokens=100),
        Stage(steps=2, sizes=((32, 48),), max_frames=9, tokens=100, packs=2),
    )
    recipe = dit.make_recipe(stages=stages)
    model = find_model(recipe)
    sizes = {"vae": model.vae_config, "transformer": model.transformer_config}
    sets = [dit.Clips([dit.SHAPES[1]] * 6), dit.Clips([dit.SHAPES[0]] * 6)]
    data = [StageData([one], None, recipe=recipe, stage=i, **sizes) for i, one in enumerate(sets)]
    task = DiTTask(recipe, model=model, stages=data, world=alone())
    assert [task.num_micro_batches(step) for step in range(4)] == [1, 1, 2, 2]
    assert {x.shape[1] for x in task.batch(1, 0).inputs} == {1} and {x.shape[1] for x in task.batch(2, 1).inputs} == {3}


def test_a_share_is_taken_as_images_and_rates_are_drawn(dit):
    recipe = dit.make_recipe(stages=(Stage(steps=1, sizes=((32, 48),), images=0.25, fps=(8.0, 4.0)),))
    model = find_model(recipe)
    sets = [dit.Clips([shape] * 40) for shape in (dit.SHAPES[3], dit.SHAPES[0], dit.SHAPES[1])]
    sizes = {"vae": model.vae_config, "transformer": model.transformer_config}
    data = StageData(sets[:2], sets[2], recipe=recipe, stage=0, **sizes)
    first, second = ([item.source for item, _ in data.items(epoch)] for epoch in range(2))
    assert first.count(2) == second.count(2) == 10 and first != second and 5 < first.count(0) < 25
    assert data.items(0) == data.items(0)
    lengths = {item.source: length for item, length in data.items(0)}
    assert lengths == {0: 5 + 30, 1: 5 + 18, 2: 5 + 6}


def test_wrong_recipes(dit):
    clips = dit.Clips(dit.SHAPES[:1])
    with pytest.raises(UsageError, match="3 packs a step, which 2 ranks"):
        dit.make_task(dit.make_recipe(packs=3), clips, world=dit.data_rank(0, 2))
    with pytest.raises(UsageError, match='kind = "i2v"'):
        dit.make_task(dit.make_recipe(transformer={"in_channels": 8}), clips)
    with pytest.raises(UsageError, match="transformer alone"):
        dit.make_task(dit.make_recipe("lora", model={"train_text": True}), clips)
    with pytest.raises(UsageError, match="preview.images"):
        dit.make_task(dit.make_recipe("i2v", preview=PreviewOptions(prompts=("x",))), clips)
    with pytest.raises(UsageError, match="nothing in the manifest"):
        dit.make_task(dit.make_recipe(), dit.Clips([])).loss(0, 0)


def test_half_precision_keeps_the_schedule_in_full(dit):
    recipe = dit.make_recipe(tokens=1000, run=RunOptions(dtype="bf16"))
    half, full = (
        dit.make_task(recipe, dit.Clips(dit.SHAPES[:1], encoded=True)),
        dit.make_task(dit.make_recipe(tokens=1000), dit.Clips(dit.SHAPES[:1], encoded=True)),
    )
    a, b = half.batch(0, 0), full.batch(0, 0)
    assert torch.equal(a.inputs[0], b.inputs[0]) and torch.equal(a.targets[0], b.targets[0])
    assert half.loss(0, 0).metrics == pytest.approx(full.loss(0, 0).metrics, rel=0.05)
    assert half.loss(0, 0).value.dtype == torch.float32


def test_initial_weights_come_from_the_seed(dit):
    recipe = dit.make_recipe()
    one, two = (find_model(recipe).transformer(torch.device("cpu")) for _ in range(2))
    other = find_model(replace(recipe, seed=1)).transformer(torch.device("cpu"))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.patch_embed.proj.weight, other.patch_embed.proj.weight)


def test_the_recipe_chooses_the_attention(dit):
    losses = []
    for attention in ("sdpa", "reference"):
        task = dit.make_task(dit.make_recipe(run=RunOptions(attention=attention)), dit.Clips(dit.SHAPES))
        assert task.transformer.attention_backend == attention
        losses.append(float(task.loss(0, 0).value.detach()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_learning_rates_by_kind_of_weight(dit):
    optim = OptimOptions(name="muon", lr=1e-2, adam_share=0.5, text_share=0.1)
    task = dit.make_task(dit.make_recipe(model={"train_text": True}, optim=optim), dit.Clips(dit.SHAPES))
    rates = [(type(one).__name__, group["lr"]) for one in task.optimizers() for group in one.param_groups]
    assert sorted(set(rates)) == [
        ("AdamW", pytest.approx(5e-4)),
        ("AdamW", pytest.approx(5e-3)),
        ("Muon", pytest.approx(1e-3)),
        ("Muon", pytest.approx(1e-2)),
    ]


def test_more_clips_may_have_much_noise(dit):
    task = dit.make_task(
        dit.make_recipe(diffusion=DiffusionOptions(time_power=0.5)), dit.Clips(dit.SHAPES), filled=False
    )
    times = task.timesteps(0, 1000)
    assert float((times < 500).float().mean()) == pytest.approx(0.25, abs=0.01)


def test_a_new_transformer_answers_zero(dit):
    task = dit.make_task(dit.make_recipe(), dit.Clips(dit.SHAPES[:1], encoded=True), filled=False)
    batch = task.batch(0, 0)
    velocity = task.transformer(batch.inputs[0][None], batch.text_embeds[:1], batch.timesteps[:1])
    assert velocity.shape[1:] == batch.targets[0].shape and not velocity.any()
