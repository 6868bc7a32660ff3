"""Manifests: what is right comes back as it was, what is wrong is named by file and line."""

import io
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from cogvx.data import manifest
from cogvx.errors import CogvxError, InputError, RefusedError, UsageError

ENTRY = {
    "video": "clips/ü 猫.mp4", "caption": "a\u2028b\x85c", "start": 0, "end": 1.5, "fps": 8, "num_frames": 13,
    "height": 480, "width": 720, "duration": 1.625, "sha256": "ab" * 32, "scores": {"flow": -1.5},
    "labels": {"text": 0.25}, "captions": {"dense": "x"}, "latents": "l.safetensors", "text": "t.safetensors",
    "split": "train", "rejected": ["blur"], "errors": [], "mine": {"deep": [1, None, "😀"]},
}  # fmt: skip


def read(text, **options):
    return manifest.read_manifest(io.BytesIO(text if isinstance(text, bytes) else text.encode()), **options).entries


def test_round_trip(tmp_path):
    path = tmp_path / "m.jsonl"
    manifest.write_manifest(path, [ENTRY, {"video": "b.mp4"}])
    result = manifest.read_manifest(path)
    assert result.entries == [ENTRY, {"video": "b.mp4"}]
    assert len(path.read_text().splitlines()) == 2
    assert result.path(ENTRY) == tmp_path / "clips" / "ü 猫.mp4"
    with pytest.raises(InputError, match="no 'image'"):
        result.path(ENTRY, "image")
    with pytest.raises(UsageError, match="--overwrite"):
        manifest.write_manifest(path, [])


def test_what_editors_leave_is_read():
    assert read(b'\xef\xbb\xbf{"a": 1}\r\n\r\n   \n{"a": 2}') == [{"a": 1}, {"a": 2}]
    assert read('{"video": "a", "caption": null, "other": null}') == [{"video": "a", "other": None}]
    assert read("") == []


BAD = [
    (b'{"a": "\xff"}', "not UTF-8 at byte 8"),
    (b'{"a": "\xed\xa0\x80"}', "not UTF-8"),
    ('{"a": "\\ud800"}', "surrogate"),
    ("{'a': 1}", "not JSON"),
    ('{"a": 1', "not JSON"),
    ("hello", "not JSON: Expecting value at character 1"),
    ("\0\0\0", "not JSON"),
    ('{"a": "\0"}', "not JSON"),
    ('\ufeff\ufeff{"a": 1}', "not JSON"),
    ("[1]", "object is needed, got a list"),
    ("3", "got a number"),
    ("null", "got null"),
    ("true", "got a boolean"),
    ('{"a": NaN}', "NaN"),
    ('{"a": -Infinity}', "Infinity"),
    ('{"a": 1e999}', "too large"),
    ('{"a": ' + "9" * 5000 + "}", "too large"),
    ('{"a": 1, "a": 2}', "'a' stands there twice"),
    ('{"b": {"a": 1, "a": 2}}', "twice"),
    ('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "nested"),
    ('{"a":' * 100_000, "nested"),
    ('{"a": "' + "x" * (17 << 20) + '"}', "longer than 16 MiB"),
    ('{"video": 3}', "'video' must be text, got 3"),
    ('{"caption": ["x"]}', "'caption' must be text"),
    ('{"fps": "8"}', "'fps' must be a number"),
    ('{"fps": true}', "'fps'"),
    ('{"start": -1}', "'start'"),
    ('{"start": 2, "end": 1}', "'end' must be after 'start'"),
    ('{"num_frames": 1.5}', "whole number"),
    ('{"height": 0}', "above zero"),
    ('{"sha256": "abc"}', "64"),
    ('{"scores": [1]}', "'scores'"),
    ('{"scores": {"a": "b"}}', "'scores'"),
    ('{"labels": {"a": 1.5}}', "from 0 to 1"),
    ('{"captions": {"a": 1}}', "texts"),
    ('{"rejected": "blur"}', "a list"),
]


@pytest.mark.parametrize(("line", "reason"), BAD, ids=range(len(BAD)))
def test_bad_lines_are_named(tmp_path, line, reason):
    data = line if isinstance(line, bytes) else line.encode()
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"video": "a.mp4"}\n' + data + b'\n{"video": "b.mp4"}\n')
    with pytest.raises(InputError, match=reason) as caught:
        manifest.read_manifest(path)
    assert str(caught.value).startswith(f"{path}:2: ") and len(str(caught.value)) < 400
    errors: list[CogvxError] = []
    entries = manifest.read_manifest(path, on_error=errors.append).entries
    assert entries == [{"video": "a.mp4"}, {"video": "b.mp4"}] and len(errors) == 1


def test_the_recursion_limit_is_not_reached_later():
    deep = '{"a":' + "[" * 900 + "]" * 900 + "}"
    try:
        entry = read(deep)[0]
    except InputError as error:
        assert "nested" in str(error)
    else:
        assert manifest.format_entry(entry)


def mutants(count):
    good = manifest.format_entry(ENTRY)
    pieces = [
        b"\0",
        b"\xff",
        b'"',
        b"{",
        b"}",
        b"[",
        b",",
        b":",
        b"NaN",
        b"1e999",
        b"\\ud83d",
        b"\n",
        b"\r",
        b"\xef\xbb\xbf",
    ]
    random = np.random.default_rng(0)
    for _ in range(count):
        line = bytearray(good)
        for _ in range(random.integers(1, 4)):
            place = int(random.integers(len(line)))
            match random.integers(4):
                case 0:
                    line[place] = int(random.integers(256))
                case 1:
                    del line[place : place + int(random.integers(1, 20))]
                case 2:
                    line[place:place] = pieces[random.integers(len(pieces))]
                case 3:
                    line[place:place] = line[place : place + 30]
        yield bytes(line)


def test_mutants_are_read_or_named():
    read_count = 0
    for line in mutants(600):
        try:
            for entry in read(line):
                assert json.loads(manifest.format_entry(entry)) == entry
                read_count += 1
        except CogvxError as error:
            assert isinstance(error, InputError | RefusedError)
            assert str(error).startswith("<stream>:") and "\n" not in str(error) and "\x1b" not in str(error)
    assert 20 < read_count < 590


@pytest.mark.parametrize("field", manifest.PATH_FIELDS)
@pytest.mark.parametrize("name", ["../a.mp4", "/etc/passwd", "", "a\\u0000b", "out/a.mp4", "C:\\\\a"])
def test_paths_stay_inside(tmp_path, field, name):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "out").symlink_to("/etc")
    path = tmp_path / "data" / "m.jsonl"
    path.write_text(f'{{"{field}": "{name}"}}\n')
    with pytest.raises(RefusedError, match=r"m\.jsonl:1: refused path"):
        manifest.read_manifest(path)


def test_root_lets_paths_leave_the_folder(tmp_path):
    (tmp_path / "lists").mkdir()
    path = tmp_path / "lists" / "m.jsonl"
    path.write_text('{"video": "../clips/a.mp4"}\n')
    result = manifest.read_manifest(path, root=tmp_path)
    assert result.path(result.entries[0]).resolve() == tmp_path / "clips" / "a.mp4"
    path.write_text('{"video": "../../a.mp4"}\n')
    with pytest.raises(RefusedError):
        manifest.read_manifest(path, root=tmp_path)


def test_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"a": 1}\nx\n')))
    with pytest.raises(InputError, match="<stdin>:2: not JSON"):
        manifest.read_manifest("-")


def test_missing_files(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "missing", tmp_path / "fifo", "a\0b"):
        with pytest.raises(InputError, match="cannot read"):
            manifest.read_manifest(path)


@pytest.mark.parametrize("bad", [{"a": float("nan")}, {"a": object()}, {"a": "\ud800"}])
def test_what_json_cannot_hold_is_not_written(tmp_path, bad):
    with pytest.raises(InputError, match="cannot be written"):
        manifest.write_manifest(tmp_path / "m.jsonl", [bad])
    assert list(tmp_path.iterdir()) == []


def test_appending(tmp_path):
    path = tmp_path / "new" / "m.jsonl"
    for number in range(3):
        with manifest.ManifestWriter(path) as writer:
            writer.append({"video": f"{number}.mp4"})
    assert [entry["video"] for entry in manifest.read_manifest(path).entries] == ["0.mp4", "1.mp4", "2.mp4"]
    with pytest.raises(UsageError):
        manifest.ManifestWriter(tmp_path)


@pytest.mark.parametrize("size", [0, 10, 65_536, 200_000])
@pytest.mark.parametrize("lines", [0, 1])
def test_a_torn_last_line_is_cut_off(tmp_path, size, lines):
    path = tmp_path / "m.jsonl"
    whole = b'{"video": "a.mp4"}\n' * lines
    path.write_bytes(whole + b'{"video": "' + b"x" * size)
    assert manifest.done_ids(path) == ({"a.mp4"} if lines else set())
    with pytest.raises(InputError):
        manifest.read_manifest(path)
    with manifest.ManifestWriter(path) as writer:
        writer.append({"video": "b.mp4"})
    assert path.read_bytes() == whole + b'{"video": "b.mp4"}\n'


def test_a_last_line_without_its_end_is_kept(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"video": "a.mp4"}')
    with manifest.ManifestWriter(path) as writer:
        writer.append({"video": "b.mp4"})
    assert manifest.done_ids(path) == {"a.mp4", "b.mp4"}


def test_ids_tell_parts_of_a_file_apart(tmp_path):
    assert manifest.entry_id({"video": "a", "start": 1, "end": 2}) != manifest.entry_id({"video": "a", "start": 2})
    assert manifest.entry_id({"image": "a"}) == "a"
    with pytest.raises(InputError, match="neither"):
        manifest.entry_id({"caption": "x"})
    assert manifest.done_ids(tmp_path / "missing") == set()


WRITE = """
import sys
from cogvx.data.manifest import ManifestWriter
with ManifestWriter(sys.argv[1]) as writer:
    print("ready", flush=True)
    for number in range(int(sys.argv[3])):
        writer.append({"video": f"{sys.argv[2]}-{number}", "caption": "x" * 3000})
"""


def test_processes_append_together_and_may_be_killed(tmp_path):
    path = tmp_path / "m.jsonl"
    counts = {"a": 200, "b": 200, "killed": 10**6}
    processes = {
        name: subprocess.Popen([sys.executable, "-c", WRITE, path, name, str(count)], stdout=subprocess.PIPE)
        for name, count in counts.items()
    }
    processes["killed"].stdout.readline()
    for name in ("a", "b"):
        assert processes[name].wait() == 0
    processes["killed"].send_signal(signal.SIGKILL)
    for process in processes.values():
        process.wait()
        process.stdout.close()
    done = manifest.done_ids(path)
    assert {f"{name}-{number}" for name in "ab" for number in range(200)} <= done
