"""`cogvx data encode`: files that training reads, found again by content, shared by processes."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from cogvx.data.latents import load_latents, load_posterior
from cogvx.data.manifest import read_manifest
from cogvx.data.video import write_clip
from cogvx.errors import MissingError

ROOT = Path(__file__).parents[2]
SMALL = ("--sizes", "32x48", "--max-frames", 9)


@pytest.fixture
def clips(tmp_path):
    """Two clips and an image with captions, and their manifest clips/m.jsonl."""
    folder = tmp_path / "clips"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in "ab":
        write_clip(folder / f"{name}.mkv", rng.integers(0, 255, (9, 32, 48, 3), dtype=np.uint8), 8)
    write_clip(folder / "c/", rng.integers(0, 255, (1, 32, 48, 3), dtype=np.uint8), 8)
    rows = [{"video": "a.mkv", "caption": "a red star"}, {"video": "b.mkv", "caption": "a blue boat"}, {"image": "c"}]
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def encode(cogvx, clips):
    return lambda *arguments, **more: cogvx("data", "encode", *arguments, *SMALL, **more)


def rows_of(text):
    return [json.loads(line) for line in text.splitlines()]


def test_a_manifest_on_stdout(encode, cogvx, tmp_path):
    result = encode("clips/m.jsonl", "-o", "cache")
    assert result.exit_code == 0, result.stderr
    rows = rows_of(result.stdout)
    assert [row.get("video", row.get("image")) for row in rows] == ["clips/a.mkv", "clips/b.mkv", "clips/c"]
    assert [row["encoded"]["num_frames"] for row in rows] == [9, 9, 1]
    assert all((tmp_path / row["latents"]).is_file() for row in rows)
    assert (tmp_path / rows[0]["text"]).is_file() and "text" not in rows[2]
    assert "6 files written, 0 kept" in result.stderr
    # What is stored is what `vae encode` makes of the same clip, and `vae decode` reads it.
    cogvx("vae", "encode", "clips/a.mkv", "-o", "a.safetensors")
    assert torch.equal(load_latents("a.safetensors")[0], load_latents(rows[0]["latents"])[0])
    assert load_posterior(rows[0]["latents"])[1] is not None
    assert cogvx("vae", "decode", rows[0]["latents"], "-o", "again.mkv").exit_code == 0
    again = encode("-", "-o", "cache", input=result.stdout)
    assert again.stdout == result.stdout and "0 files written, 6 kept" in again.stderr


def test_a_manifest_in_a_file(encode, tmp_path):
    (tmp_path / "out").mkdir()
    result = encode("clips/m.jsonl", "-o", "cache", "--manifest", "out/e.jsonl", "--first-frames", 2)
    assert result.exit_code == 0 and result.stdout == "out/e.jsonl\n" and f"--root {tmp_path}" in result.stderr
    manifest = read_manifest(tmp_path / "out/e.jsonl", root=tmp_path)
    assert [manifest.path(entry, "latents").is_file() for entry in manifest.entries] == [True] * 3
    assert load_posterior(manifest.path(manifest.entries[0], "image_latents"))[0].shape[1] == 2
    before = (tmp_path / "out/e.jsonl").read_bytes()
    record = json.loads(
        encode("clips/m.jsonl", "-o", "cache", "--manifest", "out/e.jsonl", "--first-frames", 2, "--json").stdout
    )
    assert record == {"output": "out/e.jsonl", "count": 3, "written": 0, "kept": 9, "failed": 0}
    assert (tmp_path / "out/e.jsonl").read_bytes() == before


def test_other_manifests_are_not_replaced_unasked(encode, tmp_path, clips):
    (tmp_path / "e.jsonl").write_text('{"video": "other.mkv"}\n')
    result = encode("clips/m.jsonl", "-o", "cache", "--manifest", "e.jsonl")
    assert result.exit_code == 2 and "--overwrite" in result.stderr and not (tmp_path / "cache").exists()
    assert encode("clips/m.jsonl", "-o", "cache", "--manifest", "clips/m.jsonl").exit_code == 2
    assert encode("clips/m.jsonl", "-o", "cache", "--manifest", "e.jsonl", "--overwrite").exit_code == 0
    assert len(read_manifest(tmp_path / "e.jsonl").entries) == 3


def test_dry_run_writes_nothing(encode, tmp_path):
    result = encode("clips/m.jsonl", "-o", "cache", "--dry-run", "--json")
    record = json.loads(result.stdout)
    assert record["shapes"] == {"9x32x48": 2, "1x32x48": 1} and record["files"] == 6 and record["disk_bytes"] > 0
    assert not (tmp_path / "cache").exists()


def test_bad_clips_are_listed_and_the_others_done(encode, clips):
    with open(clips / "m.jsonl", "a") as file:
        file.write('{]\n{"video": "missing.mkv"}\n')
    result = encode("clips/m.jsonl", "-o", "cache", "--no-text", "--json")
    rows = rows_of(result.stdout)
    assert result.exit_code == 3 and sum("latents" in row for row in rows) == 3
    assert [(row["input"], row["exit_code"]) for row in rows if "error" in row] == [
        ("clips/m.jsonl", 3),
        ("missing.mkv", 3),
    ]
    assert "m.jsonl:4" in result.stderr and "missing.mkv" in result.stderr and "Traceback" not in result.stderr
    assert encode("clips/m.jsonl", "-o", "cache", "--no-text", "--max-bad", 0).exit_code == 3


@pytest.mark.parametrize("path", ["../secret.mkv", "/etc/passwd", "c/../../x", "a\\..\\..\\x", "\x00"])
def test_paths_out_of_the_root_are_refused(encode, clips, tmp_path, path):
    with open(clips / "m.jsonl", "a") as file:
        file.write(json.dumps({"video": path}) + "\n")
    result = encode("clips/m.jsonl", "-o", "cache")
    assert result.exit_code == 5 and "m.jsonl:4" in result.stderr and result.stdout == ""
    assert not (tmp_path / "cache").exists()


def test_the_root_may_be_wider(encode, tmp_path, clips):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/m.jsonl").write_text('{"video": "../clips/a.mkv"}\n')
    assert encode("deep/m.jsonl", "-o", "cache").exit_code == 5
    result = encode("deep/m.jsonl", "-o", "cache", "--root", ".")
    assert result.exit_code == 0 and rows_of(result.stdout)[0]["video"] == "clips/a.mkv"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("-o", "-"), 2, "folder"),
        (("-o", "cache", "--sizes", "32"), 2, "HEIGHTxWIDTH"),
        (("-o", "cache", "--sizes", "32x50"), 2, "nearest: 48 or 64"),
        (("-o", "cache", "--max-frames", "16"), 2, "nearest: 9 or 17"),
        (("-o", "cache", "--no-latents", "--no-text"), 2, "nothing"),
        (("-o", "cache", "--fps", "0"), 2, "fps"),
        (("-o", "cache", "-m", "no-such-model"), 2, "no-such-model"),
        ((), 2, "--output"),
    ],
)
def test_wrong_usage(cogvx, clips, tmp_path, arguments, code, words):
    result = cogvx("data", "encode", "clips/m.jsonl", *arguments)
    assert result.exit_code == code and words in result.stderr and result.stdout == ""
    assert not (tmp_path / "cache").exists()


def test_manifests_that_cannot_be_used(encode, tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    for name in ("empty.jsonl", "missing.jsonl"):
        result = encode(name, "-o", "cache")
        assert result.exit_code == 3 and name in result.stderr and len(result.stderr.splitlines()) == 1


def test_a_full_disk(encode, monkeypatch):
    from cogvx.training import encode as module

    def full(path, *rest, **more):
        raise MissingError(f"disk full: cannot write {path}")

    monkeypatch.setattr(module, "save_text_embeds", full)
    result = encode("clips/m.jsonl", "-o", "cache")
    assert result.exit_code == 4 and "disk full" in result.stderr


@pytest.mark.slow
def test_processes_share_the_work_and_one_is_killed(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for index in range(6):
        write_clip(tmp_path / f"{index}.mkv", rng.integers(0, 255, (9, 64, 96, 3), dtype=np.uint8), 8)
        rows.append({"video": f"{index}.mkv", "caption": f"star {index}"})
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["-o", "cache", "--sizes", "64x96", "--manifest"]
    command = [sys.executable, "-m", "cogvx", "data", "encode", "m.jsonl", *flags]
    settings = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    workers = [subprocess.Popen([*command, f"e{i}.jsonl", "--json"], **settings) for i in range(3)]
    deadline = time.monotonic() + 100
    while not list(tmp_path.glob("cache/latents/*/*.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.01)
    workers[0].send_signal(signal.SIGKILL)
    workers[0].communicate()
    records = []
    for worker in workers[1:]:
        out, err = worker.communicate(timeout=100)
        assert worker.returncode == 0, err
        records.append(json.loads(out))
    assert workers[0].returncode == -signal.SIGKILL
    assert all(record["written"] + record["kept"] == 13 for record in records)
    assert (tmp_path / "e1.jsonl").read_bytes() == (tmp_path / "e2.jsonl").read_bytes()
    manifest = read_manifest(tmp_path / "e1.jsonl")
    assert len(manifest.entries) == 6
    for entry in manifest.entries:
        assert load_posterior(manifest.path(entry, "latents"))[0].isfinite().all()
    assert len(list(tmp_path.glob("cache/latents/*/*.safetensors"))) == 6
    assert sum(record["written"] for record in records) <= 13
