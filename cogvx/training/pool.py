"""A pool of Storyboard clips, rendered once and read many times."""

import json
import multiprocessing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cogvx.data.storyboard import StoryboardOptions, captions, plain_caption, render, rng_of, sample_spec

_PLAIN_SHARE = 0.25  # of the short captions that have the wording people type first


@dataclass(frozen=True)
class Pool:
    """Rendered clips and what they show.

    Attributes:
        clips: (n t h w 3) uint8, mapped from disk.
        texts: One dict for each clip: caption kind to caption.
    """

    clips: np.ndarray
    texts: list[dict[str, str]]


def make_pool(
    folder: Path,
    *,
    count: int,
    seed: int,
    num_frames: int,
    height: int,
    width: int,
    options: StoryboardOptions,
    num_processes: int = 2,
) -> Pool:
    """Return clips 0...count-1 of a seed; what the folder holds already is not rendered again.

    Args:
        folder: Where the pool lies.
        count: How many clips.
        seed: Clip i is a function of (seed, i).
        num_frames: Frames a clip, at 8 a second.
        height: Rows of pixels.
        width: Columns of pixels.
        options: Weights of the world's parts.
        num_processes: How many processes render.
    """
    path, done = folder / "clips.npy", folder / "captions.jsonl"
    shape = (count, num_frames, height, width, 3)
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        clips = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        jobs = ((seed, i, num_frames, height, width, options) for i in range(count))
        with multiprocessing.get_context("spawn").Pool(num_processes) as workers:
            texts = []
            for i, (clip, text) in enumerate(workers.imap(_render, jobs, chunksize=16)):
                clips[i] = clip
                texts.append(text)
        clips.flush()
        done.write_text("".join(json.dumps(text) + "\n" for text in texts))
    texts = [json.loads(line) for line in done.read_text().splitlines()]
    return Pool(np.load(path, mmap_mode="r"), texts)


def _render(job: tuple[int, int, int, int, int, StoryboardOptions]) -> tuple[np.ndarray, dict[str, str]]:
    seed, index, num_frames, height, width, options = job
    rng = rng_of(seed, index)
    spec = sample_spec(rng, options)
    texts = captions(spec, rng)
    if rng.random() < _PLAIN_SHARE:
        texts["short"] = plain_caption(spec)
    return render(spec, num_frames=num_frames, height=height, width=width, fps=8.0), texts
