import builtins
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

FORMS = ["2b", "5b", "5b-i2v", "1.5", "1.5-i2v"]


def rows(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize("form", FORMS)
def test_cogvx_computes_what_diffusers_computes(cogvx, model_folder, form):
    result = cogvx("verify", model_folder(form), "--json")
    assert result.exit_code == 0, result.stdout + result.stderr
    checks = {(row["component"], row["name"]): row for row in rows(result)}
    assert all(row["ok"] for row in checks.values())
    assert {component for component, _ in checks} == {"vae", "transformer", "text_encoder", "scheduler"}
    assert max(row["max_abs"] for (part, _), row in checks.items() if part in ("vae", "scheduler")) == 0
    assert (("transformer", "learned positions") in checks) == (form == "5b-i2v")


def test_the_rows_for_people(cogvx, model_folder):
    result = cogvx("verify", model_folder("5b"), "--component", "scheduler")
    lines = result.stdout.splitlines()
    assert result.exit_code == 0 and lines[0].split()[:2] == ["component", "output"] and len(lines) == 4
    assert all(line.endswith("ok") for line in lines[1:])


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_precision(cogvx, model_folder, dtype):
    result = cogvx("verify", model_folder("5b"), "--dtype", dtype, "--json")
    assert result.exit_code == 0, result.stdout + result.stderr


def test_the_sat_layout(cogvx, model_folder):
    assert cogvx("convert", model_folder("2b"), "sat", "--to", "sat").exit_code == 0
    result = cogvx("verify", "./sat", "--allow-pickle", "--json")
    assert result.exit_code == 0, result.stdout + result.stderr
    assert len(rows(result)) == 10


def test_a_difference_is_found(cogvx, model_folder, tmp_path, monkeypatch):
    from cogvx.models.transformer.model import ExpertTransformer

    original = ExpertTransformer.forward
    monkeypatch.setattr(ExpertTransformer, "forward", lambda *a, **k: original(*a, **k) * 1.01)
    result = cogvx("verify", model_folder("5b"), "--component", "transformer")
    assert result.exit_code == 3 and "FAIL" in result.stdout and "1 of 1 comparisons" in result.stderr


def test_a_damaged_model(cogvx, model_folder, tmp_path):
    assert cogvx("convert", model_folder("5b"), "x").exit_code == 0
    file = tmp_path / "x" / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({key: tensor for key, tensor in load_file(file).items() if "conv_out" not in key}, file)
    result = cogvx("verify", "./x", "--component", "vae")
    assert result.exit_code == 3 and "Traceback" not in result.stderr


def test_without_diffusers(cogvx, model_folder, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **keywords):
        if name == "diffusers":
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    result = cogvx("verify", model_folder("5b"))
    assert result.exit_code == 4 and "pip install 'cogvx[test]'" in result.stderr


@pytest.mark.parametrize(("arguments", "code"), [(["--component", "nose"], 2), (["--device", "cuda"], 4)])
def test_wrong_requests(cogvx, model_folder, arguments, code):
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert cogvx("verify", model_folder("5b"), *arguments).exit_code == code
