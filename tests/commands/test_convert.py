import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cogvx.checkpoints.lora import LoRA, LoRAPair, read_lora, save_lora


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def some_lora(alpha: float | None = 2.0) -> LoRA:
    torch.manual_seed(0)
    names = [f"transformer_blocks.{i}.attn1.to_{letter}" for i in range(2) for letter in "qkv"]
    return LoRA({name: LoRAPair(torch.randn(4, 32), torch.randn(32, 4), alpha) for name in names})


@pytest.mark.parametrize("form", ["2b", "5b", "5b-i2v", "1.5", "1.5-i2v"])
def test_to_sat_and_back_is_the_same_folder(cogvx, model_folder, form, tmp_path):
    result = cogvx("convert", model_folder(form), "sat", "--to", "sat")
    assert (result.exit_code, result.stdout) == (0, "sat\n"), result.stderr
    assert (tmp_path / "sat" / "transformer" / "latest").read_text() == "1"
    result = cogvx("convert", "sat", "back", "--allow-pickle")
    assert result.exit_code == 0, result.stderr
    wanted, got = contents(model_folder(form)), contents(tmp_path / "back")
    assert wanted.keys() == got.keys()
    for name, data in wanted.items():
        assert json.loads(data) == json.loads(got[name]) if name.endswith(".json") else data == got[name], name


def test_diffusers_loads_the_result(cogvx, model_folder, tmp_path):
    import diffusers

    assert cogvx("convert", model_folder("5b"), "x", "--dtype", "bf16", "--max-shard-size", "30KB").exit_code == 0
    assert len(list((tmp_path / "x" / "transformer").glob("*.safetensors"))) > 2
    pipeline = diffusers.CogVideoXPipeline.from_pretrained(tmp_path / "x", use_safetensors=True)
    reference = diffusers.CogVideoXPipeline.from_pretrained(model_folder("5b"))
    for name in ("transformer", "vae", "text_encoder"):
        state = getattr(pipeline, name).state_dict()
        for key, tensor in getattr(reference, name).state_dict().items():
            assert torch.equal(state[key].float(), tensor.bfloat16().float()), key


def test_sat_files_are_refused_without_leave(cogvx, model_folder, tmp_path):
    assert cogvx("convert", model_folder("5b"), "sat", "--to", "sat").exit_code == 0
    for source in ("sat", "sat/transformer", "sat/vae/3d-vae.pt"):
        result = cogvx("convert", source, "y")
        assert result.exit_code == 5 and "--allow-pickle" in result.stderr and not (tmp_path / "y").exists()


def test_a_full_folder_is_not_written_over(cogvx, model_folder, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for flags in ([], ["--overwrite"]):
        assert cogvx("convert", model_folder("5b"), "mine", *flags).exit_code == 2
        assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    assert cogvx("convert", model_folder("5b"), "x").exit_code == 0
    before = contents(tmp_path / "x")
    assert cogvx("convert", model_folder("2b"), "x").exit_code == 2 and contents(tmp_path / "x") == before
    assert (
        cogvx("convert", model_folder("2b"), "x", "--overwrite").exit_code == 0 and contents(tmp_path / "x") != before
    )
    assert cogvx("convert", "x", "x", "--overwrite").exit_code == 2


def test_a_failure_leaves_nothing(cogvx, model_folder, tmp_path):
    assert cogvx("convert", model_folder("5b"), "x").exit_code == 0
    weights = tmp_path / "x" / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    result = cogvx("convert", "x", "y")
    assert result.exit_code == 3 and "vae" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x"]


def test_missing_tensors_are_named(cogvx, model_folder, tmp_path):
    assert cogvx("convert", model_folder("5b"), "x").exit_code == 0
    file = tmp_path / "x" / "transformer" / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    state.pop("proj_out.bias")
    save_file(state, file)
    result = cogvx("convert", "x", "y")
    assert result.exit_code == 3 and "proj_out.bias" in result.stderr


def test_dry_run_writes_nothing(cogvx, model_folder, tmp_path):
    result = cogvx("convert", model_folder("5b"), "x", "--dry-run", "--json")
    assert result.exit_code == 0 and not list(tmp_path.iterdir())
    record = json.loads(result.stdout)
    total = sum(path.stat().st_size for path in model_folder("5b").rglob("*") if path.is_file())
    assert record["dry_run"] and record["to"] == "diffusers" and record["bytes"] == pytest.approx(total, rel=0.2)
    assert record["files"].keys() >= {"model_index.json", "vae/config.json"}


def test_a_lora_is_merged(cogvx, model_folder, tmp_path):
    save_lora(tmp_path / "one.safetensors", some_lora())
    result = cogvx(
        "convert",
        model_folder("5b"),
        "x",
        "--merge-lora",
        "one.safetensors:0.5",
        "--merge-lora",
        "one.safetensors",
        "--json",
    )
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["output"] == "x"
    name = "transformer/diffusion_pytorch_model.safetensors"
    before, after = load_file(model_folder("5b") / name), load_file(tmp_path / "x" / name)
    for key, tensor in before.items():
        pair = some_lora().pairs.get(key.removesuffix(".weight"))
        wanted = tensor if pair is None else tensor + 1.5 * pair.delta()
        assert torch.allclose(after[key], wanted, atol=1e-5), key


def test_a_lora_that_does_not_fit(cogvx, model_folder, tmp_path):
    pair = LoRAPair(torch.zeros(4, 16), torch.zeros(16, 4), 1.0)
    save_lora(tmp_path / "other.safetensors", LoRA({"transformer_blocks.0.attn1.to_q": pair}))
    save_lora(tmp_path / "wan.safetensors", LoRA({"blocks.0.self_attn.q": pair}))
    for name, words in (("other", "another model"), ("wan", "blocks.0.self_attn.q")):
        result = cogvx("convert", model_folder("5b"), "x", "--merge-lora", f"{name}.safetensors")
        assert result.exit_code == 3 and words in result.stderr
    assert cogvx("convert", model_folder("5b"), "x", "--merge-lora", "none.safetensors").exit_code == 3
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("layout", ["diffusers", "sat", "kohya", "comfyui"])
def test_a_lora_from_layout_to_layout(cogvx, tmp_path, layout):
    save_lora(tmp_path / "one.safetensors", some_lora())
    assert cogvx("convert", "one.safetensors", "two.safetensors", "--to", layout).stdout == "two.safetensors\n"
    result = cogvx("convert", "two.safetensors", "three")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "three\n", "")
    got = read_lora(tmp_path / "three")
    for name, pair in some_lora().pairs.items():
        assert torch.allclose(got.pairs[name].delta(), pair.delta(), atol=1e-5)
    assert "lora_adapter_metadata" in (tmp_path / "three" / "pytorch_lora_weights.safetensors").read_bytes()[
        :4000
    ].decode("latin1")


def test_a_sat_lora_checkpoint(cogvx, tmp_path):
    save_lora(tmp_path / "sat.safetensors", some_lora(), layout="sat")
    folder = tmp_path / "run" / "1000"
    folder.mkdir(parents=True)
    (tmp_path / "run" / "latest").write_text("1000")
    torch.save({"module": load_file(tmp_path / "sat.safetensors")}, folder / "mp_rank_00_model_states.pt")
    assert cogvx("convert", "run", "x.safetensors").exit_code == 5
    for source in ("run", "run/1000/mp_rank_00_model_states.pt"):
        result = cogvx("convert", source, "x.safetensors", "--allow-pickle", "--overwrite")
        assert result.exit_code == 0, result.stderr
        got = read_lora(tmp_path / "x.safetensors")
        assert all(torch.allclose(got.pairs[n].delta(), p.delta(), atol=1e-5) for n, p in some_lora().pairs.items())


def test_a_lora_that_does_not_tell_its_strength(cogvx, tmp_path):
    tensors = {}
    for name, pair in some_lora().pairs.items():
        tensors[f"transformer.{name}.lora_A.weight"], tensors[f"transformer.{name}.lora_B.weight"] = pair.down, pair.up
    save_file(tensors, tmp_path / "old.safetensors")
    result = cogvx("convert", "old.safetensors", "new.safetensors")
    assert result.exit_code == 0 and "does not say its alpha" in result.stderr
    result = cogvx("convert", "old.safetensors", "half.safetensors", "--alpha", 2)
    assert (result.exit_code, result.stderr) == (0, "")
    assert {pair.scale for pair in read_lora(tmp_path / "new.safetensors").pairs.values()} == {1.0}
    assert {pair.scale for pair in read_lora(tmp_path / "half.safetensors").pairs.values()} == {0.5}
    assert cogvx("convert", "half.safetensors", "x.safetensors", "--alpha", 2).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["nothing", "x"], 2),
        (["./nothing", "x"], 3),
        (["{model}", "x", "--to", "onnx"], 2),
        (["{model}", "x", "--max-shard-size", "big"], 2),
        (["{model}", "x", "--dtype", "int4"], 2),
        (["{model}", "x", "--alpha", "1"], 2),
        (["{model}"], 2),
        (["evil.pt", "x"], 5),
        (["evil.pt", "x", "--allow-pickle"], 5),
        (["evil.safetensors", "x"], 5),
        (["junk.safetensors", "x"], 3),
        (["words.txt", "x"], 3),
    ],
)
def test_what_cannot_be_converted(cogvx, model_folder, tmp_path, arguments, code):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "canary"), "w")

    torch.save({"module": {"a": torch.zeros(1), "b": Evil()}}, tmp_path / "evil.pt")
    (tmp_path / "evil.safetensors").write_bytes((tmp_path / "evil.pt").read_bytes())
    (tmp_path / "junk.safetensors").write_bytes(b"\xff" * 100)
    (tmp_path / "words.txt").write_text("hello")
    result = cogvx("convert", *[str(model_folder("5b")) if word == "{model}" else word for word in arguments])
    assert result.exit_code == code, result.stderr
    assert "Traceback" not in result.stderr and len(result.stderr.strip().splitlines()) <= 2
    assert not (tmp_path / "x").exists() and not (tmp_path / "canary").exists()


def test_a_traversing_index(cogvx, model_folder, tmp_path):
    assert cogvx("convert", model_folder("5b"), "x", "--max-shard-size", "30KB").exit_code == 0
    index = tmp_path / "x" / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["proj_out.bias"] = "../../secret.safetensors"
    index.write_text(json.dumps(content))
    result = cogvx("convert", "x", "y")
    assert result.exit_code == 5 and "secret" in result.stderr


def test_the_help_has_examples(cogvx):
    result = cogvx("convert", "--help")
    assert result.exit_code == 0 and "cogvx convert" in result.stdout and "--merge-lora" in result.stdout


@pytest.mark.parametrize("layout", ["diffusers", "sat"])
def test_a_full_disk_leaves_nothing(cogvx, model_folder, tmp_path, layout):
    resource = pytest.importorskip("resource")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, old[1]))
    try:
        result = cogvx("convert", model_folder("5b"), "x", "--to", layout)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert result.exit_code == 4 and "disk full" in result.stderr, result.stderr
    assert not list(tmp_path.iterdir())
