"""`cogvx v2v`: clips in, other clips out."""

import json

import numpy as np
import pytest

from cogvx.data.video import probe, write_clip

PROMPT = "a red star moves up"
FAST = ["--steps", 4, "--json"]


@pytest.fixture
def clip(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (12, 32, 48, 3), dtype=np.uint8)
    write_clip(tmp_path / "clip.mkv", frames, 12)
    return tmp_path / "clip.mkv"


@pytest.mark.parametrize("form", ["5b", "1.5"])
def test_clip_is_cut_keeps_its_rate_and_shapes_the_result(cogvx, model_folder, clip, tmp_path, form):
    write_clip(tmp_path / "grey.mkv", np.full((12, 32, 48, 3), 128, dtype=np.uint8), 12)
    hashes = []
    for name in ("clip.mkv", "grey.mkv"):
        result = cogvx("v2v", name, PROMPT, "-m", model_folder(form), *FAST, "-o", f"{name}.mp4")
        assert result.exit_code == 0, result.stderr
        assert "the first 9 of its 12 frames" in result.stderr
        hashes.append(json.loads(result.stdout)["frames_sha256"])
        info = probe(f"{name}.mp4")
        assert (info.frames, info.fps) == (9, 12)
        record = json.loads(info.comment)
        assert record["strength"] == 0.8 and record["inputs"]["clip"]["name"] == name
    assert hashes[0] != hashes[1]


def test_strength_is_how_far_to_go(cogvx, model_folder, clip):
    """The less strength, the closer to what the VAE makes of the clip itself."""
    from cogvx.data.latents import load_latents

    folder = model_folder("5b")
    cogvx("vae", "encode", "clip.mkv", "-m", folder, "-o", "own.safetensors")
    own = load_latents("own.safetensors")[0]
    distances = []
    for strength in (0.25, 0.5, 1):
        flags = ["--strength", strength, "--output-type", "latents", "-o", f"{strength}.safetensors", "--guidance", 1]
        result = cogvx("v2v", "clip.mkv", PROMPT, "-m", folder, *FAST, *flags, "--scheduler", "ddim")
        assert result.exit_code == 0, result.stderr
        distances.append((load_latents(f"{strength}.safetensors")[0] - own).square().mean().item())
    assert distances == sorted(distances)


def test_like(cogvx, model_folder, clip):
    folder = model_folder("5b")
    made = cogvx("v2v", "clip.mkv", PROMPT, "-m", folder, *FAST, "-o", "a.mp4", "--strength", 0.5)
    again = cogvx("v2v", "clip.mkv", "--like", "a.mp4", "-m", folder, "--json", "-o", "b.mp4")
    assert again.exit_code == 0, again.stderr
    assert json.loads(again.stdout)["frames_sha256"] == json.loads(made.stdout)["frames_sha256"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["clip.mkv", PROMPT, "--strength", "0"], 2, "(0, 1]"),
        (["clip.mkv", PROMPT, "--strength", "1.5"], 2, "(0, 1]"),
        (["clip.mkv", PROMPT, "--strength", "0.1"], 2, "leaves none of the 4 steps"),
        (["clip.mkv", PROMPT, "--frames", "17"], 2, "nearest: 9"),
        (["clip.mkv", PROMPT, "--frames", "8"], 2, "nearest: 1 or 9"),
        (["no.mp4", PROMPT], 3, "no.mp4"),
        (["note.txt", PROMPT], 3, "note.txt"),
    ],
)
def test_refusals(cogvx, model_folder, clip, tmp_path, arguments, code, words):
    (tmp_path / "note.txt").write_text("not a clip")
    result = cogvx("v2v", *arguments, "-m", model_folder("5b"), *FAST, "-o", "a.mp4")
    assert result.exit_code == code and words in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 2
    assert not (tmp_path / "a.mp4").exists()
