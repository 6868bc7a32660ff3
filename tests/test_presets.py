"""Names of models: where they lead, and what a model does by default."""

import json
from pathlib import Path

import pytest

from cogvx.errors import InputError, MissingError, UsageError
from cogvx.presets import PRESETS, ResolvedModel, is_complete, is_name, read_defaults, resolve

V1_0 = {"num_layers": 42, "in_channels": 16, "out_channels": 16, "use_rotary_positional_embeddings": True}
V1_5 = V1_0 | {"patch_size_t": 2, "sample_height": 300, "sample_width": 300, "sample_frames": 81}
CONFIGS = {
    "2b": {"num_layers": 30, "in_channels": 16, "out_channels": 16},
    "5b": V1_0,
    "5b-i2v": V1_0 | {"in_channels": 32, "use_learned_positional_embeddings": True},
    "1.5-5b": V1_5,
    "1.5-5b-i2v": V1_5 | {"in_channels": 32, "ofs_embed_dim": 512},
}


@pytest.fixture
def offline(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.parametrize("name", CONFIGS)
def test_defaults_of_the_official_models_follow_from_their_files(name):
    vae = {"block_out_channels": [128, 256, 256, 512]}
    assert read_defaults({"transformer": CONFIGS[name], "vae": vae}) == PRESETS[name].defaults


def test_a_1_5_model_with_its_own_size_keeps_it():
    config = V1_5 | {"sample_height": 96, "sample_width": 170}
    defaults = read_defaults({"transformer": config})
    assert (defaults.height, defaults.width) == (768, 1360)


def test_a_model_may_bring_its_own_defaults():
    index = {"_cogvx": {"fps": 10, "num_steps": 30, "guidance_scale": 3.0, "dtype": "fp32"}}
    defaults = read_defaults({"transformer": V1_0, "model_index": index})
    assert (defaults.fps, defaults.num_steps, defaults.guidance_scale, defaults.dtype) == (10, 30, 3.0, "fp32")
    assert defaults.num_frames == 49
    with pytest.raises(InputError, match="_cogvx"):
        read_defaults({"transformer": V1_0, "model_index": {"_cogvx": {"colour": "red"}}})


@pytest.mark.parametrize("name", ["6b", "5-b", "tinny"])
def test_unknown_names_offer_the_nearest(name, offline):
    with pytest.raises(UsageError, match="did you mean"):
        resolve(name)


@pytest.mark.parametrize("name", ["5b", "THUDM/CogVideoX-5b", "zai-org/cogvideox-5b", "somebody/some-model"])
def test_offline_names_the_command_that_fetches(name, offline):
    with pytest.raises(MissingError, match="cogvx models pull"):
        resolve(name)


@pytest.mark.parametrize("name", ["./nothing", "/nowhere/at/all", "~/nothing", "a/b/c"])
def test_missing_folders(name, offline):
    with pytest.raises(InputError, match="no such folder"):
        resolve(name)


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="is a file"):
        resolve(tmp_path / "model.safetensors")


def test_a_folder_is_taken_as_it_is(tmp_path):
    assert resolve(tmp_path) == ResolvedModel(name=tmp_path.name, path=tmp_path)


def test_embedded_models_share_parts(tmp_path, monkeypatch):
    from cogvx import presets

    for folder in ("tiny/vae", "tiny/text_encoder", "tiny/transformer", "tiny-i2v/transformer"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "tiny" / "model_index.json").write_text("{}")
    monkeypatch.setattr(presets, "EMBEDDED", tmp_path)
    assert resolve("tiny").path == tmp_path / "tiny" and not resolve("tiny").shared
    with pytest.raises(MissingError, match="no embedded model tiny-i2v"):
        resolve("tiny-i2v")
    (tmp_path / "tiny-i2v" / "model_index.json").write_text("{}")
    shared = resolve("tiny-i2v").shared
    assert shared == {name: tmp_path / "tiny" / name for name in ("vae", "text_encoder")}


def in_cache(root: Path, repo: str) -> Path:
    """Lay out a repository as the Hugging Face cache does."""
    base = root / f"models--{repo.replace('/', '--')}"
    snapshot = base / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (base / "refs").mkdir()
    (base / "refs" / "main").write_text("a" * 40)
    index = {"_class_name": "CogVideoXPipeline", "vae": ["diffusers", "AutoencoderKLCogVideoX"]}
    (snapshot / "model_index.json").write_text(json.dumps(index))
    return snapshot


@pytest.mark.parametrize("repo", ["zai-org/CogVideoX-2b", "THUDM/CogVideoX-2b"])
def test_the_cache_is_looked_at_under_both_ids(repo, offline, tmp_path):
    snapshot = in_cache(tmp_path / "hub", repo)
    with pytest.raises(MissingError):  # a download that was broken off
        resolve("2b")
    (snapshot / "vae").mkdir()
    (snapshot / "vae" / "config.json").write_text("{}")
    shards = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (snapshot / "vae" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(shards))
    (snapshot / "vae" / "one.safetensors").write_bytes(b"")
    assert not is_complete(snapshot)
    (snapshot / "vae" / "two.safetensors").write_bytes(b"")
    assert is_complete(snapshot)
    assert resolve("2b") == ResolvedModel(name="2b", path=snapshot, preset=PRESETS["2b"])


def test_download_is_announced_with_its_licence(monkeypatch, tmp_path):
    import huggingface_hub
    from huggingface_hub import constants, errors

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    asked = []

    def download(repo, *, revision, local_files_only, allow_patterns):
        if local_files_only:
            raise errors.LocalEntryNotFoundError("not here")
        asked.append((repo, allow_patterns))
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    said = []
    with pytest.raises(MissingError, match="cogvx models pull 5b"):
        resolve("5b", announce=said.append)
    assert len(said) == 1 and "CogVideoX License" in said[0] and "GB" in said[0]
    assert asked[0][0] == "zai-org/CogVideoX-5b"
    assert not any("bin" in pattern or ".pt" in pattern or ".py" in pattern for pattern in asked[0][1])


def test_names_without_a_folder():
    assert is_name("tiny") and is_name("owner/model")
    assert not is_name("my-model") and not is_name("./owner/model")
