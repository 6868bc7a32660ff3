"""First frames: how training shows them, against what sampling does."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cogvx.generate.generator import Generator
from cogvx.generate.options import GenerateOptions, Runtime
from cogvx.training.conditioning import fill_front, noise_image
from cogvx.training.draws import source
from cogvx.training.recipe import DataOptions, DiffusionOptions
from cogvx.training.start import find_model, with_image_channels


def test_new_channels_change_nothing_at_first(dit):
    for extra in ({}, {"patch_size_t": 2, "patch_bias": False}):
        config = dit.make_recipe(transformer=extra)
        transformer = find_model(config).transformer(torch.device("cpu"))
        dit.fill(transformer)
        wide = with_image_channels(transformer, 4)
        generator = torch.Generator().manual_seed(0)
        latents, image = (torch.randn(1, 4, 4, 4, 6, generator=generator) for _ in range(2))
        text, time = torch.randn(1, 5, 16, generator=generator), torch.tensor([300])
        got = wide(torch.cat([latents, image], dim=1), text, time)
        assert torch.allclose(got, transformer(latents, text, time), atol=1e-6)
        assert wide.config.in_channels == 8 and all(weight.requires_grad for weight in wide.parameters())


@pytest.mark.parametrize(
    "form", [{}, {"patch_size_t": 2, "patch_bias": False, "ofs_embed_dim": 12}], ids=["1.0", "1.5"]
)
@pytest.mark.parametrize("convention", ["diffusers", "sat"])
def test_the_image_is_what_sampling_uses(dit, form, convention):
    options = DiffusionOptions(image_noise_mean=-100.0, image_noise_std=0.0, image_latent=convention)
    vae = dit.VAE | {"invert_scale_latents": bool(form)}
    task = dit.make_task(
        dit.make_recipe("i2v", transformer=form, model={"vae": vae}, diffusion=options), dit.Clips(dit.SHAPES)
    )
    sample = dit.Clips(dit.SHAPES).read(0)
    image = task.encoder.image(sample, 4 if form else 3, None)
    runtime = Runtime(device=torch.device("cpu"), dtype=torch.float32)

    class Parts:
        def vae(self):
            return task.encoder.vae

    generator = Generator(Parts(), vae=task.model.vae_config, transformer=task.transformer.config, runtime=runtime)
    scale = "scaled" if convention == "sat" else "auto"
    asked = GenerateOptions(prompt="", height=32, width=48, num_frames=9, image_latent_scale=scale)
    first = torch.from_numpy(sample.frames[0].copy()).permute(2, 0, 1).float() / 127.5 - 1
    wanted = generator._encode_image(first, asked)[0].transpose(0, 1)
    assert torch.allclose(image, wanted, atol=1e-5)
    if form and convention == "diffusers":
        assert torch.allclose(image[:, 0] * 0.49, task.encoder.image(sample, 4, None)[:, 0] * 0.7**2)
    assert not image[:, 1:].any()


def test_image_to_video_is_shown_a_noisy_first_frame(dit):
    recipe = dit.make_recipe("i2v", tokens=1000, data=DataOptions(image_dropout=0.0))
    task = dit.make_task(recipe, dit.Clips(dit.SHAPES[:1] * 2))
    batch, again = task.batch(0, 0), task.batch(1, 0)
    assert batch.inputs[0].shape == (8, 3, 4, 6) and batch.targets[0].shape == (4, 3, 4, 6)
    assert batch.inputs[0][4:, 0].any() and not batch.inputs[0][4:, 1:].any()
    assert not torch.equal(batch.inputs[0][4:], again.inputs[0][4:])
    blind = dit.make_task(replace(recipe, data=DataOptions(image_dropout=1.0)), dit.Clips(dit.SHAPES[:1] * 2))
    assert not blind.batch(0, 0).inputs[0][4:].any()
    assert torch.equal(blind.batch(0, 0).inputs[0][:4], batch.inputs[0][:4])


def test_the_strength_of_the_images_noise(dit):
    frame = torch.zeros(3, 1, 64, 64)
    stds = [float(noise_image(frame, mean=-3.0, std=0.5, generator=source(0, "x", i)).std()) for i in range(300)]
    logs = np.log(stds)
    assert logs.mean() == pytest.approx(-3.0, abs=0.1) and logs.std() == pytest.approx(0.5, abs=0.06)


def test_15_models_repeat_the_first_latent_in_front(dit):
    latents = torch.arange(3.0).reshape(1, 3, 1, 1)
    assert fill_front(latents, 2).flatten().tolist() == [0, 0, 1, 2] and fill_front(latents, 1) is latents
    form = {"patch_size_t": 2, "patch_bias": False, "ofs_embed_dim": 12}
    task = dit.make_task(dit.make_recipe("i2v", transformer=form, tokens=1000), dit.Clips(dit.SHAPES[:2]))
    batch = task.batch(0, 0)
    assert sorted(x.shape[1] for x in batch.inputs) == [2, 4]
    assert task._stages[0].num_tokens(task._stages[0].items(0)[0][0]) == 5 + 2 * 6


def test_ofs_reaches_the_network(dit):
    form = {"patch_size_t": 2, "patch_bias": False, "ofs_embed_dim": 12}
    recipe = dit.make_recipe("i2v", transformer=form, tokens=1000)
    task = dit.make_task(recipe, dit.Clips(dit.SHAPES[:1]))
    batch = task.batch(0, 0)
    velocity = task._predict(batch.inputs, batch.text_embeds, batch.timesteps)[0]
    wanted = task.transformer(
        batch.inputs[0][None], batch.text_embeds[:1], batch.timesteps[:1], ofs=torch.full((1,), 2.0)
    )[0]
    assert torch.allclose(velocity, wanted, atol=1e-6)
    assert not torch.allclose(velocity, task.transformer(batch.inputs[0][None], batch.text_embeds, batch.timesteps)[0])
