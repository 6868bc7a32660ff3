import json
import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cogvx.checkpoints.lora import LoRA, LoRAPair, save_lora
from cogvx.data.latents import save_latents
from cogvx.data.text_embeds import save_text_embeds
from cogvx.data.video import write_clip


def describe(cogvx, *arguments):
    result = cogvx("inspect", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_a_clip_tells_how_it_was_made(cogvx, tmp_path):
    frames = np.zeros((3, 16, 32, 3), np.uint8)
    write_clip(
        tmp_path / "a.mkv", frames, 8, comment=json.dumps({"model": "tiny", "prompt": "a \x1b[31mred star", "seed": 3})
    )
    report = describe(cogvx, "a.mkv")
    assert (report["kind"], report["frames"], report["height"], report["width"]) == ("clip", 3, 16, 32)
    assert report["made_by"]["model"] == "tiny" and report["made_by"]["seed"] == 3 and len(report["sha256"]) == 64
    text = cogvx("inspect", "a.mkv").stdout
    assert "seed" in text and "\x1b" not in text


def test_latents_and_text(cogvx, tmp_path):
    sizes = {"fps": 8, "num_frames": 9, "height": 16, "width": 32}
    save_latents(tmp_path / "a.safetensors", torch.zeros(4, 3, 2, 4), model="tiny", source="a.mp4", **sizes)
    report = describe(cogvx, "a.safetensors")
    assert report["kind"] == "latents" and report["shape"] == [4, 3, 2, 4] and report["model"] == "tiny"
    save_text_embeds(tmp_path / "t.safetensors", torch.zeros(6, 12), prompt="a red star", model="tiny")
    report = describe(cogvx, "t.safetensors")
    assert report["kind"] == "text embeddings" and report["prompt"] == "a red star"
    save_file({"encoded_video": torch.zeros(4, 3, 2, 4)}, tmp_path / "c.safetensors")
    assert describe(cogvx, "c.safetensors")["kind"] == "latents"


@pytest.mark.parametrize(
    ("layout", "name"), [("diffusers", "diffusers"), ("sat", "sat"), ("kohya", "videox-fun"), ("comfyui", "comfyui")]
)
def test_a_lora(cogvx, tmp_path, layout, name):
    pairs = {f"transformer_blocks.0.attn1.to_{x}": LoRAPair(torch.ones(4, 8), torch.ones(8, 4), 2.0) for x in "qkv"}
    save_lora(tmp_path / "x.safetensors", LoRA(pairs), layout=layout)
    report = describe(cogvx, "x.safetensors")
    assert (report["kind"], report["format"], report["rank"], report["layers"]) == ("lora", name, 4, 3)
    assert report["strength"] == (0.25 if layout == "sat" else 0.5)
    assert report["modules"] == {"attn1.to_q": 1, "attn1.to_k": 1, "attn1.to_v": 1}


def test_a_lora_without_strength_is_warned_about(cogvx, tmp_path):
    save_file(
        {"transformer.a.lora_A.weight": torch.ones(4, 8), "transformer.a.lora_B.weight": torch.ones(8, 4)},
        tmp_path / "x.safetensors",
    )
    result = cogvx("inspect", "x.safetensors")
    assert result.exit_code == 0 and "--lora x.safetensors:0.5" in result.stderr


@pytest.mark.parametrize("form", ["2b", "1.5-i2v"])
def test_a_model_and_its_parts(cogvx, model_folder, form):
    folder = model_folder(form)
    report = describe(cogvx, folder)
    assert report["kind"] == "model" and report["layout"] == "diffusers"
    assert report["like"] == {"2b": "2b", "1.5-i2v": "1.5-5b-i2v"}[form]
    assert set(report["components"]) == {"vae", "transformer", "text_encoder", "tokenizer", "scheduler"}
    part = describe(cogvx, folder / "transformer")
    assert part["kind"] == "component" and part["class"] == "CogVideoXTransformer3DModel"
    assert part["parameters"] == report["components"]["transformer"]["parameters"] > 10_000
    assert part["sha256"] == report["components"]["transformer"]["sha256"]
    file = describe(cogvx, folder / "transformer" / "diffusion_pytorch_model.safetensors")
    assert file["kind"] == "weights" and file["of"] == "transformer" and file["config"]["num_layers"] == 2
    assert "sha256" not in describe(cogvx, folder, "--no-hash")["components"]["vae"]


def test_a_sat_model(cogvx, model_folder, tmp_path):
    assert cogvx("convert", model_folder("2b"), "sat", "--to", "sat").exit_code == 0
    for path in ("sat", "sat/vae/3d-vae.pt", "sat/transformer/1/mp_rank_00_model_states.pt"):
        result = cogvx("inspect", path)
        assert result.exit_code == 5 and "pickle" in result.stderr
    assert describe(cogvx, "sat", "--allow-pickle")["layout"] == "sat"
    report = describe(cogvx, "sat/transformer/1/mp_rank_00_model_states.pt", "--allow-pickle")
    assert (
        report["of"] == "transformer"
        and report["layout"] == "sat"
        and report["container"] == "pickle"
        and report["like"] == "2b"
    )


def test_other_files(cogvx, tmp_path):
    (tmp_path / "m.jsonl").write_text('{"video": "a.mp4", "caption": "x"}\n{"video": "b.mp4"}\n')
    report = describe(cogvx, "m.jsonl")
    assert (report["kind"], report["entries"], report["fields"]) == ("manifest", 2, {"video": 2, "caption": 1})
    (tmp_path / "r.json").write_text('{"metric": "fvd", "value": 3.5, "n": 2, "per_video": []}')
    assert describe(cogvx, "r.json")["value"] == 3.5
    (tmp_path / "run" / "checkpoint-000010").mkdir(parents=True)
    (tmp_path / "run" / "recipe.toml").write_text("[model]\nname = 'tiny'\n")
    report = describe(cogvx, "run")
    assert report["kind"] == "training run" and report["checkpoints"] == ["checkpoint-000010"]


@pytest.mark.parametrize(
    "name", ["words.txt", "empty", "empty.safetensors", "no.json", "none", "folder", "pipe", "loop", "bad.jsonl"]
)
def test_what_cogvx_does_not_know(cogvx, tmp_path, name):
    (tmp_path / "words.txt").write_text("hello")
    (tmp_path / "empty").touch(), (tmp_path / "empty.safetensors").touch()
    (tmp_path / "no.json").write_text('{"a": 1}')
    (tmp_path / "bad.jsonl").write_text("nonsense\n")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    result = cogvx("inspect", name)
    assert result.exit_code == 3 and "Traceback" not in result.stderr and len(result.stderr.strip().splitlines()) <= 2


def test_a_pickle_is_named_and_not_opened(cogvx, tmp_path):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "canary"), "w")

    torch.save({"a": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "evil.mp4").write_bytes((tmp_path / "evil.pt").read_bytes())
    for arguments in (["evil.pt"], ["evil.pt", "--allow-pickle"], ["evil.mp4"]):
        assert cogvx("inspect", *arguments).exit_code == 5
    assert not (tmp_path / "canary").exists()


def test_several_files_one_of_them_bad(cogvx, tmp_path):
    (tmp_path / "r.json").write_text('{"metric": "fvd", "value": 3.5, "n": 2}')
    result = cogvx("inspect", "none.mp4", "r.json", "--json")
    assert result.exit_code == 3 and "none.mp4" in result.stderr
    bad, good = map(json.loads, result.stdout.splitlines())
    assert bad["input"] == "none.mp4" and "error" in bad and good["metric"] == "fvd"
