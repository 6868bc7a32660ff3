import pickle
import zipfile

import pytest
import torch

from cogvx.checkpoints.pickles import open_pickle
from cogvx.checkpoints.weights import open_safetensors, open_weights
from cogvx.errors import InputError, RefusedError


def test_pickles_are_refused_by_default(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "diffusion_pytorch_model.bin")
    with pytest.raises(RefusedError, match="--allow-pickle"):
        open_weights(tmp_path, stem="diffusion_pytorch_model")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapper", [None, "module", "model", "state_dict"])
def test_weights_are_read_when_allowed(tmp_path, wrapper, zipped):
    content = {"a": torch.arange(6.0).reshape(2, 3), "note": "text", "b": torch.ones(2, dtype=torch.bfloat16)}
    path = tmp_path / "x.pt"
    torch.save({wrapper: content, "step": 3} if wrapper else content, path, _use_new_zipfile_serialization=zipped)
    weights = open_pickle(path, allow_pickle=True)
    assert weights.keys() == {"a", "b"}
    assert torch.equal(weights["a"].read(), content["a"]) and weights["b"].dtype == torch.bfloat16


@pytest.mark.parametrize("form", ["zip", "legacy", "bare", "nested"])
def test_code_in_a_pickle_never_runs(tmp_path, canary, form):
    evil, made = canary
    path = tmp_path / "evil.pt"
    if form == "bare":
        path.write_bytes(pickle.dumps({"a": evil}))
    else:
        content = {"module": {"a": torch.zeros(1), "b": evil}} if form == "nested" else {"a": evil}
        torch.save(content, path, _use_new_zipfile_serialization=form != "legacy")
    for allowed in (False, True):
        with pytest.raises(RefusedError) as caught:
            open_pickle(path, allow_pickle=allowed)
        assert "\n" not in str(caught.value) and "weights_only" not in str(caught.value)
    assert not made.exists()


def test_a_pickle_named_safetensors_is_refused(tmp_path, canary):
    evil, made = canary
    torch.save({"a": evil}, tmp_path / "zip.safetensors")
    (tmp_path / "bare.safetensors").write_bytes(pickle.dumps(evil))
    for name in ("zip", "bare"):
        with pytest.raises(RefusedError, match="a pickle"):
            open_safetensors(tmp_path / f"{name}.safetensors")
    assert not made.exists()


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04junk", b"\x80\x02junk", b"\x80\x05\x95" + b"\xff" * 20])
def test_damaged_pickles_are_reported(tmp_path, content):
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    with pytest.raises((InputError, RefusedError)) as caught:
        open_pickle(path, allow_pickle=True)
    assert "\n" not in str(caught.value)


def test_a_cut_pickle_is_reported(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(InputError):
        open_pickle(path, allow_pickle=True)


def test_a_tensor_that_claims_more_than_the_file_has(tmp_path):
    torch.save({"a": torch.zeros(1).expand(10**12)}, tmp_path / "x.pt")
    with pytest.raises(InputError, match="claims more data"):
        open_pickle(tmp_path / "x.pt", allow_pickle=True)


def test_a_zip_bomb_is_refused(tmp_path):
    torch.save({"a": torch.zeros(2_000_000)}, tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name))
    assert (tmp_path / "x.pt").stat().st_size < 100_000
    with pytest.raises(InputError, match="unpack"):
        open_pickle(tmp_path / "x.pt", allow_pickle=True)


@pytest.mark.parametrize("content", [torch.zeros(2), [1, 2], {"a": 3}, {}])
def test_a_pickle_without_a_dictionary_of_tensors(tmp_path, content):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(InputError):
        open_pickle(tmp_path / "x.pt", allow_pickle=True)
