"""Encoding ahead of training: what is stored, for whom it is found again, and what is done only once."""

import numpy as np
import pytest
import torch

from cogvx.checkpoints.diffusers import open_model
from cogvx.data.buckets import Shape
from cogvx.data.cache import EncodedCache, content_sha256
from cogvx.data.dataset import ClipDataset
from cogvx.data.latents import load_posterior
from cogvx.data.manifest import read_manifest, write_manifest
from cogvx.data.paths import relative_to
from cogvx.data.selection import Selection
from cogvx.data.text_embeds import load_text_embeds
from cogvx.data.video import read_clip, to_video, write_clip
from cogvx.errors import InputError, MissingError
from cogvx.generate.options import Runtime
from cogvx.presets import EMBEDDED
from cogvx.training.encode import EncodeOptions, ManifestEncoder
from cogvx.training.encoders import ModelEncoders, open_cache

SELECTION = Selection([(32, 48)], 17, 8.0)
OPTIONS = EncodeOptions(SELECTION, "stub")


class Stub:
    """Latents are mean brightness, texts are lengths; counts what it is asked for."""

    def __init__(self):
        self.clips, self.prompts, self.released = 0, [], 0

    def posterior(self, video):
        self.clips += 1
        mean = torch.nn.functional.avg_pool3d(video[None, :, ::4], (1, 8, 8))[0]
        return mean, torch.full_like(mean, 0.25)

    def embed(self, prompt):
        self.prompts.append(prompt)
        return torch.full((3, 2), float(len(prompt)))

    def release_text(self):
        self.released += 1


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name, shape, fps in (("a", (33, 32, 48), 16), ("b", (20, 64, 80), 8), ("small", (9, 16, 16), 8)):
        write_clip(tmp_path / f"{name}.mkv", rng.integers(0, 255, (*shape, 3), dtype=np.uint8), fps)
    return tmp_path


def encoder(folder, *entries, options=OPTIONS, **more):
    write_manifest(folder / "m.jsonl", entries, overwrite=True)
    cache = EncodedCache(folder / "cache", "vae", "text")
    return ManifestEncoder(read_manifest(folder / "m.jsonl"), cache, options, **more)


def options(**changes):
    return EncodeOptions(**{"selection": SELECTION, "model": "stub", **changes})


A = {"video": "a.mkv", "caption": "an a", "captions": {"short": "a", "dense": "aaaa"}, "mine": 1}
B = {"video": "b.mkv", "caption": "an a", "start": 0.5, "end": 1.75}


def test_what_is_stored_and_described(folder):
    stub = Stub()
    result = encoder(folder, A, B, {"video": "small.mkv"} | {"rejected": ["small"]}).run(stub)
    assert (result.written, result.kept, result.bad, dict(result.left_out)) == (4, 0, [], {"rejected": 1})
    assert stub.clips == 2 and sorted(stub.prompts) == ["", "an a"] and stub.released == 1
    first, second = (relative_to(entry, folder) for entry in result.entries)
    assert A.items() <= first.items() and B.items() <= second.items()
    assert (first["width"], first["height"], first["fps"], first["duration"]) == (48, 32, 16, 33 / 16)
    assert first["sha256"] == content_sha256(folder / "a.mkv") and "duration" not in second
    assert first["encoded"] == {"num_frames": 17, "height": 32, "width": 48, "fps": 8.0, "vae": "vae"}
    assert second["encoded"]["num_frames"] == 9 and first["text"] == first["texts"]["caption"] == second["text"]
    mean, std, info = load_posterior(folder / first["latents"])
    pixels = read_clip(folder / "a.mkv").frames[::2]
    assert torch.allclose(mean, torch.nn.functional.avg_pool3d(to_video(pixels)[None, :, ::4], (1, 8, 8))[0])
    assert float(std.mean()) == 0.25 and (info.source, info.model, info.fps, info.num_frames) == (
        "a.mkv",
        "stub",
        8,
        17,
    )
    assert str(folder) not in str((folder / first["latents"]).read_bytes()[:1000])
    text, prompt, model = load_text_embeds(folder / first["text"])
    assert (prompt, model, float(text[0, 0])) == ("an a", "stub", 4)


def test_nothing_is_done_twice(folder):
    before = encoder(folder, A, B).run(Stub()).entries
    stub = Stub()
    result = encoder(folder, A, B).run(stub)
    assert (result.written, result.kept, stub.clips, stub.prompts) == (0, 4, 0, []) and result.entries == before
    (folder / "other").mkdir()
    (folder / "a.mkv").rename(folder / "other" / "renamed.mkv")
    moved = encoder(folder, A | {"video": "other/renamed.mkv"}).run(stub)
    assert stub.clips == 0 and moved.entries[0]["latents"] == before[0]["latents"]
    assert encoder(folder, B, options=options(overwrite=True)).run(stub).written == 3 and stub.clips == 1


def test_training_reads_what_was_encoded(folder):
    stub = Stub()
    entries = encoder(folder, A, B, options=options(first_frames=3, captions=("caption", "dense"))).run(stub).entries
    write_manifest(folder / "encoded.jsonl", [relative_to(entry, folder) for entry in entries])
    clips = ClipDataset(
        folder / "encoded.jsonl", SELECTION, captions={"dense": 1.0, "caption": 0.001}, first_frame=True
    )
    assert [clips.shape(i) for i in range(2)] == [Shape(17, 32, 48), Shape(9, 32, 48)]
    for index, caption in enumerate(("aaaa", "an a")):
        sample = clips.read(index, image_choice=0.5)
        assert sample.frames is None and sample.latents is not None and sample.shape == clips.shape(index)
        assert sample.caption == caption and float(sample.text[0, 0]) == len(caption)
        assert sample.image_latents.shape == (3, 1, 4, 6)
    assert float(clips.text("")[0, 0]) == 0
    raw = ClipDataset(folder / "m.jsonl", SELECTION, cache=EncodedCache(folder / "cache", "vae", "text"))
    assert torch.equal(raw.read(0).latents, clips.read(0).latents) and raw.read(1).text is not None


def test_only_latents_or_only_text(folder):
    stub = Stub()
    entry = encoder(folder, A, options=options(latents=False)).run(stub).entries[0]
    assert stub.clips == 0 and "text" in entry and "latents" not in entry
    stub = Stub()
    entry = encoder(folder, A, options=options(text=False)).run(stub).entries[0]
    assert stub.prompts == [] and "text" not in entry and "latents" in entry


def test_bad_entries_are_listed_and_the_others_done(folder):
    (folder / "bad.mkv").write_bytes(b"no video")
    seen = []
    entries = [{"video": "bad.mkv"}, A, {"video": "small.mkv"}, {"video": "missing.mkv"}, {"caption": "alone"}]
    entries.append(B | {"sha256": "0" * 64})
    result = encoder(folder, *entries, on_bad=lambda name, error: seen.append((name, str(error)))).run(Stub())
    assert [entry["video"].rpartition("/")[2] for entry in result.entries] == ["a.mkv"]
    assert [name for name, _ in seen] == ["bad.mkv", "small.mkv", "missing.mkv", "an entry", "b.mkv#[0.5, 1.75]"]
    for (_, message), words in zip(
        seen,
        ("cannot read", "16x16, 1.12 s: smaller than every size", "no such file", "'video'", "changed"),
        strict=True,
    ):
        assert words in message
    with pytest.raises(InputError, match="2 entries could not be used, more than the 1 allowed"):
        encoder(folder, *entries, options=options(max_bad=1)).run(Stub())


def test_a_full_disk_ends_the_run(folder, monkeypatch):
    from cogvx.training import encode

    def full(path, *rest, **more):
        raise MissingError(f"disk full: cannot write {path}")

    monkeypatch.setattr(encode, "save_latents", full)
    with pytest.raises(MissingError):
        encoder(folder, A, B, options=options(num_workers=2)).run(Stub())
    assert not list((folder / "cache/.locks").iterdir())


def test_a_clip_shorter_than_its_header_is_planned_right_next_time(folder):
    lied = A | {"width": 48, "height": 32, "fps": 16, "duration": 9.0}
    selection = Selection([(32, 48)], 49, 8.0)
    entry = encoder(folder, lied, options=options(selection=selection)).run(Stub()).entries[0]
    assert entry["encoded"]["num_frames"] == 17 and entry["duration"] == 17 / 8
    write_manifest(folder / "encoded.jsonl", [relative_to(entry, folder)])
    clips = ClipDataset(folder / "encoded.jsonl", selection)
    assert clips.shape(0) == Shape(17, 32, 48) and clips.read(0).latents is not None


def test_progress(folder):
    seen = []
    encoder(folder, A, B, options=options(first_frames=1)).run(Stub(), report=lambda *told: seen.append(told))
    assert seen[:2] == [("caption", 1, 2), ("caption", 2, 2)] and seen[-1] == ("clip", 2, 2)


def test_the_models_and_their_names(tmp_path):
    model = open_model(EMBEDDED / "tiny")
    caches = [
        open_cache(tmp_path, model, dtype=torch.float32),
        open_cache(tmp_path, model, dtype=torch.bfloat16),
        open_cache(tmp_path, model, dtype=torch.float32, tiles="on"),
    ]
    assert len({cache.vae for cache in caches}) == 3
    assert caches[0].text_encoder == caches[2].text_encoder != caches[1].text_encoder
    assert caches[0] == open_cache(tmp_path, open_model(EMBEDDED / "tiny"), dtype=torch.float32)
    for dtype in (torch.float32, torch.bfloat16):
        encoders = ModelEncoders(model, Runtime(device=torch.device("cpu"), dtype=dtype))
        mean, std = encoders.posterior(torch.zeros(3, 9, 32, 32))
        text = encoders.embed("a red star")
        assert mean.dtype == std.dtype == text.dtype == dtype and mean.shape == std.shape and float(std.min()) > 0
        assert text.shape[0] == model.max_text_length
        encoders.release_text()
