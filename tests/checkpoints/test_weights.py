import json
import os
import random

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from cogvx.checkpoints.weights import (
    DTYPE_CODES,
    MAX_TENSORS,
    StoredTensor,
    open_safetensors,
    open_weights,
    write_safetensors,
)
from cogvx.errors import CogvxError, InputError, RefusedError


def write_raw(path, header, data=b"", length=None):
    """Write a safetensors file from parts that need not be right."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def entry(shape, start, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def read_all(path):
    return {name: stored.read() for name, stored in open_safetensors(path).tensors.items()}


@pytest.mark.parametrize("dtype", DTYPE_CODES)
def test_every_type_is_read_as_the_library_reads_it(tmp_path, dtype):
    tensors = {
        "a": torch.arange(24).reshape(2, 3, 4).to(dtype),
        "scalar": torch.ones(()).to(dtype),
        "none": torch.zeros(0, 3).to(dtype),
    }
    save_file(tensors, tmp_path / "x.safetensors", metadata={"key": "ünïcode"})
    opened = open_safetensors(tmp_path / "x.safetensors")
    assert opened.metadata == {"key": "ünïcode"}
    for name, tensor in tensors.items():
        got = opened.tensors[name].read()
        assert got.dtype == dtype and got.shape == tensor.shape
        assert torch.equal(
            got.view(torch.uint8) if dtype.itemsize == 1 else got,
            tensor.view(torch.uint8) if dtype.itemsize == 1 else tensor,
        )


def test_written_files_are_those_of_the_library(tmp_path):
    tensors = {"b": torch.randn(3, 5), "a": torch.randn(4).bfloat16(), "c": torch.arange(3)}
    save_file(tensors, tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    stored = {name: StoredTensor.of(tensor) for name, tensor in tensors.items()}
    write_safetensors(tmp_path / "ours.safetensors", stored, metadata={"format": "pt"})
    assert (tmp_path / "ours.safetensors").read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(min_size=1, max_size=20), st.lists(st.integers(0, 4), max_size=4), max_size=6))
def test_what_is_written_is_read(tmp_path, shapes):
    tensors = {name: torch.rand(shape) for name, shape in shapes.items() if name != "__metadata__"}
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {name: StoredTensor.of(tensor) for name, tensor in tensors.items()})
    got, theirs = read_all(path), load_file(path)
    assert got.keys() == theirs.keys() == tensors.keys()
    assert all(torch.equal(got[name], tensor) and torch.equal(theirs[name], tensor) for name, tensor in tensors.items())


A_FLOAT = json.dumps(entry([1], 0, 4)).encode()
ATTACKS = {
    "empty": lambda p: p.write_bytes(b""),
    "seven bytes": lambda p: p.write_bytes(b"1234567"),
    "length of all ones": lambda p: write_raw(p, {"a": entry([1], 0, 4)}, b"0000", length=2**64 - 1),
    "length past the end": lambda p: write_raw(p, {"a": entry([1], 0, 4)}, b"0000", length=5000),
    "not json": lambda p: write_raw(p, b"{nonsense"),
    "not an object": lambda p: write_raw(p, b"[1, 2]"),
    "deep": lambda p: write_raw(p, b'{"a":' + b"[" * 200_000),
    "not utf-8": lambda p: write_raw(p, b'{"\xff\xfe": 1}'),
    "same name twice": lambda p: write_raw(p, b'{"a":%s,"a":%s}' % (A_FLOAT, A_FLOAT), b"0000"),
    "overlap": lambda p: write_raw(p, {"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, b"0" * 12),
    "gap": lambda p: write_raw(p, {"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, b"0" * 12),
    "backwards": lambda p: write_raw(p, {"a": entry([1], 4, 0)}, b"0000"),
    "negative": lambda p: write_raw(p, {"a": entry([-1], 0, 4)}, b"0000"),
    "not whole": lambda p: write_raw(p, {"a": entry([1.5], 0, 6)}, b"000000"),
    "overflow": lambda p: write_raw(p, {"a": entry([2**62, 4], 0, 4)}, b"0000"),
    "huge number": lambda p: write_raw(p, b'{"a":%s}' % A_FLOAT.replace(b"[1]", b"[1%s]" % (b"0" * 5000)), b"0000"),
    "trailing bytes": lambda p: write_raw(p, {"a": entry([1], 0, 4)}, b"0000evil"),
    "cut": lambda p: write_raw(p, {"a": entry([4], 0, 16)}, b"0000"),
    "unknown type": lambda p: write_raw(p, {"a": entry([1], 0, 4, "\x1b]0;F99\x07")}, b"0000"),
    "no entry": lambda p: write_raw(p, {"a": 3}),
    "extra key": lambda p: write_raw(p, {"a": {**entry([1], 0, 4), "exec": "x"}}, b"0000"),
    "metadata of numbers": lambda p: write_raw(p, {"__metadata__": {"a": 1}}),
    "many tensors": lambda p: write_raw(p, {f"t{i}": entry([0], 0, 0) for i in range(MAX_TENSORS + 1)}),
    "large header": lambda p: write_raw(p, b"{" + b" " * (17 * 2**20) + b"}"),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_damaged_files_are_refused_in_one_line(tmp_path, attack):
    path = tmp_path / "x.safetensors"
    ATTACKS[attack](path)
    with pytest.raises(InputError) as caught:
        open_safetensors(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and "\x1b" not in message and len(message) < 600


def test_mutants_are_refused_or_read_as_the_library_reads_them(tmp_path):
    source, path = tmp_path / "source.safetensors", tmp_path / "mutant.safetensors"
    save_file({"weight": torch.randn(4, 6), "bias": torch.randn(4).half()}, source)
    good = source.read_bytes()
    chance = random.Random(0)
    refused = 0
    for _ in range(400):
        mutant = bytearray(good)
        kind = chance.choice(["flip", "cut", "append", "length"])
        if kind == "flip":
            mutant[chance.randrange(160)] ^= 1 << chance.randrange(8)
        elif kind == "cut":
            del mutant[chance.randrange(len(mutant)) :]
        elif kind == "append":
            mutant += b"x" * chance.randrange(1, 9)
        else:
            mutant[:8] = chance.choice([0, 1, 2**63, 2**64 - 1, 10**8 + 1]).to_bytes(8, "little")
        path.write_bytes(mutant)
        try:
            theirs = load_file(path)
        except (SafetensorError, Exception):
            theirs = None
        try:
            ours = read_all(path)
        except CogvxError:
            refused += 1
            continue
        assert theirs is not None and ours.keys() == theirs.keys()
        assert all(
            torch.equal(ours[name].view(torch.uint8), theirs[name].view(torch.uint8))
            for name in ours
            if ours[name].ndim
        )
    assert refused > 300


def test_a_file_that_shrinks_is_noticed(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(100)}, path)
    stored = open_safetensors(path).tensors["a"]
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InputError, match="cut while it was read"):
        stored.read()


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="not a regular file"):
        open_safetensors(tmp_path / "x.safetensors")


def test_cast_leaves_whole_numbers(tmp_path):
    assert StoredTensor.of(torch.ones(2)).cast(torch.bfloat16).read().dtype == torch.bfloat16
    assert StoredTensor.of(torch.ones(2, dtype=torch.int64)).cast(torch.bfloat16).read().dtype == torch.int64


def save_shards(folder, places):
    for name in set(places.values()):
        save_file(
            {key: torch.full((2,), float(len(key))) for key, shard in places.items() if shard == name}, folder / name
        )
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


def test_shards_are_joined(tmp_path):
    save_shards(tmp_path, {"a": "model-1.safetensors", "bb": "model-2.safetensors"})
    weights = open_weights(tmp_path, stem="model")
    assert {key: stored.read().tolist() for key, stored in weights.items()} == {"a": [1.0, 1.0], "bb": [2.0, 2.0]}


def test_shards_may_be_links_as_in_the_hugging_face_cache(tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots"
    blobs.mkdir(), snapshot.mkdir()
    save_shards(blobs, {"a": "model-1.safetensors"})
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(file)
    assert list(open_weights(snapshot, stem="model")) == ["a"]


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/passwd", "a/b.safetensors", "..", ".", "a\\b", "x\0y", "C:x", ""]
)
def test_a_shard_outside_the_folder_is_refused(tmp_path, name):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(RefusedError):
        open_weights(tmp_path, stem="model")


@pytest.mark.parametrize(
    "index", ["[]", "{}", '{"weight_map": {"a": 3}}', "nonsense", '{"weight_map": {}}', "[" * 100_000]
)
def test_a_damaged_index_is_reported(tmp_path, index):
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(InputError):
        open_weights(tmp_path, stem="model")


def test_missing_shards_and_tensors_are_named(tmp_path):
    save_shards(tmp_path, {"a": "model-1.safetensors"})
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors", "c": "model-1.safetensors"}}))
    with pytest.raises(InputError, match="lack 1 tensors: c"):
        open_weights(tmp_path, stem="model")
    index.write_text(json.dumps({"weight_map": {"a": "model-9.safetensors"}}))
    with pytest.raises(InputError, match=r"shard 'model-9.safetensors' is missing"):
        open_weights(tmp_path, stem="model")


def test_an_empty_folder_has_no_weights(tmp_path):
    with pytest.raises(InputError, match="no weights"):
        open_weights(tmp_path, stem="model")


def test_a_variant_is_found_when_it_is_the_only_file(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "diffusion_pytorch_model.fp16.safetensors")
    assert list(open_weights(tmp_path, stem="diffusion_pytorch_model")) == ["a"]
