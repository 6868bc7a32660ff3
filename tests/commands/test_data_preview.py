"""`data preview` from outside: sheets, pages and packs, by flags and by recipe."""

import json

import numpy as np
import pytest
from films import film
from PIL import Image

from cogvx.data.clips import read_clip
from cogvx.data.video import write_clip

FLAGS = ["--sizes", "32x48", "--max-frames", 17, "--fps", 5]
RECIPE = """
kind = "dit"
[model.transformer]
num_layers = 1
num_attention_heads = 2
attention_head_dim = 16
in_channels = 4
out_channels = 4
sample_height = 4
sample_width = 6
sample_frames = 17
max_text_seq_length = 12
[model.vae]
block_out_channels = [8, 8, 8, 8]
latent_channels = 4
layers_per_block = 1
norm_num_groups = 2
[model.text_encoder]
vocab_size = 100
d_model = 16
d_kv = 8
d_ff = 24
num_layers = 1
num_heads = 2
[data]
train = ["m.jsonl"]
fps = 5
[[stages]]
name = "small"
sizes = [[32, 48]]
max_frames = 17
tokens = 60
packs = 2
steps = 3
[[stages]]
sizes = [[48, 64]]
max_frames = 9
"""


@pytest.fixture
def folder(tmp_path):
    write_clip(tmp_path / "a.mkv", film(30), 10)
    known = {"video": "a.mkv", "width": 64, "height": 48, "fps": 10}
    entries = [known | {"start": 0.0, "end": seconds, "caption": "a tale"} for seconds in (0.5, 1.7, 2.9)]
    entries.append(known | {"start": 0.0, "end": 1.0, "rejected": ["dark"], "split": "train"})
    entries.append(known | {"start": 0.0, "end": 1.0, "split": "test"})
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    (tmp_path / "r.toml").write_text(RECIPE)
    return tmp_path


def test_a_sheet(cogvx, folder):
    result = cogvx("data", "preview", "m.jsonl", "-o", "sheet.png", *FLAGS, "--json")
    assert result.exit_code == 0 and json.loads(result.stdout) == {"output": "sheet.png", "clips": 4}
    sheet = np.asarray(Image.open(folder / "sheet.png"))
    frames = read_clip(folder / "a.mkv", num_frames=1, fps=5, height=32, width=48, start=0.0, end=0.5)
    assert np.array_equal(sheet[12:44, 12:60], frames[0])  # the first clip has one frame
    assert cogvx("data", "preview", "m.jsonl", "-o", "sheet.png", *FLAGS).exit_code == 2
    assert cogvx("data", "preview", "m.jsonl", "-o", "sheet.png", *FLAGS, "--overwrite").exit_code == 0


def test_pages_and_packs(cogvx, folder):
    result = cogvx("data", "preview", "m.jsonl", "-o", "pages/", *FLAGS, "--per-page", 3, "--packs", "--tokens", 200)
    assert result.exit_code == 0
    assert result.stdout.split() == ["pages/page-0001.png", "pages/page-0002.png", "pages/packs.png"]
    assert sorted(path.name for path in (folder / "pages").iterdir()) == ["packs.png", "page-0001.png", "page-0002.png"]
    low = cogvx("data", "preview", "m.jsonl", "-o", "low/", *FLAGS, "--packs", "--tokens", 10)
    assert low.exit_code == 3 and "do not fit" in low.stderr


def test_rejected(cogvx, folder):
    result = cogvx("data", "preview", "m.jsonl", "-o", "r.png", *FLAGS, "--rejected", "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["clips"] == 1


def test_a_recipe_says_what_is_seen(cogvx, folder):
    result = cogvx("data", "preview", "-o", "r.png", "--recipe", "r.toml", "--stage", "small", "--packs", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["clips"] == 3  # without the held-out and the rejected one
    assert Image.open(folder / "r.png").height > 150
    result = cogvx("data", "preview", "-o", "s.png", "--recipe", "r.toml")
    frames = read_clip(folder / "a.mkv", num_frames=1, fps=5, height=48, width=64, start=0.0, end=0.5)
    assert result.exit_code == 0
    assert np.array_equal(np.asarray(Image.open(folder / "s.png"))[12:60, 12:76], frames[0])


@pytest.mark.parametrize(
    "flags",
    [
        ["-o", "-"],
        ["-o", "sheet.jpg"],
        ["-o", "a.png", "--packs", "--rejected"],
        ["-o", "a.png", "--stage", "1"],
        ["-o", "a.png", "--recipe", "r.toml", "--stage", "3"],
        ["-o", "a.png", "--recipe", "r.toml", "--fps", "8"],
        ["-o", "a.png", "--count", "100"],
    ],
)
def test_wrong_usage(cogvx, folder, flags):
    result = cogvx("data", "preview", "m.jsonl", *flags)
    assert result.exit_code == 2, result.output
    assert not list(folder.glob("*.png"))


def test_what_cannot_be_shown(cogvx, folder):
    (folder / "n.jsonl").write_text(json.dumps({"video": "missing.mkv"}) + "\n{broken\n")
    result = cogvx("data", "preview", "n.jsonl", "-o", "a.png", *FLAGS)
    assert result.exit_code == 3 and "missing.mkv" in result.stderr and "n.jsonl:2" in result.stderr
    (folder / "n.jsonl").write_text(json.dumps({"video": "a.mkv", "rejected": ["dark"]}) + "\n")
    result = cogvx("data", "preview", "n.jsonl", "-o", "a.png", *FLAGS)
    assert result.exit_code == 3 and "--rejected" in result.stderr
