import json
import time

import numpy as np
import pytest
from moving_pictures import mp4, pan, resized, texture

from cogvx.data.manifest import read_manifest, write_manifest
from cogvx.data.signals.duplicates import Hashes, first_of_each
from cogvx.data.signals.marking import mark_duplicates
from cogvx.data.signals.phash import PHash, frame_hash
from cogvx.data.signals.sample import read_sample, sample_of

BITS = 8


def hashes(frames, rate=8.0):
    return PHash().measure(sample_of(frames, rate)).fields["phash"]


def scene(seed):
    """A clip of a scene that no other seed has."""
    return pan(16, 120, 160, 3, seed=100 + seed, coarse=24)


def apart(one, other):
    return [(int(a, 16) ^ int(b, 16)).bit_count() for a, b in zip(one, other, strict=True)]


def test_a_hash_in_closed_form():
    x = (2 * np.arange(32) + 1) * np.pi / 64
    wave = 128 + 60 * np.cos(x)[None, :].repeat(32, axis=0) - 50 * np.cos(x)[:, None]  # frequencies (0, 1) and (1, 0)
    value = int(frame_hash(wave.round().astype(np.uint8)), 16)
    assert value >> 63 == 1  # (0, 1) is above the median
    assert value >> 62 & 1 == 0  # (1, 0) below it
    assert value.bit_count() <= 32


def test_frames_without_contrast_have_no_hash():
    frames = np.concatenate([np.zeros((4, 32, 32, 3), np.uint8), pan(12, 32, 32, 0)])
    assert hashes(frames)[0] == ""
    assert all(len(text) == 16 for text in hashes(frames)[1:])
    assert len(hashes(pan(1, 32, 32, 0))) == 1
    assert len(hashes(pan(2, 32, 32, 0))) == 4


def variants(frames, tmp_path):
    _, height, width, _ = frames.shape
    (tmp_path / "a.mp4").write_bytes(mp4(frames, crf=32))
    yield PHash().measure(read_sample(tmp_path / "a.mp4")).fields["phash"]
    yield hashes(resized(frames, height * 3 // 4, width * 3 // 4))
    yield hashes(resized(frames, height, width, box=(0.01 * width, 0.01 * height, 0.99 * width, 0.99 * height)))
    yield hashes(np.clip(frames * 0.9 + 20, 0, 255).astype(np.uint8))
    yield hashes(frames[::2], 4.0)


def test_the_same_clip_is_known_again_and_others_are_not(tmp_path):
    lists = []
    for seed in range(8):
        frames = scene(seed)
        lists += [hashes(frames), *variants(frames, tmp_path)]
    firsts = first_of_each(Hashes.of(lists), most_bits=BITS)
    assert firsts.tolist() == [6 * (index // 6) for index in range(48)]


def test_three_of_four_hashes_are_enough():
    one = hashes(scene(0))
    other = hashes(scene(1))
    lists = [one, [*one[:3], other[3]], [one[0], *other[1:3], one[3]], [*one[:2], "", ""], one[:1], one[:1]]
    assert first_of_each(Hashes.of(lists), most_bits=BITS).tolist() == [0, 0, 2, 3, 4, 4]


def test_a_chain_is_one_group():
    one, other = hashes(scene(0)), hashes(scene(1))
    lists = [one, [*one[:2], *other[2:]], [*one[:3], other[3]]]
    assert first_of_each(Hashes.of(lists[:2]), most_bits=BITS).tolist() == [0, 1]
    assert first_of_each(Hashes.of(lists), most_bits=BITS).tolist() == [0, 0, 0]


def test_what_is_no_hash_is_the_same_as_nothing():
    lists = [None, None, [], ["", "", "", ""], "abc", [1, 2], ["xyz"], ["0" * 15 + "g"]]
    assert first_of_each(Hashes.of(lists), most_bits=BITS).tolist() == list(range(8))
    assert first_of_each(Hashes.of([]), most_bits=BITS).tolist() == []


def flipped(rng, bits, count):
    """Flip so many bits of each hash."""
    order = rng.random((*bits.shape, 64)).argsort(axis=-1)[..., :count].astype(np.uint64)
    return bits ^ (np.uint64(1) << order).sum(axis=-1, dtype=np.uint64)


def test_many_clips():
    rng = np.random.default_rng(0)
    count, copies = 10_000, 1_000
    bits = rng.integers(0, 2**64, (count, 4), dtype=np.uint64)
    bits[count - copies :] = flipped(rng, bits[:copies], 6)
    there = np.ones(bits.shape, dtype=bool)
    start = time.monotonic()
    firsts = first_of_each(Hashes(bits, there), most_bits=BITS)
    assert time.monotonic() - start < 60
    assert (firsts[: count - copies] == np.arange(count - copies)).all()
    assert (firsts[count - copies :] == np.arange(copies)).mean() > 0.995


def test_many_copies_of_one_clip():
    rng = np.random.default_rng(0)
    bits = flipped(rng, np.full((1500, 4), 0x0123456789ABCDEF, dtype=np.uint64), 2)
    firsts = first_of_each(Hashes(bits, np.ones(bits.shape, dtype=bool)), most_bits=BITS)
    assert (firsts == 0).all()


@pytest.fixture
def shards(tmp_path):
    first, second = hashes(scene(0)), hashes(scene(1))
    rows = [
        [{"video": "a.mp4", "phash": first}, {"video": "b.mp4", "phash": second, "scores": {"flow": 1.0}}],
        [
            {"video": "c.mp4", "start": 1.0, "end": 2.0, "phash": first, "caption": "kept", "duplicate_of": "old"},
            {"video": "d.mp4", "errors": [{"stage": "score", "error": "broken", "exit_code": 3}]},
            {"video": "e.mp4", "phash": first},
        ],
    ]
    paths = [tmp_path / "0.jsonl", tmp_path / "1.jsonl"]
    for path, part in zip(paths, rows, strict=True):
        write_manifest(path, part)
    return paths


def test_marks_in_manifests(shards):
    marked = mark_duplicates(shards, most_bits=BITS)
    assert (marked.compared, marked.duplicates) == (4, 2)
    a, b, c, d, e = (entry for path in shards for entry in read_manifest(path).entries)
    assert a["scores"] == {"duplicate": 0} and "duplicate_of" not in a
    assert b["scores"] == {"flow": 1.0, "duplicate": 0}
    assert c["scores"] == {"duplicate": 1} and c["duplicate_of"] == "a.mp4" and c["caption"] == "kept"
    assert e["duplicate_of"] == "a.mp4"
    assert "scores" not in d and "made" not in d
    assert a["made"]["duplicate"]["most_bits"] == BITS
    before = [path.read_bytes() for path in shards]
    mark_duplicates(shards, most_bits=BITS)
    assert [path.read_bytes() for path in shards] == before


def test_old_marks_go(shards):
    mark_duplicates(shards, most_bits=BITS)
    rows = read_manifest(shards[1]).entries
    rows[2]["phash"] = hashes(scene(2))
    rows[0].pop("phash")
    shards[1].write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert mark_duplicates(shards, most_bits=BITS).duplicates == 0
    c, _, e = read_manifest(shards[1]).entries
    assert c["scores"] == {} and "duplicate_of" not in c
    assert e["scores"] == {"duplicate": 0} and "duplicate_of" not in e


def test_a_texture_is_no_duplicate_of_its_mirror():
    picture = texture(96, 128, coarse=24)
    assert min(apart(hashes(picture[None]), hashes(picture[None, :, ::-1]))) > 16
