"""Files appear whole or not at all, names and paths stay harmless."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from cogvx import files
from cogvx.errors import InputError, MissingError, RefusedError, UsageError


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_atomic_path_makes_a_file_with_the_mode_of_the_umask(tmp_path):
    target = tmp_path / "deep" / "clip.mp4"
    before = os.umask(0o027)
    try:
        with files.atomic_path(target) as temporary:
            assert temporary.suffix == ".mp4"
            temporary.write_bytes(b"x")
            temporary.chmod(0o600)
            assert not target.exists()
    finally:
        os.umask(before)
    assert target.read_bytes() == b"x"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert leftovers(target.parent) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_atomic_path_keeps_the_old_file_after_an_error(tmp_path, error):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(error), files.atomic_path(target) as temporary:
        temporary.write_text("half")
        raise error
    assert target.read_text() == "old"
    assert leftovers(tmp_path) == []


def test_atomic_path_refuses_to_replace(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(UsageError, match=r"exists; pass --overwrite"):
        files.write_text(target, "new", overwrite=False)
    assert target.read_text() == "old"
    files.write_text(target, "new")
    assert target.read_text() == "new"


def test_atomic_path_notices_that_another_was_faster(tmp_path):
    target = tmp_path / "a.txt"
    with pytest.raises(UsageError, match="exists"), files.atomic_path(target, overwrite=False) as temporary:
        temporary.write_text("mine")
        target.write_text("theirs")
    assert target.read_text() == "theirs"


def test_atomic_path_makes_and_replaces_a_folder(tmp_path):
    target = tmp_path / "frames"
    for content in ("old", "new"):
        with files.atomic_path(target) as temporary:
            temporary.mkdir()
            (temporary / content).write_text(content)
    assert [path.name for path in target.iterdir()] == ["new"]
    assert leftovers(tmp_path) == []
    with pytest.raises(UsageError, match="exists"), files.atomic_path(target, overwrite=False):
        pass
    with pytest.raises(UsageError, match="folder of that name"):
        files.write_bytes(target, b"x")
    assert (target / "new").exists()


def test_atomic_path_writes_to_a_device(tmp_path):
    files.write_bytes("/dev/null", b"x", overwrite=False)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_atomic_path_names_what_is_wrong_with_the_target(tmp_path):
    (tmp_path / "file").write_text("x")
    for target in (tmp_path / "file" / "a.txt", tmp_path / ("n" * 300), tmp_path / "a\0b"):
        with pytest.raises(UsageError, match="cannot write"):
            files.write_text(target, "x")
    assert leftovers(tmp_path) == []


def test_save_safetensors(tmp_path):
    from safetensors import safe_open

    path = tmp_path / "a.safetensors"
    files.save_safetensors({"x": torch.arange(6.0).reshape(2, 3).T}, path, metadata={"format": "test"})
    with safe_open(path, "pt") as file:
        assert torch.equal(file.get_tensor("x"), torch.arange(6.0).reshape(2, 3).T)
        assert file.metadata() == {"format": "test"}
    assert stat.S_IMODE(path.stat().st_mode) & 0o400 and leftovers(tmp_path) == []


FULL = """
import resource, sys, numpy as np
from pathlib import Path
from cogvx import files
from cogvx.errors import MissingError
from cogvx.data import video, manifest
folder = Path(sys.argv[1])
frames = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
entries = [{"video": "x" * 500}] * 100
def tensors():
    import torch
    files.save_safetensors({"x": torch.zeros(5000)}, folder / "old.safetensors")
def append():
    with manifest.ManifestWriter(folder / "old.jsonl") as writer:
        for entry in entries: writer.append(entry)
tasks = {
    "old.txt": lambda: files.write_bytes(folder / "old.txt", b"x" * 10000),
    "old.safetensors": tensors,
    "old.mp4": lambda: video.write_clip(folder / "old.mp4", frames, 8, overwrite=True),
    "old.mkv": lambda: video.write_clip(folder / "old.mkv", frames, 8, overwrite=True),
    "old.gif": lambda: video.write_clip(folder / "old.gif", frames, 8, overwrite=True),
    "frames": lambda: video.write_clip(folder / "frames/", frames, 8, overwrite=True),
    "old.jsonl": append,
}
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for name, task in tasks.items():
    try:
        task()
        print(name, "written?")
    except MissingError as error:
        assert "disk full" in str(error), error
        assert name in str(error), error
"""


def test_a_full_disk_leaves_the_old_file(tmp_path):
    names = ["old.txt", "old.safetensors", "old.mp4", "old.mkv", "old.gif"]
    for name in names:
        (tmp_path / name).write_text("old")
    result = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr, result.returncode) == ("", "", 0)
    assert [name for name in names if (tmp_path / name).read_text() != "old"] == []
    assert leftovers(tmp_path) == [] and not (tmp_path / "frames").exists()
    assert (tmp_path / "old.jsonl").read_bytes().endswith(b"\n")


@pytest.mark.parametrize("text", ["No space left on device (os error 28)", "[Errno 27] File too large"])
def test_disk_errors_reads_what_libraries_say(text, tmp_path):
    with pytest.raises(MissingError, match="bytes free"), files.disk_errors(tmp_path):
        raise RuntimeError(text)
    with pytest.raises(FileNotFoundError), files.disk_errors(tmp_path):
        raise FileNotFoundError(2, "No such file", "No space left on device.txt")


HOSTILE = [
    "", "\n", "a\n", "/", "/etc/passwd", "//etc/passwd", "\\\\host\\share", "\\a", "C:\\a", "C:a", "c:/a", "..", "../a",
    "a/../..", "a/../../b", "./../a", "a/b/../../../c", "..\\a", "a\\..\\..\\b", ".", "./", "a/..", "\0", "a\0.mp4",
    "a/\0", "\udcff", "\ud800.mp4", "x" * 300, "a/" * 3000, "outside", "outside/secret", "in/outside/secret", "loop",
    "loop/a", "fifo", "up", "up/b", "file/a", "in/../../a", "in/../..",
]  # fmt: skip


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "root"
    (root / "in").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (root / "file").write_text("x")
    (root / "inner").symlink_to("in")
    (root / "outside").symlink_to(tmp_path / "secret")
    (root / "in" / "outside").symlink_to(tmp_path / "secret")
    (root / "up").symlink_to("..")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "fifo")
    return root


@pytest.mark.parametrize("name", HOSTILE)
def test_safe_join_refuses(root, name):
    with pytest.raises(RefusedError) as caught:
        files.safe_join(root, name)
    assert "\n" not in str(caught.value) and "\0" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["file", "in/new.mp4", "inner/a", "a b/ü 猫.mp4", "in/../file", "-a.mp4", "a\\b", "..a"]
)
def test_safe_join_accepts(root, name):
    assert files.safe_join(root, name) == root / name


def test_safe_join_from_a_folder_inside(root):
    assert files.safe_join(root, "../file", base=root / "in") == root / "in" / ".." / "file"
    with pytest.raises(RefusedError):
        files.safe_join(root, "../../secret", base=root / "in")
    with pytest.raises(InputError):
        files.safe_join(root, 3)


PROMPTS = [
    "A cat, on a mat.", "", "   ", "../../etc/passwd", "-rf", ".hidden", "con", "NUL", "a/b\\c:d*e?f", "猫" * 200,
    "é" * 99,     "\x1b]0;owned\x07", "\u202egnp.exe", "\0", "\ud800", "x" * 10**6, "नमस्ते दुनिया", "😀😀", "a\nb", "١٢٣",
]  # fmt: skip


@pytest.mark.parametrize("prompt", PROMPTS)
def test_output_name_is_harmless(prompt, tmp_path):
    name = files.output_name(prompt, 7, ".mp4")
    slug = name[: -len("-12345678.mp4")]
    assert 0 < len(slug.encode()) <= 100 and name.endswith(".mp4")
    assert slug[0] not in "-." and not set(name) & set('/\\:*?"<>|\0\n\x1b\u202e ')
    assert name == files.output_name(prompt, 7, ".mp4") != files.output_name(prompt, 8, ".mp4")
    (tmp_path / name).write_text("x")
    assert files.safe_join(tmp_path, name) == tmp_path / name


def test_output_name_reads_like_the_prompt():
    assert files.output_name("A cat, on a mat.", 0, ".mp4").startswith("a-cat-on-a-mat-")


def test_clean():
    assert files.clean("a\x1b]0;x\x07b\x9bc\x7f\n\td\u202ee") == "a]0;xbc de"
    assert files.clean("a\nb\tc\r\n", multiline=True) == "a\nb c \n"
    assert files.clean("\ud800 ü") == "? ü"


def test_sweep_removes_old_temporaries_only(tmp_path):
    old, young = tmp_path / f"{files.TEMPORARY_PREFIX}1", tmp_path / f"{files.TEMPORARY_PREFIX}2"
    for folder in (old, young, tmp_path / "other"):
        folder.mkdir()
        (folder / "x").write_text("x")
    os.utime(old, (time.time() - 1e6,) * 2)
    os.utime(tmp_path / "other", (time.time() - 1e6,) * 2)
    assert files.sweep(tmp_path) == 1
    assert {path.name for path in tmp_path.iterdir()} == {young.name, "other"}


def test_hash_and_free_space(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert files.sha256_file(tmp_path / "a").startswith("ba7816bf8f01cfea")
    with pytest.raises(InputError, match="cannot read"):
        files.sha256_file(tmp_path / "missing")
    assert files.free_bytes(tmp_path / "not" / "there") > 0
