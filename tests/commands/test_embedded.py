"""The models that ship inside the package: what they weigh, what diffusers makes of them, and what they show."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import cogvx.embedded
from cogvx.data.latents import load_latents
from cogvx.data.storyboard import StoryboardOptions, plain_caption, render, spec_at
from cogvx.data.video import read_clip

ROOT = Path(cogvx.embedded.__file__).parent
PROMPT = "a red star moves to the right over a green field"


def test_small_enough_and_no_pickle():
    files = [path for path in ROOT.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) <= 40e6
    assert {path.suffix for path in files} <= {".py", ".json", ".safetensors", ".model"}


def test_diffusers_gives_the_same_latents(cogvx, tmp_path):
    import diffusers

    path = json.loads(cogvx("models", "show", "tiny", "--json").stdout)["path"]
    pipe = diffusers.CogVideoXPipeline.from_pretrained(path)
    pipe.set_progress_bar_config(disable=True)
    text_length = pipe.transformer.config.max_text_seq_length
    theirs = pipe(
        PROMPT,
        height=128,
        width=192,
        num_frames=25,
        num_inference_steps=5,
        guidance_scale=4,
        generator=torch.Generator().manual_seed(3),
        max_sequence_length=text_length,
        output_type="latent",
    ).frames[0]
    options = ["--steps", 5, "--guidance", 4, "--seed", 3, "--dtype", "fp32", "--output-type", "latents"]
    result = cogvx("sample", PROMPT, *options, "-o", "x.safetensors")
    assert result.exit_code == 0, result.stderr
    ours = load_latents(tmp_path / "x.safetensors")[0]
    assert (ours - theirs.transpose(0, 1)).abs().max() <= 1e-4 * theirs.abs().max()


def standing_out(frames, colour):
    """Where one channel stands out of the others, (t h w)."""
    channel = "red green blue".split().index(colour)
    others = np.delete(frames.astype(int), channel, axis=3).max(axis=3)
    return frames[..., channel] > others + 80


def test_the_colour_and_the_motion_asked_for_are_there(cogvx, tmp_path):
    shares, moved = {}, {}
    for colour, direction in (("red", "right"), ("red", "left"), ("blue", "right")):
        prompt = f"a {colour} star moves to the {direction} over a green field"
        result = cogvx("sample", prompt, "-o", f"{colour}-{direction}.mkv")
        assert result.exit_code == 0, result.stderr
        frames = read_clip(tmp_path / f"{colour}-{direction}.mkv").frames
        assert frames.shape == (25, 128, 192, 3)
        shares[colour] = standing_out(frames, "red").mean()
        mask = standing_out(frames, colour)
        columns = [np.nonzero(frame)[1].mean() for frame in (mask[0], mask[-1])]
        moved[colour, direction] = columns[1] - columns[0]
    assert shares["red"] > 0.02 and shares["red"] > 5 * shares["blue"]
    # Of 192 pixels; the whole way is 96.
    assert moved["red", "right"] > 24 and moved["blue", "right"] > 24 and moved["red", "left"] < -24


def test_another_world_is_answered_with_a_note(cogvx):
    result = cogvx("sample", "a quarterly report about insurance", "--steps", 1, "-o", "x.mp4")
    assert result.exit_code == 0
    assert "quarterly" in result.stderr and "--model" in result.stderr


def test_image_to_video_starts_with_its_image(cogvx, tmp_path):
    options = StoryboardOptions(split="test", counts={1: 1.0}, cameras={"still": 1.0}, styles={"flat": 1.0})
    specs = [spec_at(99, i, options) for i in range(2)]
    pictures = [render(spec, num_frames=1, height=128, width=192, fps=8.0)[0] for spec in specs]
    errors = np.zeros((2, 2))
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
        result = cogvx("i2v", f"{i}.png", plain_caption(specs[i]), "-o", f"{i}.mkv")
        assert result.exit_code == 0, result.stderr
        first = read_clip(tmp_path / f"{i}.mkv").frames[0].astype(float)
        errors[i] = [((first - other) ** 2).mean() for other in pictures]
    assert all(errors[i, i] < errors[i, 1 - i] / 8 for i in range(2))
    assert -10 * np.log10(errors.diagonal().max() / 255**2) > 18
