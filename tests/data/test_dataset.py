"""Clips of manifests as training asks for them: raw or encoded, planned ahead, bad ones skipped and listed."""

import json
from collections import Counter

import numpy as np
import pytest
import torch

from cogvx.data import dataset as module
from cogvx.data.buckets import Shape
from cogvx.data.cache import EncodedCache, content_sha256
from cogvx.data.dataset import ClipDataset, draw
from cogvx.data.latents import save_latents
from cogvx.data.manifest import format_entry, read_manifest
from cogvx.data.selection import Selection
from cogvx.data.text_embeds import save_text_embeds
from cogvx.data.video import write_clip
from cogvx.errors import InputError, RefusedError, UsageError

SELECTION = Selection([(32, 48), (48, 32)], 17, 8.0)


@pytest.fixture
def folder(tmp_path):
    """Clips a (33 frames at 16 fps), b (20 at 8, upright), c (an image) and small, and no manifest."""
    rng = np.random.default_rng(0)
    for name, shape, fps in (("a", (33, 32, 48), 16), ("b", (20, 60, 40), 8), ("small", (9, 16, 16), 8)):
        write_clip(tmp_path / f"{name}.mkv", rng.integers(0, 255, (*shape, 3), dtype=np.uint8), fps)
    write_clip(tmp_path / "c/", rng.integers(0, 255, (1, 64, 96, 3), dtype=np.uint8), 8)
    return tmp_path


def manifest(folder, *entries, name="m.jsonl"):
    (folder / name).write_bytes(b"".join(map(format_entry, entries)))
    return folder / name


A, B, C, SMALL = {"video": "a.mkv", "caption": "an a"}, {"video": "b.mkv"}, {"image": "c"}, {"video": "small.mkv"}


def latents_file(folder, name="a", num_frames=17, height=32, width=48, value=1.0, fps=8, **more):
    shape = (4, (num_frames - 1) // 4 + 1, height // 8, width // 8)
    about = {"model": "tiny", "fps": fps, "num_frames": num_frames, "height": height, "width": width, "source": "a"}
    path = folder / f"{name}.safetensors"
    save_latents(path, torch.full(shape, value), std=torch.full(shape, 0.5), **about, overwrite=True, **more)
    return path


def test_raw_clips(folder):
    clips = ClipDataset(manifest(folder, A, B, C, SMALL), SELECTION)
    assert len(clips) == 3 and clips.left_out == Counter({"smaller than every size": 1}) and clips.bad == []
    assert [clips.shape(i) for i in range(3)] == [Shape(17, 32, 48), Shape(17, 48, 32), Shape(1, 32, 48)]
    sample = clips.read(0)
    assert sample.frames.shape == (17, 32, 48, 3) and sample.frames.dtype == np.uint8
    assert (sample.index, sample.caption, sample.shape) == (0, "an a", Shape(17, 32, 48))
    assert sample.latents is None and sample.text is None and not clips.is_encoded(0)
    assert clips.read(2).frames.shape == (1, 32, 48, 3) and clips.read(1).caption == ""
    assert clips.entry(1) == B


def test_clips_as_images(folder):
    clips = ClipDataset(manifest(folder, A, C), Selection([(32, 48)], 1, 8.0))
    assert [clips.read(i).frames.shape for i in range(2)] == [(1, 32, 48, 3)] * 2


def test_several_manifests_and_a_predicate(folder):
    first = manifest(folder, A | {"split": "train"}, B | {"split": "test"})
    second = read_manifest(manifest(folder, C, name="n.jsonl"))
    clips = ClipDataset([first, second], SELECTION, keep=lambda entry: entry.get("split") != "test")
    assert len(clips) == 2 and clips.left_out == Counter({"not of this split": 1})


def test_the_high_quality_subset(folder):
    entries = [A | {"scores": {"motion": value}} for value in (0.2, 0.5, 0.9)] + [A, A | {"rejected": ["dark"]}]
    selection = Selection([(32, 48)], 17, 8.0, min_scores={"motion": 0.5}, min_frames=9)
    clips = ClipDataset(manifest(folder, *entries, C), selection)
    assert [clips.entry(i)["scores"]["motion"] for i in range(len(clips))] == [0.5, 0.9]
    assert clips.left_out == Counter({"motion below 0.5": 1, "no score motion": 2, "rejected": 1})
    assert ClipDataset(manifest(folder, C), Selection([(32, 48)], 17, 8.0, min_frames=9)).left_out == Counter(
        {"shorter than 9 frames": 1}
    )


def test_a_condition_with_quantiles_over_all_manifests(folder):
    one = manifest(folder, *(A | {"scores": {"motion": value}} for value in (1, 2, 3)), name="one.jsonl")
    two = manifest(
        folder, *(A | {"scores": {"motion": value}} for value in (4, 5)), A | {"rejected": ["dark"]}, name="two.jsonl"
    )
    selection = Selection([(32, 48)], 17, 8.0, where="motion >= q0.5")
    clips = ClipDataset([one, two], selection)
    assert [clips.entry(i)["scores"]["motion"] for i in range(len(clips))] == [3, 4, 5]
    assert clips.left_out == Counter({"not motion >= q0.5": 2, "rejected": 1})
    every = Selection([(32, 48)], 17, 8.0, where="rejected or motion > 4", rejected=True)
    assert len(ClipDataset([one, two], every)) == 2
    with pytest.raises(InputError, match="lack motion"):
        ClipDataset([one, two], Selection([(32, 48)], 17, 8.0, where="motion > 4", rejected=True))


def test_captions_are_chosen_by_their_shares(folder):
    entry = A | {"captions": {"short": "s", "dense": "d"}}
    clips = ClipDataset(
        manifest(folder, entry, A, B), SELECTION, captions={"caption": 0.5, "short": 0.25, "dense": 0.25, "other": 9}
    )
    fields = [clips.caption_field(0, choice / 100) for choice in range(100)]
    assert Counter(fields) == {"caption": 50, "short": 25, "dense": 25}
    assert clips.caption_field(1, 0.99) == "caption" and clips.caption_field(2, 0.5) is None
    assert clips.read(0, caption_choice=0.6).caption == "s"
    for wrong in ({"caption": 0.0}, {"caption": -1, "short": 2}):
        with pytest.raises(UsageError, match="shares"):
            ClipDataset(manifest(folder, A), SELECTION, captions=wrong)


def test_bad_entries_are_skipped_up_to_a_limit_and_listed(folder):
    (folder / "bad.mkv").write_bytes(b"no video")
    path = manifest(folder, {"video": "bad.mkv"}, A, {"video": "missing.mkv"})
    with pytest.raises(InputError, match=r"bad\.mkv"):
        ClipDataset(path, SELECTION)
    seen = []
    clips = ClipDataset(path, SELECTION, max_bad=2, on_bad=lambda name, error: seen.append(name))
    assert seen == [name for name, _ in clips.bad] == ["bad.mkv", "missing.mkv"] and len(clips) == 1
    with pytest.raises(InputError, match="2 entries could not be used, more than the 1 allowed"):
        ClipDataset(path, SELECTION, max_bad=1)


def test_a_clip_that_goes_bad_later(folder):
    path = manifest(folder, A, B)
    clips = ClipDataset(path, SELECTION, max_bad=1)
    (folder / "a.mkv").write_bytes(b"no video")
    (folder / "b.mkv").unlink()
    assert clips.read(0) is None and clips.bad[0][0] == "a.mkv"
    with pytest.raises(InputError, match="2 entries"):
        clips.read(1)


def test_a_path_out_of_the_root_is_refused(folder):
    for path in ("../a.mkv", "/etc/passwd"):
        with pytest.raises(RefusedError):
            ClipDataset(manifest(folder, {"video": path}), SELECTION, max_bad=9)
    inner = folder / "inner"
    inner.mkdir()
    outside = manifest(inner, {"video": "../a.mkv"})
    assert len(ClipDataset(outside, SELECTION, root=folder)) == 1


def test_broken_lines_count_as_bad(folder):
    path = manifest(folder, A)
    path.write_bytes(b"{]\n" + path.read_bytes())
    clips = ClipDataset(path, SELECTION, max_bad=1)
    assert len(clips) == 1 and "m.jsonl:1" in str(clips.bad[0][1])


def test_latents_that_an_entry_names(folder):
    save_text_embeds(folder / "t", torch.ones(3, 2), prompt="an a", model="tiny")
    latents_file(folder)
    clips = ClipDataset(manifest(folder, A | {"latents": "a.safetensors", "text": "t"}), SELECTION)
    sample = clips.read(0)
    assert clips.is_encoded(0) and sample.frames is None and sample.shape == Shape(17, 32, 48)
    assert sample.latents.shape == sample.std.shape == (4, 5, 4, 6) and torch.equal(sample.text, torch.ones(3, 2))
    assert (
        ClipDataset(manifest(folder, A | {"latents": "a.safetensors"}), SELECTION, encoded=False).read(0).latents
        is None
    )
    both = ClipDataset(manifest(folder, A | {"latents": "a.safetensors"}), SELECTION, first_frame=True).read(0)
    assert both.latents is not None and both.frames.shape == (1, 32, 48, 3)


def test_latents_for_another_stage_are_not_taken(folder):
    entry = A | {"latents": "a.safetensors"}
    for about in ({"num_frames": 9}, {"height": 48, "width": 32}, {"fps": 16}):
        latents_file(folder, **about)
        sample = ClipDataset(manifest(folder, entry), SELECTION).read(0)
        assert sample.latents is None and sample.frames is not None


def test_latents_without_pixels(folder):
    latents_file(folder)
    latents_file(folder, "other", height=64)
    latents_file(folder, "long", num_frames=33)
    names = [{"latents": f"{name}.safetensors"} for name in ("a", "other", "long")]
    clips = ClipDataset(manifest(folder, *names), SELECTION)
    assert len(clips) == 1 and clips.read(0).latents is not None
    assert clips.left_out == Counter({"latents of another size": 1, "latents of another length": 1})


def test_latents_of_another_autoencoder_are_an_error(folder):
    latents_file(folder)
    about = {"num_frames": 17, "height": 32, "width": 48, "fps": 8, "vae": "one"}
    path = manifest(folder, A | {"latents": "a.safetensors", "encoded": about})
    assert ClipDataset(path, SELECTION, cache=EncodedCache(folder / "cache", "one", "")).read(0).latents is not None
    with pytest.raises(InputError, match="another autoencoder"):
        ClipDataset(path, SELECTION, cache=EncodedCache(folder / "cache", "two", ""))
    path = manifest(folder, A | {"latents": "a.safetensors", "encoded": {"height": 32}})
    with pytest.raises(InputError, match="'encoded' must hold"):
        ClipDataset(path, SELECTION)


def test_the_cache_is_searched(folder):
    cache = EncodedCache(folder / "cache", "vae", "text")
    clips = ClipDataset(manifest(folder, A, B), SELECTION, cache=cache)
    assert not clips.is_encoded(0) and clips.read(0).text is None and clips.text("") is None
    target = cache.latents(content_sha256(folder / "a.mkv"), Shape(17, 32, 48), fps=8)
    target.parent.mkdir(parents=True)
    latents_file(target.parent, target.stem)
    save_text_embeds(cache.text("an a"), torch.ones(3, 2), prompt="an a", model="tiny")
    save_text_embeds(cache.text(""), torch.zeros(3, 2), prompt="", model="tiny")
    sample = clips.read(0)
    assert clips.is_encoded(0) and sample.latents is not None and torch.equal(sample.text, torch.ones(3, 2))
    assert torch.equal(clips.text(""), torch.zeros(3, 2)) and torch.equal(clips.read(1).text, torch.zeros(3, 2))


def test_latents_of_a_longer_clip_serve_a_stage_of_shorter_ones(folder):
    cache = EncodedCache(folder / "cache", "vae", "text")
    target = cache.latents(content_sha256(folder / "a.mkv"), Shape(17, 32, 48), fps=8)
    target.parent.mkdir(parents=True)
    latents_file(target.parent, target.stem)
    named = A | {"latents": "a.safetensors"}
    for entry, used in ((A, {"cache": cache}), (named, {})):
        latents_file(folder)
        short = ClipDataset(manifest(folder, entry), Selection([(32, 48)], 9, 8.0), **used)
        sample = short.read(0)
        assert short.is_encoded(0) and sample.shape == Shape(9, 32, 48)
        assert sample.latents.shape == sample.std.shape == (4, 3, 4, 6)
        # An image's latents are another thing: no other frame is under its norms.
        image = ClipDataset(manifest(folder, entry), Selection([(32, 48)], 1, 8.0), **used)
        assert not image.is_encoded(0) and image.read(0).latents is None


def test_texts_by_field_and_of_a_changed_caption(folder):
    for name in ("caption", "short", ""):
        save_text_embeds(folder / f"t{name}", torch.full((1, 1), len(name)), prompt=name, model="tiny")
    texts = {"": "t", "caption": "tcaption", "short": "tshort"}
    entry = A | {"caption": "caption", "captions": {"short": "short"}, "texts": texts}
    clips = ClipDataset(manifest(folder, entry), SELECTION, captions={"caption": 1, "short": 1})
    assert [float(clips.read(0, caption_choice=c).text) for c in (0.2, 0.7)] == [7, 5] and float(clips.text("")) == 0
    clips = ClipDataset(manifest(folder, entry | {"caption": "changed"}), SELECTION)
    with pytest.raises(InputError, match="another caption"):
        clips.read(0)
    with pytest.raises(RefusedError):
        ClipDataset(manifest(folder, A | {"texts": {"caption": "../../etc/passwd"}}), SELECTION).read(0)


def test_first_frames_with_noise(folder):
    latents_file(folder)
    about = {"model": "tiny", "fps": 8, "num_frames": 1, "height": 32, "width": 48, "source": "a"}
    stack = torch.arange(3.0)[None, :, None, None].expand(4, 3, 4, 6)
    save_latents(folder / "first", stack, std=stack * 0, **about)
    entry = A | {"latents": "a.safetensors", "image_latents": "first"}
    clips = ClipDataset(manifest(folder, entry), SELECTION, first_frame=True)
    samples = [clips.read(0, image_choice=choice) for choice in (0.0, 0.5, 0.999, 1.0)]
    assert [float(sample.image_latents.mean()) for sample in samples] == [0, 1, 2, 2]
    assert samples[0].image_latents.shape == samples[0].image_std.shape == (4, 1, 4, 6) and samples[0].frames is None


def test_a_damaged_latents_file_is_a_bad_entry(folder):
    path = latents_file(folder)
    clips = ClipDataset(manifest(folder, A | {"latents": "a.safetensors"}), SELECTION, max_bad=1)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert clips.read(0) is None and "damaged" in str(clips.bad[0][1])


def test_a_file_shorter_than_its_entry_says(folder, monkeypatch):
    entry = A | {"width": 48, "height": 32, "fps": 16, "duration": 9.0}
    clips = ClipDataset(manifest(folder, entry), Selection([(32, 48)], 49, 8.0))
    assert clips.shape(0) == Shape(49, 32, 48)
    assert clips.read(0).shape == Shape(17, 32, 48)


def test_shapes_need_no_decoding_where_the_entry_knows(folder, monkeypatch):
    monkeypatch.setattr(module, "read_clip", None)
    entry = A | {"width": 48, "height": 32, "fps": 16, "duration": 33 / 16, "video": "not-there.mkv"}
    assert ClipDataset(manifest(folder, entry), SELECTION).shape(0) == Shape(17, 32, 48)


@pytest.mark.parametrize("wrong", [{"sizes": []}, {"sizes": [(0, 8)]}, {"max_frames": 16}, {"fps": 0}])
def test_impossible_selections(folder, wrong):
    with pytest.raises(UsageError):
        ClipDataset(manifest(folder, A), Selection(**{"sizes": [(32, 48)], "max_frames": 17, "fps": 8.0, **wrong}))


def test_samples_of_the_posterior():
    mean, std = torch.full((4, 5, 8, 8), 2.0), torch.full((4, 5, 8, 8), 0.1)
    one = draw(mean, std, torch.Generator().manual_seed(0))
    assert torch.equal(one, draw(mean, std, torch.Generator().manual_seed(0)))
    assert abs(float(one.mean()) - 2) < 0.01 and abs(float(one.std()) - 0.1) < 0.01
    assert torch.equal(draw(mean.bfloat16(), None, torch.Generator()), mean)


def test_unknown_fields_of_entries_stay(folder):
    entry = A | {"mine": {"x": 1}}
    clips = ClipDataset(manifest(folder, entry), SELECTION)
    assert json.loads(json.dumps(clips.entry(0))) == entry
