"""The VAE's training: the same numbers on any number of ranks, from any point on, and a model that can be used."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cogvx.data.buckets import Shape
from cogvx.data.video import to_video
from cogvx.distributed import all_sum, alone
from cogvx.errors import InputError, UsageError
from cogvx.models.vae import CausalVAE, VAEConfig
from cogvx.models.vae.causal_conv import CausalConv3d
from cogvx.models.vae.rescale import measure_visibility, rescale_latents
from cogvx.training.recipe import ModelOptions, OptimOptions, Recipe, RunOptions, Stage, VAEOptions, ValidationOptions
from cogvx.training.vae_data import VAEBatches, VAEStage
from cogvx.training.vae_task import VAETask, inflate

SMALL = {"block_out_channels": (4, 4, 8, 8), "latent_channels": 4, "layers_per_block": 1, "norm_num_groups": 2}


class Drawn:
    """Clips made by rule; some can be broken."""

    def __init__(self, count, frames, size=(16, 16), broken=()):
        self.count, self.shape_, self.broken = count, Shape(frames, *size), broken

    def __len__(self):
        return self.count

    def shape(self, index):
        return self.shape_

    def frames(self, index, moment=0.0):
        if index in self.broken:
            return None
        t, h, w, c = np.meshgrid(*(np.arange(n) for n in (*self._size(), 3)), indexing="ij")
        wave = np.sin(0.4 * w + 0.3 * h * (index % 3) + 0.5 * t + c + index)
        return (127.5 + 120 * wave).astype(np.uint8)

    def _size(self):
        return self.shape_.num_frames, self.shape_.height, self.shape_.width


def make_recipe(*, frames=17, batch_size=4, images=0.0, accumulate=1, vae=None, steps=2, **changes):
    return Recipe(
        kind="vae",
        seed=3,
        model=ModelOptions(vae=SMALL),
        run=RunOptions(
            accumulate=accumulate,
            dtype=changes.pop("dtype", "auto"),
            activation_checkpointing=changes.pop("recompute", False),
        ),
        vae=VAEOptions(**(vae or {})),
        validation=ValidationOptions(clips=3),
        stages=(Stage(steps=steps, sizes=((16, 16),), max_frames=frames, batch_size=batch_size, images=images),),
        **changes,
    )


def make_task(recipe, world, *, broken=(), held_out=None):
    torch.manual_seed(0)
    vae = CausalVAE(VAEConfig(**SMALL))
    stages = [
        VAEStage([Drawn(6, s.max_frames, broken=broken)], Drawn(6, 1) if s.images else None, s.images, s.batch_size)
        for s in recipe.stages
    ]
    return VAETask(recipe, vae=vae, stages=stages, held_out=held_out, world=world)


def one_step(world, recipe, step=0):
    """The loss, metrics and gradients of a step, summed over its micro batches and over ranks."""
    task = make_task(recipe, world)
    value, metrics = torch.zeros(()), {}
    for micro in range(task.num_micro_batches(step)):
        loss = task.loss(step, micro)
        loss.value.backward()
        value = value + loss.value.detach()
        for name, metric in loss.metrics.items():
            metrics[name] = metrics.get(name, 0.0) + metric
    total = {name: float(all_sum(torch.tensor(metric), world=world)) for name, metric in metrics.items()}
    gradients = {
        name: all_sum(torch.zeros_like(weight) if weight.grad is None else weight.grad, world=world)
        for name, weight in task.parts.named_parameters()
    }
    return float(all_sum(value, world=world)), total, gradients


def assert_equal_steps(one, many):
    assert many[0] == pytest.approx(one[0], rel=1e-5)
    assert many[1] == pytest.approx(one[1], rel=1e-4, abs=1e-6)
    for name, wanted in one[2].items():
        assert (many[2][name] - wanted).abs().max() <= 1e-5 * max(1.0, float(wanted.abs().max())), name


GAN = {"gan_weight": 0.5, "gan_width": 4, "kl": 1e-3}


@pytest.mark.parametrize("norms", ["chunk", "clip"])
@pytest.mark.parametrize("options", [{"kl": 1e-3}, {"flicker": 2.0}, GAN], ids=["plain", "flicker", "gan"])
def test_two_ranks_that_share_a_clip_equal_one(ranks, norms, options):
    recipe = make_recipe(vae={**options, "norms": norms}, frames=33, batch_size=2)
    assert_equal_steps(one_step(alone(), recipe), ranks(2, one_step, recipe, context=2)[0])


def test_images_on_two_ranks_that_share_a_clip_equal_one(ranks):
    recipe = make_recipe(vae=GAN, images=1.0)
    assert_equal_steps(one_step(alone(), recipe), ranks(2, one_step, recipe, context=2)[0])


def test_two_replicas_equal_one(ranks):
    recipe = make_recipe(vae=GAN)
    assert_equal_steps(one_step(alone(), recipe), ranks(2, one_step, recipe)[0])


def one_sharded_step(world, recipe):
    from cogvx.training.parallel import Parallel

    task = make_task(recipe, world)
    parallel = Parallel(task.parts, world, shard=True)
    loss = parallel.loss(lambda: task.loss(0, 0))
    loss.value.backward()
    gradients = {name: weight.grad.full_tensor() for name, weight in task.parts.named_parameters()}
    total = {name: float(all_sum(torch.tensor(metric), world=world)) for name, metric in loss.metrics.items()}
    return float(all_sum(loss.value, world=world)), total, gradients


@pytest.mark.parametrize("context", [1, 2])
def test_two_sharded_ranks_equal_one(ranks, context):
    recipe = make_recipe(vae=GAN)
    assert_equal_steps(one_step(alone(), recipe), ranks(2, one_sharded_step, recipe, context=context)[0])


def test_micro_batches_equal_one_batch():
    whole, parts = (one_step(alone(), make_recipe(vae={"kl": 1e-3}, accumulate=n)) for n in (1, 2))
    assert_equal_steps(whole, parts)


def test_recomputed_activations_change_nothing():
    kept, recomputed = (one_step(alone(), make_recipe(vae=GAN, recompute=flag)) for flag in (False, True))
    assert_equal_steps(kept, recomputed)


def test_bf16_is_near_fp32():
    options = GAN | {"gan_width": 24}  # more than 16 channels: where gradients are wrong on some CPUs
    recipes = [make_recipe(vae=options, frames=9, batch_size=1, dtype=dtype) for dtype in ("fp32", "bf16")]
    exact, low = (one_step(alone(), recipe) for recipe in recipes)
    assert low[0] == pytest.approx(exact[0], rel=0.03)
    assert all(gradient.isfinite().all() for gradient in low[2].values())
    flat = [torch.cat([gradient.flatten() for gradient in step[2].values()]) for step in (exact, low)]
    assert torch.nn.functional.cosine_similarity(*flat, dim=0) > 0.95


def test_a_step_does_not_depend_on_what_came_before():
    recipe = make_recipe(vae=GAN, steps=3)
    task, again = make_task(recipe, alone()), make_task(recipe, alone())
    for step in range(2):
        task.loss(step, 0)
    one, other = task.loss(2, 0), again.loss(2, 0)
    assert one.value.item() == other.value.item()
    assert one.metrics == other.metrics
    assert (one.clips, one.tokens) == (4, 4 * 5 * 2 * 2)


def test_the_discriminator_waits_for_its_step():
    task = make_task(make_recipe(vae=GAN | {"gan_start": 1}), alone())
    task.loss(0, 0).value.backward()
    assert all(weight.grad is None for weight in task.discriminator.parameters())
    assert "gan" in task.loss(1, 0).metrics


def test_optimizers_have_their_own_rates():
    recipe = make_recipe(vae=GAN | {"gan_lr": 3e-4}, optim=OptimOptions(lr=1e-3))
    optimizers = make_task(recipe, alone()).optimizers()
    assert [group["lr"] for optimizer in optimizers for group in optimizer.param_groups] == [1e-3, 1e-3, 3e-4, 3e-4]


def test_the_stages_are_short_and_long():
    recipe = make_recipe(frames=9, batch_size=2)
    long = replace(recipe.stages[0], max_frames=33, batch_size=1)
    task = make_task(replace(recipe, stages=(*recipe.stages, long)), alone())
    assert [task.loss(step, 0).clips for step in (0, 1, 2, 3)] == [2, 2, 1, 1]


def test_a_clip_that_cannot_be_read_is_replaced():
    task = make_task(make_recipe(batch_size=6), alone(), broken=(1, 4))
    assert len(task.batches.read(0, 0)) == 6
    with pytest.raises(InputError, match="none of the 6"):
        make_task(make_recipe(), alone(), broken=range(6)).loss(0, 0)


def test_every_clip_comes_once_an_epoch():
    recipe = make_recipe(batch_size=3, steps=4)
    task = make_task(recipe, alone())
    clips = [frames.tobytes() for step in range(4) for frames in task.batches.read(step, 0)]
    assert len(set(clips[:6])) == 6
    assert set(clips[6:]) == set(clips[:6])
    assert clips[6:] != clips[:6]


def test_threads_read_the_same():
    recipe = make_recipe(batch_size=4, accumulate=2, steps=3)
    stages = [VAEStage([Drawn(6, 9)], Drawn(6, 1), 0.5, 4)]
    one, other = (VAEBatches(recipe, stages, ranks=(0, 1), num_workers=n) for n in (0, 2))
    for step in range(3):
        for micro in range(2):
            for x, y in zip(one.read(step, micro), other.read(step, micro), strict=True):
                assert np.array_equal(x, y)


def test_images_take_their_share_of_steps():
    recipe = make_recipe(steps=200)
    batches = VAEBatches(recipe, [VAEStage([Drawn(6, 9)], Drawn(6, 1), 0.25, 4)], ranks=(0, 1), num_workers=0)
    images = [batches.shape(step)[0] for step in range(200)]
    assert 30 <= sum(images) <= 70


@pytest.mark.parametrize(
    "recipe,match",
    [
        (make_recipe(batch_size=3, accumulate=2), "batch_size is 3"),
        (make_recipe(frames=13), "13 frames"),
        (make_recipe(vae={"freeze": "encoder", "channels": "equal"}), "vae.channels changes the latents"),
        (make_recipe(vae={"freeze": "encoder", "inflate": "last"}), "vae.inflate changes the latents"),
        (replace(make_recipe(), stages=(replace(make_recipe().stages[0], sizes=((16, 20),)),)), "8 pixels"),
    ],
)
def test_recipes_that_cannot_be_trained(recipe, match):
    with pytest.raises(UsageError, match=match):
        make_task(recipe, alone())


def validated(world, recipe):
    return make_task(recipe, world, held_out=Drawn(5, 9)).validate()


def test_validation_is_the_same_on_two_ranks(ranks):
    recipe = make_recipe()
    one = validated(alone(), recipe)
    assert set(one) == {"psnr", "ssim", "flicker", "flicker_original", "flicker_excess"}
    for other in ranks(2, validated, recipe):
        assert other == pytest.approx(one, rel=1e-6)


def test_the_result_can_be_opened(tmp_path):
    from cogvx.checkpoints.diffusers import open_model

    task = make_task(make_recipe(), alone(), held_out=Drawn(3, 9))
    task.export(tmp_path)
    opened = open_model(tmp_path)
    assert opened.vae_config.scaling_factor == pytest.approx(task.measure_scaling())
    vae, video = opened.load_vae(), torch.rand(1, 3, 9, 16, 16)
    with torch.no_grad():
        assert torch.equal(vae.encode(video).mean, task.vae.encode(video).mean)


def exported(channels, folder):
    """Return the spreads before, the task with the VAE that it left, and what both make of a clip."""
    from cogvx.checkpoints.diffusers import open_model

    task = make_task(make_recipe(vae={"channels": channels}), alone(), held_out=Drawn(3, 9))
    rescale_latents(task.vae, torch.tensor([0.3, 1.0, 2.0, 4.0]))
    before, video = task.measure_channels(), torch.rand(1, 3, 9, 16, 16)
    clips = []
    for _ in range(2):
        with torch.no_grad():
            clips.append(task.vae.decode(task.vae.scale(task.vae.encode(video).mean)))
        task.export(folder)
        task.vae = open_model(folder).load_vae()
    assert task.vae.config.scaling_factor == 1.0
    return before, task, clips


def test_channels_can_leave_with_one_spread(tmp_path):
    before, task, clips = exported("equal", tmp_path)
    assert before.max() > 5 * before.min()
    assert torch.allclose(task.measure_channels(), torch.ones_like(before), rtol=1e-4)
    assert torch.allclose(*clips, atol=1e-4)


def test_channels_can_leave_with_the_spread_that_is_seen(tmp_path):
    _, task, clips = exported("visible", tmp_path)
    spreads = task.measure_channels()
    pictures = [task.vae.encode(to_video(Drawn(3, 9).frames(i)[:1])[None]).mean for i in range(3)]
    seen = measure_visibility(task.vae, pictures, spreads)
    assert torch.allclose(spreads.square().mean(), torch.tensor(1.0, dtype=torch.float64), rtol=1e-4)
    assert torch.allclose(spreads / spreads[0], (seen / seen[0]).sqrt(), rtol=1e-2)
    assert spreads.max() > 1.05 * spreads.min()
    assert torch.allclose(*clips, atol=1e-4)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_frozen_encoder_stays_and_the_decoder_learns_as_ever(dtype):
    recipes = [make_recipe(vae={"kl": 1e-3, "freeze": freeze}, dtype=dtype) for freeze in ("none", "encoder")]
    (value, _, gradients), frozen = (one_step(alone(), recipe) for recipe in recipes)
    assert frozen[0] == value
    for name, gradient in frozen[2].items():
        assert torch.equal(gradient, torch.zeros_like(gradient) if "encoder." in name else gradients[name]), name
    task = make_task(recipes[1], alone())
    trained = {id(w) for optimizer in task.optimizers() for group in optimizer.param_groups for w in group["params"]}
    assert trained == {id(weight) for weight in task.vae.decoder.parameters()}


def test_previews_show_both(tmp_path):
    from cogvx.data.video import read_clip

    make_task(make_recipe(), alone(), held_out=Drawn(2, 9)).preview(tmp_path)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["00.mp4", "01.mp4"]
    assert read_clip(tmp_path / "00.mp4").frames.shape == (9, 16, 32, 3)


def test_a_vae_of_images_starts_on_clips_with_frames_apart():
    torch.manual_seed(0)
    vae = CausalVAE(VAEConfig(**SMALL))
    image = torch.rand(1, 3, 1, 16, 16) * 2 - 1
    with torch.no_grad():
        before = vae.encode(image).mean
        inflate(vae)
        assert torch.allclose(vae.encode(image).mean, before, atol=1e-5)
    kernels = [m.conv.weight for m in vae.modules() if isinstance(m, CausalConv3d) and m.num_past]
    assert kernels and all(not kernel[:, :, :-1].any() and kernel[:, :, -1].any() for kernel in kernels)


def test_a_window_of_each_clip_is_trained_on():
    recipe = make_recipe(frames=9, batch_size=2)
    recipe = replace(recipe, stages=(replace(recipe.stages[0], sizes=((32, 48),), crop=(16, 24)),))
    clips = Drawn(4, 9, size=(32, 48))
    clips.frames = lambda index, moment: np.random.default_rng(index).integers(0, 255, (9, 32, 48, 3), dtype=np.uint8)
    batches = VAEBatches(recipe, [VAEStage([clips], None, 0.0, 2)], ranks=(0, 1), num_workers=0)
    whole = [clips.frames(i, 0.0) for i in range(4)]
    seen = {}
    for step in range(2):
        for window in batches.read(step, 0):
            assert window.shape == (9, 16, 24, 3)
            found = [
                (i, top, left)
                for i, clip in enumerate(whole)
                for top in range(17)
                for left in range(25)
                if np.array_equal(clip[:, top : top + 16, left : left + 24], window)
            ]
            assert len(found) == 1
            seen[found[0][0]] = found[0][1:]
    assert len(seen) == 4 and len(set(seen.values())) > 1
    again = VAEBatches(recipe, [VAEStage([clips], None, 0.0, 2)], ranks=(0, 1), num_workers=0)
    assert all(np.array_equal(a, b) for a, b in zip(again.read(1, 0), batches.read(1, 0), strict=True))


@pytest.mark.parametrize("crop,words", [((24, 16), "larger than"), ((12, 16), "no multiples"), ((16,), "no height")])
def test_windows_that_cannot_be_cut(crop, words):
    recipe = make_recipe(frames=9)
    recipe = replace(recipe, stages=(replace(recipe.stages[0], crop=crop),))
    with pytest.raises(UsageError, match=words):
        make_task(recipe, alone())
