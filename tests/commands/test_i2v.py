"""`cogvx i2v`: images in, clips out."""

import json

import numpy as np
import pytest
from PIL import Image

from cogvx.data.video import probe

PROMPT = "a red star moves up"
FAST = ["--steps", 2, "--frames", 9, "--json"]


@pytest.fixture
def image(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (32, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return tmp_path / "image.png"


def test_image_shapes_the_clip_and_is_recorded(cogvx, model_folder, image, tmp_path):
    Image.new("RGB", (48, 32), "red").save(tmp_path / "red.png")
    hashes = []
    for name in ("image.png", "red.png"):
        result = cogvx("i2v", name, PROMPT, "-m", model_folder("5b-i2v"), *FAST, "-o", f"{name}.mp4")
        assert result.exit_code == 0, result.stderr
        hashes.append(json.loads(result.stdout)["frames_sha256"])
        used = json.loads(probe(f"{name}.mp4").comment)["inputs"]["image"]
        assert used["name"] == name and len(used["sha256"]) == 64
    assert hashes[0] != hashes[1]


def test_image_from_stdin(cogvx, model_folder, image):
    named = cogvx("i2v", "image.png", PROMPT, "-m", model_folder("5b-i2v"), *FAST, "-o", "a.mp4")
    piped = cogvx("i2v", "-", PROMPT, "-m", model_folder("5b-i2v"), *FAST, "-o", "b.mp4", input=image.read_bytes())
    assert piped.exit_code == 0, piped.stderr
    assert json.loads(named.stdout)["frames_sha256"] == json.loads(piped.stdout)["frames_sha256"]


def test_other_proportions_are_said(cogvx, model_folder, tmp_path):
    Image.new("RGB", (40, 40), "red").save(tmp_path / "square.png")
    result = cogvx("i2v", "square.png", PROMPT, "-m", model_folder("1.5-i2v"), *FAST, "-o", "a.mp4")
    assert result.exit_code == 0 and "40x40 and is stretched to 48x32" in result.stderr


def test_learned_positions_have_one_size(cogvx, model_folder, image):
    result = cogvx("i2v", "image.png", PROMPT, "-m", model_folder("5b-i2v"), *FAST, "--height", 64)
    assert result.exit_code == 2 and "48x32 only" in result.stderr


def test_scale_of_the_image_is_a_choice(cogvx, model_folder, image):
    hashes = {}
    for scale in ("auto", "inverse", "scaled", "raw"):
        flags = ["--image-latent-scale", scale, "-o", f"{scale}.mp4"]
        result = cogvx("i2v", "image.png", PROMPT, "-m", model_folder("1.5-i2v"), *FAST, *flags)
        hashes[scale] = json.loads(result.stdout)["frames_sha256"]
    assert hashes["auto"] == hashes["inverse"]
    assert len(set(hashes.values())) == 3


def test_many_from_a_file(cogvx, model_folder, image, tmp_path):
    rows = [{"image": "image.png", "prompt": PROMPT}, {"image": "no.png", "prompt": PROMPT}, {"prompt": PROMPT}]
    rows += [{"image": "../image.png", "prompt": PROMPT}, {"image": "/etc/passwd", "prompt": PROMPT}]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = cogvx("i2v", "--prompts", "p.jsonl", "-m", model_folder("5b-i2v"), *FAST, "-o", "clips")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 3
    assert [("error" in line) for line in lines].count(True) == 4
    assert len(list((tmp_path / "clips").iterdir())) == 1


def test_like_wants_the_same_image(cogvx, model_folder, image, tmp_path):
    folder = model_folder("5b-i2v")
    made = cogvx("i2v", "image.png", PROMPT, "-m", folder, *FAST, "-o", "a.mp4")
    again = cogvx("i2v", "image.png", "--like", "a.mp4", "-m", folder, "--json", "-o", "b.mp4")
    assert json.loads(again.stdout)["frames_sha256"] == json.loads(made.stdout)["frames_sha256"]
    Image.new("RGB", (48, 32), "red").save(tmp_path / "red.png")
    other = cogvx("i2v", "red.png", "--like", "a.mp4", "-m", folder, "-o", "c.mp4")
    assert other.exit_code == 0 and "not the image" in other.stderr
    wrong = cogvx("sample", "--like", "a.mp4", "-o", "d.mp4")
    assert wrong.exit_code == 2 and "cogvx i2v" in wrong.stderr


@pytest.mark.parametrize(
    ("arguments", "code"), [([], 2), (["image.png"], 2), (["no.png", PROMPT], 3), (["note.txt", PROMPT], 3)]
)
def test_refusals(cogvx, model_folder, image, tmp_path, arguments, code):
    (tmp_path / "note.txt").write_text("not an image")
    result = cogvx("i2v", *arguments, "-m", model_folder("5b-i2v"), *FAST, "-o", "a.mp4")
    assert result.exit_code == code and len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "a.mp4").exists()


def test_text_model_is_refused(cogvx, model_folder, image):
    result = cogvx("i2v", "image.png", PROMPT, "-m", model_folder("5b"), *FAST)
    assert result.exit_code == 2 and "takes no image" in result.stderr
