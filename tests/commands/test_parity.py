"""The command line gives the latents that diffusers gives, from the same seed, for every form of the model."""

import numpy as np
import pytest
import torch
from PIL import Image

from cogvx.data.latents import load_latents
from cogvx.data.video import write_clip

PROMPT = "a red star moves to the right"


def pipeline_of(folder, scheduler, kind=None):
    import diffusers

    kind = kind or (
        diffusers.CogVideoXImageToVideoPipeline if folder.name.endswith("i2v") else diffusers.CogVideoXPipeline
    )
    pipe = kind.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    if scheduler == "dpm":
        pipe.scheduler = diffusers.CogVideoXDPMScheduler.from_config(pipe.scheduler.config)
    return pipe


@pytest.fixture
def mean_posterior(monkeypatch):
    """Let diffusers condition by the posterior's mean, as the contract has it, and draw nothing for it."""
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())


def common(folder, pipe, seed=3):
    return {
        "prompt": PROMPT,
        "height": 32,
        "width": 48,
        "generator": torch.Generator().manual_seed(seed),
        "max_sequence_length": pipe.transformer.config.max_text_seq_length,
        "output_type": "latent",
    }


def made_by_cogvx(result, path):
    assert result.exit_code == 0, result.stderr
    return load_latents(path)[0]


def assert_same(ours, theirs):
    """Compare ours (c t h w) with theirs (1 t c h w), which may have the frame in front that is dropped later."""
    theirs = theirs[0].transpose(0, 1)[:, -ours.shape[1] :]
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-4 * max(1.0, theirs.abs().max().item())


@pytest.mark.parametrize("scheduler", ["ddim", "dpm"])
@pytest.mark.parametrize("form", ["2b", "5b", "1.5"])
def test_t2v(cogvx, model_folder, tmp_path, form, scheduler):
    folder = model_folder(form)
    options = ["--steps", 4, "--guidance", 4, "--negative-prompt", "blue", "--dynamic-guidance", "off"]
    options += ["--scheduler", scheduler, "--seed", 3, "--frames", 17, "--height", 32, "--width", 48]
    result = cogvx("sample", PROMPT, "-m", folder, *options, "--output-type", "latents", "-o", "x.safetensors")
    ours = made_by_cogvx(result, tmp_path / "x.safetensors")
    pipe = pipeline_of(folder, scheduler)
    theirs = pipe(
        **common(folder, pipe), negative_prompt="blue", num_frames=17, num_inference_steps=4, guidance_scale=4
    )
    assert_same(ours, theirs.frames)


def test_t2v_dynamic_guidance_other_size_and_frames(cogvx, model_folder, tmp_path):
    folder = model_folder("5b")
    options = ["--steps", 7, "--dynamic-guidance", "official", "--scheduler", "dpm", "--frames", 9]
    options += ["--height", 64, "--width", 32, "--seed", 3, "--output-type", "latents", "-o", "x.safetensors"]
    ours = made_by_cogvx(cogvx("sample", PROMPT, "-m", folder, *options), tmp_path / "x.safetensors")
    pipe = pipeline_of(folder, "dpm")
    arguments = common(folder, pipe) | {"height": 64, "width": 32}
    theirs = pipe(**arguments, num_frames=9, num_inference_steps=7, guidance_scale=6, use_dynamic_cfg=True)
    assert_same(ours, theirs.frames)


def test_t2v_frames_match_after_decoding(cogvx, model_folder, tmp_path):
    """Not only latents: the pixels of diffusers' own decoding, in a lossless file."""
    from cogvx.data.video import read_clip

    folder = model_folder("1.5")
    result = cogvx(
        "sample", PROMPT, "-m", folder, "--steps", 2, "--seed", 3, "-o", "x.mkv", "--dynamic-guidance", "off"
    )
    assert result.exit_code == 0, result.stderr
    pipe = pipeline_of(folder, "dpm")
    arguments = common(folder, pipe) | {"output_type": "np"}
    theirs = pipe(**arguments, num_frames=17, num_inference_steps=2, guidance_scale=6).frames[0]
    ours = read_clip(tmp_path / "x.mkv").frames
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs * 255).max() <= 0.51


@pytest.mark.parametrize("scheduler", ["ddim", "dpm"])
@pytest.mark.parametrize("form", ["5b-i2v", "1.5-i2v"])
def test_i2v(cogvx, model_folder, tmp_path, mean_posterior, form, scheduler):
    folder = model_folder(form)
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    options = ["--steps", 3, "--guidance", 4, "--dynamic-guidance", "off", "--scheduler", scheduler, "--seed", 3]
    options += ["--frames", 17, "--output-type", "latents", "-o", "x.safetensors"]
    result = cogvx("i2v", "image.png", PROMPT, "-m", folder, *options)
    ours = made_by_cogvx(result, tmp_path / "x.safetensors")
    pipe = pipeline_of(folder, scheduler)
    image = Image.open(tmp_path / "image.png")
    theirs = pipe(image=image, **common(folder, pipe), num_frames=17, num_inference_steps=3, guidance_scale=4)
    assert_same(ours, theirs.frames)


@pytest.mark.parametrize("scheduler", ["ddim", "dpm"])
@pytest.mark.parametrize("form", ["2b", "5b"])
def test_v2v(cogvx, model_folder, tmp_path, mean_posterior, form, scheduler):
    import diffusers

    folder = model_folder(form)
    frames = np.random.default_rng(1).integers(0, 255, (17, 32, 48, 3), dtype=np.uint8)
    write_clip(tmp_path / "clip.mkv", frames, 8)
    options = ["--steps", 5, "--strength", 0.7, "--dynamic-guidance", "official", "--scheduler", scheduler, "--seed", 3]
    result = cogvx("v2v", "clip.mkv", PROMPT, "-m", folder, *options, "--output-type", "latents", "-o", "x.safetensors")
    ours = made_by_cogvx(result, tmp_path / "x.safetensors")
    pipe = pipeline_of(folder, scheduler, diffusers.CogVideoXVideoToVideoPipeline)
    video = [Image.fromarray(frame) for frame in frames]
    arguments = common(folder, pipe) | {"num_inference_steps": 5, "strength": 0.7, "use_dynamic_cfg": True}
    theirs = pipe(video=video, **arguments, guidance_scale=6)
    assert_same(ours, theirs.frames)


def test_noise_is_that_of_diffusers(cogvx, model_folder, tmp_path):
    """One step of a model that predicts nothing returns the noise itself, so a latents file can stand in for a seed."""
    from cogvx.data.latents import save_latents

    noise = torch.randn(1, 5, 4, 4, 6, generator=torch.Generator().manual_seed(3))[0].transpose(0, 1)
    about = {"model": "", "fps": 8, "num_frames": 17, "height": 32, "width": 48, "source": ""}
    save_latents(tmp_path / "noise.safetensors", noise, **about)
    options = ["-m", model_folder("5b"), "--steps", 2, "--scheduler", "ddim", "--output-type", "latents"]
    seeded = cogvx("sample", PROMPT, *options, "--seed", 3, "-o", "a.safetensors")
    given = cogvx("sample", PROMPT, *options, "--latents", "noise.safetensors", "-o", "b.safetensors")
    one, two = (made_by_cogvx(r, tmp_path / f"{n}.safetensors") for r, n in ((seeded, "a"), (given, "b")))
    assert torch.equal(one, two)
