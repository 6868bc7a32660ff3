"""`cogvx data scan`: every form that datasets come in, probed, hashed, resumed; hostile names and files."""

import hashlib
import json
import os

import numpy as np
import pytest
from PIL import Image

from cogvx.data.manifest import read_manifest
from cogvx.data.video import write_clip

HERE = ("--workers", 0)  # in this process: no time to start another


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """A clip of 5 frames, 32x48 at 8 fps, and an image, 20x10."""
    folder = tmp_path_factory.mktemp("media")
    frames = np.random.default_rng(0).integers(0, 255, (5, 32, 48, 3), dtype=np.uint8)
    write_clip(folder / "clip.mkv", frames, 8)
    Image.new("RGB", (20, 10), "red").save(folder / "image.png")
    return (folder / "clip.mkv").read_bytes(), (folder / "image.png").read_bytes()


@pytest.fixture
def put(tmp_path, media):
    """Make files: clips and images by their suffix, others with a text."""

    def put(*names, **texts):
        for name in names:
            name, _, text = name.partition("=")
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            suffix = path.suffix
            path.write_bytes(media[0] if suffix == ".mkv" else media[1] if suffix == ".png" else text.encode())

    return put


@pytest.fixture
def scan(cogvx):
    return lambda *arguments, **more: cogvx("data", "scan", *arguments, *HERE, **more)


def rows_of(text):
    return [json.loads(line) for line in text.splitlines()]


def brief(result):
    """The path and caption of each row."""
    return [(row.get("video", row.get("image")), row.get("caption")) for row in rows_of(result.stdout)]


def test_a_folder_of_clips_and_images(scan, put, media, tmp_path):
    put("d/b10.mkv", "d/b2.mkv", "d/sub/p.png", "d/.hidden.mkv", "d/notes.txt=x", "d/a.pdf=x")
    put("d/b2.txt=a red\n star ", "d/sub/p.txt=a still")
    result = scan("d", "-o", "d/m.jsonl")
    assert result.exit_code == 0 and result.stdout == "d/m.jsonl\n"
    manifest = read_manifest(tmp_path / "d/m.jsonl")
    first, second, third = manifest.entries
    assert [first["video"], second["video"], third["image"]] == ["b2.mkv", "b10.mkv", "sub/p.png"]
    expected = {"num_frames": 5, "height": 32, "width": 48, "fps": 8.0, "duration": 0.625}
    assert expected.items() <= second.items() and "caption" not in second
    assert first["sha256"] == hashlib.sha256(media[0]).hexdigest()
    assert (first["caption"], third["caption"]) == ("a red star", "a still")
    assert (third["height"], third["width"]) == (10, 20) and "fps" not in third and "duration" not in third


def test_frames_in_a_folder_are_one_clip_and_a_webp_is_what_is_in_it(scan, tmp_path):
    frames = np.zeros((3, 16, 16, 3), dtype=np.uint8)
    write_clip(tmp_path / "d/clip", frames, 4)
    (tmp_path / "d/sub").mkdir()
    write_clip(tmp_path / "d/moving.webp", np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3), np.uint8), 4)
    Image.new("RGB", (8, 8)).save(tmp_path / "d/still.webp")
    rows = rows_of(scan("d").stdout)
    assert [row.get("video", row.get("image")) for row in rows] == ["d/clip", "d/moving.webp", "d/still.webp"]
    assert ["image" in row for row in rows] == [False, False, True]
    assert rows[0]["num_frames"] == 3 and rows[0]["fps"] == 4
    assert brief(scan("d/clip")) == [("d/clip", None)]


FORMS = {
    "lists": ("videos.txt=v/a.mkv\nv/b.mkv\n\n", "prompts.txt=one star\ntwo stars\n"),
    "lists, prompt.txt": ("videos.txt=v/a.mkv\r\nv/b.mkv", "prompt.txt=one star\ntwo stars"),
    "csv": ('metadata.csv=file_name,text,mood\nv/a.mkv,one star,sad\nv/b.mkv,"two stars",\n',),
    "json": (
        'metadata.json=[{"path": "v/a.mkv", "cap": ["one star", "a star"]}, {"path": "v/b.mkv", "cap": "two stars"}]',
    ),
    "json, an object": ('metadata.json={"v/a.mkv": "one star", "v/b.mkv": {"caption": "two stars"}}',),
    "jsonl": (
        'metadata.jsonl={"file_path": "v/a.mkv", "prompt": "one star"}\n{"path": "v/b.mkv", "caption": "two stars"}',
    ),
    "manifest": (
        'manifest.jsonl={"video": "v/a.mkv", "caption": "one star"}\n{"video": "v/b.mkv", "text": "two stars"}',
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_forms_of_datasets(scan, put, form):
    put("d/v/a.mkv", "d/v/b.mkv", "d/v/left-out.mkv", *(f"d/{text}" for text in FORMS[form]))
    result = scan("d")
    assert result.exit_code == 0, result.stderr
    assert brief(result) == [("d/v/a.mkv", "one star"), ("d/v/b.mkv", "two stars")]
    rows = rows_of(result.stdout)
    assert all(row["num_frames"] == 5 for row in rows) and not any("text" in row for row in rows)
    if form == "csv":
        assert (rows[0]["mood"], "mood" in rows[1]) == ("sad", False)
    if form == "json":
        assert rows[0]["captions"] == {"cap_2": "a star"}
    name = FORMS[form][0].partition("=")[0]
    if name.startswith("m"):  # a table can be named itself
        assert scan(f"d/{name}").stdout == result.stdout


def test_videos_and_labels(scan, put):
    put("d/videos/a.mkv", "d/videos/sub/b.mkv", "d/videos/c.mkv")
    put("d/labels/a.txt=one star\nmore", "d/labels/sub/b.txt=two stars")
    assert brief(scan("d")) == [
        ("d/videos/a.mkv", "one star"),
        ("d/videos/c.mkv", None),
        ("d/videos/sub/b.mkv", "two stars"),
    ]
    put("d/metadata.csv=path\nvideos/a.mkv\n")
    result = scan("d")
    assert result.exit_code == 2 and "metadata, labels" in result.stderr and "--form" in result.stderr
    assert len(brief(scan("d", "--form", "labels"))) == 3 and len(brief(scan("d", "--form", "metadata"))) == 1
    assert brief(scan("d", "--form", "plain"))[0] == ("d/videos/a.mkv", None)
    assert scan("d", "--form", "lists").exit_code == 3


def test_lists_of_different_lengths(scan, put):
    put("d/a.mkv", "d/videos.txt=a.mkv\na.mkv\na.mkv\n", "d/prompts.txt=one\n\n\ntwo\n")
    result = scan("d")
    assert result.exit_code == 3 and "names 3 clips" in result.stderr and "has 4 prompts" in result.stderr
    assert result.stdout == "" and len(result.stderr.splitlines()) == 1


def test_bad_files_are_kept_apart_and_tried_again(scan, put, tmp_path, media):
    put("d/a.mkv", "d/empty.mp4=", "d/text.mp4=no clip", "d/c.mkv", "d/bad.txt=")
    (tmp_path / "d/cut.mkv").write_bytes(media[0][:300])
    (tmp_path / "d/c.txt").write_bytes(b"\xff\xfe")
    result = scan("d", "-o", "d/m.jsonl", "--json")
    lines = rows_of(result.stdout)
    assert result.exit_code == 3 and "Traceback" not in result.stderr
    assert [line["exit_code"] for line in lines[:-1]] == [3] * 4 and "c.txt" in result.stderr
    record = lines[-1]
    assert (record["output"], record["done"], record["failed"]) == ("d/m.jsonl", 2, 4)
    rows = rows_of((tmp_path / "d/m.jsonl").read_text())
    assert [row["video"] for row in rows] == ["a.mkv", "c.mkv", "cut.mkv", "empty.mp4", "text.mp4"]
    assert ["errors" in row for row in rows] == [False, False, True, True, True]
    assert str(tmp_path) not in (tmp_path / "d/m.jsonl").read_text()
    (tmp_path / "d/cut.mkv").write_bytes(media[0])
    record = rows_of(scan("d", "-o", "d/m.jsonl", "--json").stdout)[-1]
    assert (record["done"], record["kept"], record["failed"]) == (1, 2, 3)


def test_only_what_is_new_or_has_changed_is_looked_at_again(scan, put, tmp_path):
    put("d/a.mkv", "d/b.mkv", "d/c.mkv")
    scan("d", "-o", "d/m.jsonl")
    put("d/aa.mkv", "d/c.txt=a caption")
    write_clip(tmp_path / "d/b.mkv", np.zeros((2, 32, 48, 3), np.uint8), 8, overwrite=True)
    record = rows_of(scan("d", "-o", "d/m.jsonl", "--json").stdout)[-1]
    assert (record["done"], record["kept"]) == (3, 1)
    rows = read_manifest(tmp_path / "d/m.jsonl").entries
    assert [row["num_frames"] for row in rows] == [5, 5, 2, 5] and rows[3]["caption"] == "a caption"
    record = rows_of(scan("d", "-o", "d/m.jsonl", "--json", "--no-hash").stdout)[-1]
    assert (record["done"], record["kept"]) == (4, 0)
    assert not any("sha256" in row for row in read_manifest(tmp_path / "d/m.jsonl").entries)


def test_the_result_may_be_the_manifest_of_the_folder_itself(scan, put, tmp_path):
    put("d/a.mkv")
    scan("d", "-o", "d/manifest.jsonl")
    put("d/b.mkv")
    record = rows_of(scan("d", "-o", "d/manifest.jsonl", "--json").stdout)[-1]
    assert (record["done"], record["kept"]) == (1, 1)
    assert len(brief(scan("d"))) == 2  # now it is what lists the clips
    result = scan("d/manifest.jsonl", "-o", "d/manifest.jsonl")
    assert result.exit_code == 2 and "another file" in result.stderr


def test_a_manifest_tells_when_a_file_has_changed(scan, put):
    put("d/a.mkv", "d/b.mkv")
    put('d/x.jsonl={"video": "a.mkv", "sha256": "%s"}\n{"video": "b.mkv", "start": 0.1, "end": 0.5}\n' % ("0" * 64))
    result = scan("d/x.jsonl")
    rows = rows_of(result.stdout)
    assert result.exit_code == 3 and "sha256" in rows[0]["errors"][0]["error"] and rows[0]["sha256"] == "0" * 64
    assert (rows[1]["start"], rows[1]["fps"]) == (0.1, 8.0) and "duration" not in rows[1]


def test_links_and_paths_out_of_the_folder_are_refused(scan, put, tmp_path):
    put("secret.mkv", "secret.txt=secret", "d/a.mkv", "d/b.mkv")
    os.symlink("../secret.mkv", tmp_path / "d/link.mkv")
    os.symlink("../secret.txt", tmp_path / "d/b.txt")
    os.symlink("a.mkv", tmp_path / "d/inside.mkv")
    os.symlink("..", tmp_path / "d/up")
    os.mkfifo(tmp_path / "d/pipe.mkv")
    result = scan("d")
    assert result.exit_code == 5 and "link.mkv" in result.stderr and "secret" not in result.stdout
    assert brief(result) == [("d/a.mkv", None), ("d/b.mkv", None), ("d/inside.mkv", None)]
    assert len(brief(scan("d", "--root", "."))) == 4
    put("e/a.mkv", "e/videos.txt=a.mkv\n../secret.mkv\n/etc/passwd\na/../../secret.mkv\n")
    result = scan("e")
    assert result.exit_code == 5 and brief(result) == [("e/a.mkv", None)]
    assert result.stderr.count("refused") == 3 and "videos.txt:3" in result.stderr


def test_odd_names(scan, put, tmp_path):
    names = ["-x", "a b", "ä ☃", "new\nline", "quote\"'", "\x1b[31mred", "%s{}", "l" * 200]
    put(*(f"d/{name}.mkv" for name in names))
    with open(os.fsencode(tmp_path / "d") + b"/\xff.mkv", "wb") as file:
        file.write(b"x")
    result = scan("d", "-o", "d/m.jsonl")
    assert result.exit_code == 3 and "not UTF-8" in result.stderr and "\x1b" not in result.stderr
    manifest = read_manifest(tmp_path / "d/m.jsonl")
    assert sorted(entry["video"] for entry in manifest.entries) == sorted(f"{name}.mkv" for name in names)
    assert all(manifest.path(entry).is_file() and entry["num_frames"] == 5 for entry in manifest.entries)


def test_bad_rows_of_tables(scan, put):
    put("d/a.mkv", "d/metadata.csv=path,fps,text\na.mkv,8,one\n,8,two\na.mkv,fast,three\na.mkv,8,four,more\n")
    result = scan("d")
    assert result.exit_code == 3 and brief(result) == [("d/a.mkv", "one")]
    lines = [line for line in result.stderr.splitlines() if "error" in line]
    assert [line.split(": ")[2] for line in lines] == [f"d/metadata.csv:{number}" for number in (3, 4, 5)]
    put("e/metadata.json=[{", "f/metadata.jsonl={]\n")
    for name in ("e", "f"):
        result = scan(name)
        assert result.exit_code == 3 and "not JSON" in result.stderr and "Traceback" not in result.stderr


def test_clips_by_name_and_by_stdin(scan, put, tmp_path):
    put("d/a.mkv", "e/b.mkv", "out/x=")
    result = scan("e/b.mkv", "d", "-o", "out/m.jsonl")
    assert result.exit_code == 0 and "--root" in result.stderr
    entries = read_manifest(tmp_path / "out/m.jsonl", root=tmp_path).entries
    assert [entry["video"] for entry in entries] == ["../e/b.mkv", "../d/a.mkv"]
    result = scan("-", input=f"e/b.mkv\n\nnone.mkv\n{tmp_path}/d/a.mkv\n")
    assert result.exit_code == 3 and "<stdin>:3" in result.stderr
    assert brief(result) == [("e/b.mkv", None), ("d/a.mkv", None)]


def test_shards_dry_run_and_worker_processes(scan, cogvx, put):
    put(*(f"d/{i}.mkv" for i in range(5)))
    whole = scan("d").stdout.splitlines()
    assert scan("d", "--shard", "1/2").stdout.splitlines() == whole[::2]
    assert scan("d", "--shard", "2/2").stdout.splitlines() == whole[1::2]
    record = json.loads(scan("d", "-o", "m.jsonl", "--dry-run", "--json").stdout)
    assert record == {"output": "m.jsonl", "videos": 5, "images": 0, "failed": 0} and os.listdir() == ["d"]
    assert cogvx("data", "scan", "d", "--workers", 2).stdout.splitlines() == whole


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("none",), 3, "none: no such file"),
        (("d",), 3, "no clips"),
        ((), 2, "SOURCE"),
        (("d", "--shard", "3/2"), 2, "--shard"),
        (("d", "--ray-address", "x"), 2, "--engine ray"),
        (("d", "-"), 2, "stdin"),
        (("d", "--form", "parquet"), 2, "parquet"),
        (("d/x.jsonl", "--form", "labels"), 2, "table"),
    ],
)
def test_wrong_usage(scan, put, arguments, code, words):
    put("d/x.jsonl=")
    result = scan(*arguments, input="")
    assert result.exit_code == code and words in result.stderr and result.stdout == ""


def test_the_help_names_the_forms(cogvx):
    text = cogvx("data", "scan", "--help").stdout
    assert all(word in text for word in ("plain", "manifest", "metadata", "lists", "labels", "prompts.txt", "Examples"))
