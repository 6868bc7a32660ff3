"""`cogvx vae`: encode, decode, roundtrip, and real pipes between them."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from cogvx.data.latents import load_latents
from cogvx.data.video import probe, read_clip, to_video, write_clip


def moving(frames, height, width):
    """A bright square that moves over a gradient."""
    clip = np.zeros((frames, height, width, 3), dtype=np.uint8)
    clip[..., 0] = np.linspace(0, 200, width, dtype=np.uint8)
    for t in range(frames):
        clip[t, 4:14, t : t + 10, 1] = 255
    return clip


@pytest.fixture
def clip(tmp_path):
    write_clip(tmp_path / "clip.mkv", moving(17, 32, 48), 12)
    return tmp_path / "clip.mkv"


@pytest.fixture
def vae(cogvx, model_folder):
    return lambda *arguments, form="5b", **settings: cogvx("vae", *arguments, "-m", model_folder(form), **settings)


def diffusers_vae(folder):
    import diffusers

    return diffusers.AutoencoderKLCogVideoX.from_pretrained(folder / "vae").eval()


def test_encode_is_diffusers_mean_times_the_factor(vae, model_folder, clip):
    result = vae("encode", clip, "--json")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert record["output"] == "clip.safetensors" and record["shape"] == [4, 5, 4, 6] and record["fps"] == 12
    latents, info = load_latents("clip.safetensors")
    assert (info.model, info.source, info.num_frames, info.height, info.width) == ("tiny-5b", "clip.mkv", 17, 32, 48)
    reference = diffusers_vae(model_folder("5b"))
    with torch.no_grad():
        mean = reference.encode(to_video(read_clip(clip).frames)[None]).latent_dist.mode()[0]
    assert (latents - mean * 0.7).abs().max() <= 1e-5


@pytest.mark.parametrize("tiling", ["on", "off"])
def test_decode_is_diffusers(vae, model_folder, clip, tiling):
    vae("encode", clip, "-o", "a.safetensors")
    assert vae("decode", "a.safetensors", "-o", "a.mkv", "--vae-tiling", tiling).exit_code == 0
    reference = diffusers_vae(model_folder("5b"))
    if tiling == "on":
        reference.enable_tiling()
    with torch.no_grad():
        video = reference.decode(load_latents("a.safetensors")[0][None] / 0.7).sample[0]
    wanted = ((video * 0.5 + 0.5).clamp(0, 1) * 255).round().byte().permute(1, 2, 3, 0).numpy()
    got = read_clip("a.mkv").frames
    assert got.shape == wanted.shape
    assert np.abs(got.astype(int) - wanted.astype(int)).max() <= 1  # a value on the edge may round either way
    assert (got != wanted).mean() < 1e-3


def test_sample_needs_a_seed_and_repeats(vae, clip):
    for name, flags in {"a": ["--sample"], "b": ["--sample"], "c": ["--sample", "--seed", 1], "d": []}.items():
        assert vae("encode", clip, "-o", f"{name}.safetensors", *flags).exit_code == 0
    a, b, c, d = (load_latents(f"{name}.safetensors")[0] for name in "abcd")
    assert torch.equal(a, b) and not torch.equal(a, c) and not torch.equal(a, d)


def test_frames_are_cut_and_sizes_fitted(vae, tmp_path):
    write_clip(tmp_path / "odd.mkv", moving(12, 50, 70), 8)
    refused = vae("encode", "odd.mkv")
    assert refused.exit_code == 3 and "--height 48 --width 64" in refused.stderr
    fitted = vae("encode", "odd.mkv", "--height", 48, "--width", 64)
    assert fitted.exit_code == 0 and "first 9 of 12 frames" in fitted.stderr
    assert load_latents("odd.safetensors")[0].shape == (4, 3, 6, 8)
    assert vae("encode", "odd.mkv", "--height", 47, "--overwrite").exit_code == 2
    assert vae("encode", "odd.mkv", "--frames", 10, "--overwrite").exit_code == 2
    assert vae("encode", "odd.mkv", "--frames", 17, "--overwrite").exit_code == 3


def test_batch_goes_on_after_a_bad_file(vae, clip, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"\0" * 100)
    result = vae("encode", "bad.mp4", clip, "-o", "latents/", "--json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 3
    assert lines[0]["input"] == "bad.mp4" and "error" in lines[0] and lines[1]["output"] == "latents/clip.safetensors"
    assert [path.name for path in (tmp_path / "latents").iterdir()] == ["clip.safetensors"]


def test_outputs_are_kept(vae, clip, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"mine")
    result = vae("encode", clip, "-o", "x.safetensors")
    assert result.exit_code == 0 and "--overwrite" in result.stderr
    assert (tmp_path / "x.safetensors").read_bytes() == b"mine"


def test_damaged_latents(vae, clip, tmp_path):
    vae("encode", clip, "-o", "x.safetensors")
    data = (tmp_path / "x.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[:-10])
    for name in ("cut.safetensors", "no.safetensors", "clip.mkv"):
        result = vae("decode", name, "-o", "y.mp4")
        assert result.exit_code == 3 and name in result.stderr and not (tmp_path / "y.mp4").exists()


def test_stdin_needs_a_name_for_its_result(vae):
    assert vae("decode", "-").exit_code == 2


def test_real_pipe(model_folder, clip, tmp_path):
    folder = model_folder("5b")
    one = f"{sys.executable} -m cogvx vae encode clip.mkv -m {folder} -o -"
    two = f"{sys.executable} -m cogvx vae decode - -m {folder} -o again.mkv"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {one} | {two}"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "again.mkv\n"), done.stderr
    info = probe(tmp_path / "again.mkv")
    assert (info.frames, info.fps, info.width, info.height) == (17, 12, 48, 32)


def test_clip_from_stdin(vae, clip):
    result = vae("encode", "-", "-o", "x.safetensors", input=clip.read_bytes())
    assert result.exit_code == 0, result.stderr
    assert load_latents("x.safetensors")[1].source == "stdin"


class TestRoundtrip:
    def test_table(self, vae, clip, tmp_path):
        write_clip(tmp_path / "still.mkv", np.repeat(moving(1, 32, 48), 9, axis=0), 8)
        result = vae("roundtrip", clip, "still.mkv")
        assert result.exit_code == 0, result.stderr
        header, first, second, mean = result.stdout.splitlines()
        assert header.split()[0] == "clip" and "PSNR" in header and "flicker" in header
        assert first.startswith(str(clip)) and "17x32x48" in first and mean.startswith("mean of 2")
        assert second.split()[-1] == "0.0000"  # a still source does not flicker
        assert not (tmp_path / "clip.mp4").exists()

    def test_json_agrees_with_the_metrics_and_writes_on_request(self, vae, clip):
        from cogvx.metrics.reconstruction import from_frames, psnr

        record = json.loads(vae("roundtrip", clip, "--json", "-o", "again.mkv", "--frames", 9).stdout)
        assert record["num_frames"] == 9 and record["output"] == "again.mkv"
        pair = [from_frames(read_clip(path, max_frames=9).frames) for path in (clip, "again.mkv")]
        assert record["psnr"] == pytest.approx(psnr(*pair).item(), abs=1e-4)

    def test_one_frame_has_no_flicker(self, vae, clip):
        record = json.loads(vae("roundtrip", clip, "--json", "--frames", 1).stdout)
        assert record["flicker"] is None and record["psnr"] > 0
