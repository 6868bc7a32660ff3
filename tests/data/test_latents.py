"""Latents and text embeddings come back exactly, or not at all."""

import json
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

import cogvx
from cogvx.data import latents, text_embeds
from cogvx.errors import InputError, ShapeError, UsageError

FIELDS = {"model": "tiny", "fps": 8, "num_frames": 9, "height": 16, "width": 24, "source": "clips/a.mp4"}


def sample(dtype=torch.float32):
    return torch.randn(4, 3, 2, 3, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_round_trip(tmp_path, dtype):
    path = tmp_path / "a.safetensors"
    latents.save_latents(path, sample(dtype), **FIELDS)
    tensor, info = latents.load_latents(path)
    assert torch.equal(tensor, sample(dtype)) and tensor.dtype == dtype
    assert info == latents.LatentsInfo(**FIELDS, version=cogvx.__version__)
    with pytest.raises(UsageError, match="--overwrite"):
        latents.save_latents(path, sample(dtype), **FIELDS)


def test_the_file_is_as_the_contract_says(tmp_path):
    path = tmp_path / "a.safetensors"
    latents.save_latents(path, sample(), **FIELDS | {"fps": 23.976, "source": "/home/me/secret/a.mp4"})
    assert list(load_file(path)) == ["latents"]
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + struct.unpack_from("<Q", data)[0]])["__metadata__"]
    assert header.pop("sha256")
    assert header == {
        "format": "cogvx.latents/1", "model": "tiny", "fps": "23.976", "num_frames": "9", "height": "16",
        "width": "24", "source": "a.mp4", "version": cogvx.__version__,
    }  # fmt: skip


def test_bytes_are_those_of_the_file(tmp_path):
    latents.save_latents(tmp_path / "a", sample(), **FIELDS)
    data = latents.latents_bytes(sample(), **FIELDS)
    assert data == (tmp_path / "a").read_bytes()
    assert torch.equal(latents.load_latents(data)[0], sample())


def test_other_types_become_float32(tmp_path):
    for dtype in (torch.float16, torch.float64):
        latents.save_latents(tmp_path / "a", sample(dtype), **FIELDS, overwrite=True)
        assert latents.load_latents(tmp_path / "a")[0].dtype == torch.float32


def test_nan_is_neither_written_nor_read(tmp_path):
    broken = sample()
    broken[0, 0, 0, 0] = torch.nan
    with pytest.raises(InputError, match="NaN"):
        latents.save_latents(tmp_path / "a", broken, **FIELDS)
    data = save({"latents": broken}, metadata={"format": latents.FORMAT})
    with pytest.raises(InputError, match="NaN"):
        latents.load_latents(data)
    with pytest.raises(ShapeError):
        latents.save_latents(tmp_path / "a", broken[0], **FIELDS)
    assert list(tmp_path.iterdir()) == []


def fields(**changes):
    return {key: str(value) for key, value in {"format": latents.FORMAT, **FIELDS, **changes}.items()}


@pytest.mark.parametrize(
    ("tensors", "metadata", "reason"),
    [
        ({"latents": sample()}, None, "format is None"),
        ({"latents": sample()}, fields(format="cogvx.latents/2"), "cogvx.latents/2"),
        ({"x": sample()}, fields(), "must hold the tensor 'latents' alone"),
        ({"latents": sample(), "x": sample()}, fields(), "alone"),
        ({"latents": sample(torch.float16)}, fields(), "float16"),
        ({"latents": sample()[0]}, fields(), "c t h w"),
        ({"latents": sample()}, fields(fps="fast"), "'fps' must be a number"),
        ({"latents": sample()}, fields(fps="nan"), "above zero"),
        ({"latents": sample()}, fields(width="-8"), "above zero"),
        ({"latents": sample()}, fields(sha256="0" * 64), "damaged"),
    ],
)
def test_other_files_are_refused(tmp_path, tensors, metadata, reason):
    path = tmp_path / "a.safetensors"
    path.write_bytes(save(tensors, metadata=metadata))
    with pytest.raises(InputError, match=reason) as caught:
        latents.load_latents(path)
    assert "a.safetensors" in str(caught.value)


def test_files_of_others_need_no_hash():
    assert torch.equal(latents.load_latents(save({"latents": sample()}, metadata=fields()))[0], sample())


def test_damage_is_always_found(tmp_path):
    data = latents.latents_bytes(sample(), **FIELDS)
    size = struct.unpack_from("<Q", data)[0]
    mutants = [data[:cut] for cut in range(0, len(data), 17)]
    mutants += [data + b"x", b"", b"{}" * 8]
    mutants += [struct.pack("<Q", n) + data[8:] for n in (0, 1, size - 1, size + 1, 2**63, 2**64 - 1, 10**8 + 1)]
    random = np.random.default_rng(0)
    for place in random.integers(0, len(data), 400):
        mutant = bytearray(data)
        mutant[place] ^= 1 << random.integers(8)
        mutants.append(bytes(mutant))
    for mutant in mutants:
        try:
            tensor, info = latents.load_latents(mutant)
        except InputError as error:
            assert "\n" not in str(error) and "\x1b" not in str(error)
        else:
            assert torch.equal(tensor, sample()) and info.fps == 8  # a blank of the header's padding


@pytest.mark.parametrize(
    "header", [b"[]", b"[" * 5000, b'{"__metadata__": 3}', b'{"__metadata__": {"format": 1}}', b"\xff"]
)
def test_headers_that_are_none(header):
    with pytest.raises(InputError):
        latents.load_latents(struct.pack("<Q", len(header)) + header + bytes(64))


def test_missing_files(tmp_path):
    for path in (tmp_path, tmp_path / "missing", "a\0b"):
        with pytest.raises(InputError, match="cannot read"):
            latents.load_latents(path)


def test_text_embeds(tmp_path):
    path = tmp_path / "a.safetensors"
    text_embeds.save_text_embeds(path, torch.ones(7, 5), prompt="ü 猫", model="tiny")
    tensor, prompt, model = text_embeds.load_text_embeds(path)
    assert torch.equal(tensor, torch.ones(7, 5)) and (prompt, model) == ("ü 猫", "tiny")
    with pytest.raises(InputError, match="format"):
        latents.load_latents(path)
    with pytest.raises(ShapeError):
        text_embeds.save_text_embeds(tmp_path / "b", torch.ones(1, 7, 5), prompt="", model="tiny")


def test_the_deviation_goes_along(tmp_path):
    std = sample().abs()
    latents.save_latents(tmp_path / "a", sample(), **FIELDS, std=std, more={"vae": "1234"})
    mean, read, info = latents.load_posterior(tmp_path / "a")
    assert torch.equal(mean, sample()) and torch.equal(read, std) and info == latents.latents_info(tmp_path / "a")
    assert torch.equal(latents.load_latents(tmp_path / "a")[0], sample())
    assert set(load_file(tmp_path / "a")) == {"latents", "std"}
    latents.save_latents(tmp_path / "b", sample(), **FIELDS)
    assert latents.load_posterior(tmp_path / "b")[1] is None
    with pytest.raises(ShapeError, match="std"):
        latents.save_latents(tmp_path / "c", sample(), **FIELDS, std=std[:1])
    with pytest.raises(InputError, match="std to be written contain NaN"):
        latents.save_latents(tmp_path / "c", sample(), **FIELDS, std=std * float("nan"))


def test_damage_of_the_deviation_is_seen(tmp_path):
    latents.save_latents(tmp_path / "a", sample(), **FIELDS, std=sample().abs())
    data = bytearray((tmp_path / "a").read_bytes())
    data[-1] ^= 1
    with pytest.raises(InputError, match="damaged"):
        latents.load_posterior(bytes(data))


def test_the_info_alone_sees_a_file_that_is_cut_off(tmp_path):
    latents.save_latents(tmp_path / "a", sample(), **FIELDS)
    whole = (tmp_path / "a").read_bytes()
    for cut in (0, 4, 100, len(whole) - 1):
        (tmp_path / "a").write_bytes(whole[:cut])
        with pytest.raises(InputError, match="cannot read"):
            latents.latents_info(tmp_path / "a")
    text_embeds.save_text_embeds(tmp_path / "b", torch.zeros(2, 3), prompt="a", model="tiny")
    with pytest.raises(InputError, match="format"):
        latents.latents_info(tmp_path / "b")
