"""The models that ship inside the package: what they weigh, what diffusers makes of them, and what they show."""

import json
from pathlib import Path

import numpy as np
import torch

import cogvx.embedded
from cogvx.data.latents import load_latents
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
        height=64,
        width=96,
        num_frames=17,
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


def share_of(frames, colour):
    """The share of pixels (t h w 3) in which one channel stands out."""
    channel = "red green blue".split().index(colour)
    others = np.delete(frames.astype(int), channel, axis=3).max(axis=3)
    return float((frames[..., channel] > others + 80).mean())


def test_the_colour_asked_for_is_there(cogvx, tmp_path):
    shares = {}
    for colour in ("red", "blue"):
        result = cogvx("sample", f"a {colour} star moves to the right over a green field", "-o", f"{colour}.mkv")
        assert result.exit_code == 0, result.stderr
        frames = read_clip(tmp_path / f"{colour}.mkv").frames
        assert frames.shape == (17, 64, 96, 3)
        shares[colour] = share_of(frames, "red")
    assert shares["red"] > 0.02 and shares["red"] > 5 * shares["blue"]


def test_another_world_is_answered_with_a_note(cogvx):
    result = cogvx("sample", "a quarterly report about insurance", "--steps", 1, "-o", "x.mp4")
    assert result.exit_code == 0
    assert "quarterly" in result.stderr and "--model" in result.stderr
