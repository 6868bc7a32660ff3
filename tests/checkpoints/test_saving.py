import json

import pytest
import torch

from cogvx.checkpoints.hashes import weights_sha256
from cogvx.checkpoints.saving import parse_size, plan_shards, save_component
from cogvx.checkpoints.weights import StoredTensor, open_weights
from cogvx.errors import UsageError


@pytest.mark.parametrize(
    ("text", "size"),
    [("5GB", 5 * 10**9), ("500 MB", 5 * 10**8), ("2GiB", 2**31), ("123", 123), ("1.5kb", 1500), ("10b", 10)],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "5TB", "0", "nan"])
def test_no_sizes(text):
    with pytest.raises(UsageError):
        parse_size(text)


def test_shards_hold_whole_tensors_in_order():
    weights = {name: StoredTensor.of(torch.zeros(count)) for name, count in {"a": 10, "b": 10, "c": 30, "d": 1}.items()}
    assert plan_shards(weights, stem="m", max_shard_bytes=80) == {
        "m-00001-of-00003.safetensors": ["a", "b"],
        "m-00002-of-00003.safetensors": ["c"],
        "m-00003-of-00003.safetensors": ["d"],
    }
    assert list(plan_shards(weights, stem="m", max_shard_bytes=10**6)) == ["m.safetensors"]


@pytest.mark.parametrize("max_shard_bytes", [10**9, 20_000])
def test_diffusers_loads_what_is_saved(tmp_path, transformer, max_shard_bytes):
    reference = transformer("5b")
    config = dict(reference.config)
    save_component(reference.state_dict(), config, tmp_path / "transformer", max_shard_bytes=max_shard_bytes)
    names = {path.name for path in (tmp_path / "transformer").iterdir()}
    assert ("diffusion_pytorch_model.safetensors.index.json" in names) == (max_shard_bytes == 20_000)
    loaded = type(reference).from_pretrained(tmp_path / "transformer", use_safetensors=True)
    state = loaded.state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in reference.state_dict().items())
    ours = open_weights(tmp_path / "transformer", stem="diffusion_pytorch_model")
    assert all(torch.equal(ours[key].read(), tensor) for key, tensor in reference.state_dict().items())


def test_an_error_leaves_what_was_there(tmp_path):
    save_component({"a": torch.zeros(2)}, {"x": 1}, tmp_path / "part")

    def fail() -> torch.Tensor:
        raise RuntimeError("disk pulled out")

    broken = {"a": StoredTensor((2,), torch.float32, fail)}
    with pytest.raises(RuntimeError):
        save_component(broken, {"x": 2}, tmp_path / "part")
    assert json.loads((tmp_path / "part" / "config.json").read_text()) == {"x": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["part"]
    with pytest.raises(UsageError, match="--overwrite"):
        save_component({"a": torch.ones(2)}, {}, tmp_path / "part", overwrite=False)


def test_the_hash_follows_the_weights(tmp_path):
    save_component({"a": torch.zeros(2), "b": torch.zeros(2)}, {}, tmp_path / "part", max_shard_bytes=8)
    before = weights_sha256(tmp_path / "part")
    assert before == weights_sha256(tmp_path / "part") and len(before) == 64
    save_component({"a": torch.zeros(2), "b": torch.ones(2)}, {}, tmp_path / "part", max_shard_bytes=8)
    assert weights_sha256(tmp_path / "part") != before


def test_the_hugging_face_cache_has_hashed_already(tmp_path):
    (tmp_path / "blobs").mkdir()
    name = "ab" * 32
    (tmp_path / "blobs" / name).write_bytes(b"x")
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "blobs" / name)
    assert weights_sha256(tmp_path / "model.safetensors") == name
