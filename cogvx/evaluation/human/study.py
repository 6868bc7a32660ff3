"""A blind study: which clips are judged, in which pairs and order, and, for nobody but its owner, who made them."""

import hashlib
import itertools
import json
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cogvx.data.encode import Encoding, encode_stream
from cogvx.data.media import Limits, Span
from cogvx.data.video import decoded
from cogvx.errors import CogvxError, InputError, UsageError
from cogvx.evaluation.human.sources import Source, System
from cogvx.files import atomic_path, clean, safe_join, write_text

Mode = Literal["rating", "pairwise"]
STUDY_FILE = "study.json"
FORMAT = "cogvx.study/1"
NUM_PROMPTS = 100
_CLIPS = "clips"
_TIME = 1_700_000_000  # seconds since 1970: when all clips were written, as far as their files say
_LIMITS = Limits(decoded_bytes=1 << 40, cpu_seconds=600, wall_seconds=900.0)
# All clips are encoded alike and without tags, so that nothing about a file tells who made it.
_MP4 = Encoding("libx264", "yuv420p", "mp4", {"crf": "14", "preset": "medium"}, {"movflags": "+faststart"})
_ENCODING = "H.264, CRF 14, size and rate as made"


@dataclass(frozen=True)
class Shown:
    """A clip of the study.

    Attributes:
        system: Who made it.
        clip: Its file, relative to the study's folder.
    """

    system: str
    clip: str


@dataclass(frozen=True)
class Item:
    """What is judged at once.

    Attributes:
        id: In the votes.
        prompt: Index of its prompt.
        shown: One clip to rate, or two to choose from: the left one is "a".
    """

    id: str
    prompt: int
    shown: tuple[Shown, ...]


@dataclass(frozen=True)
class Study:
    """A study.

    Attributes:
        folder: Where it lies.
        mode: What raters do: rate one clip, or choose between two.
        seed: Of the prompts that were drawn, the seats, and the order of each rater.
        systems: Their names.
        prompts: What was asked for.
        items: What is judged, in no order that means something.
        details: How it was made.
    """

    folder: Path
    mode: Mode
    seed: int
    systems: tuple[str, ...]
    prompts: tuple[str, ...]
    items: tuple[Item, ...]
    details: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the study as its file has it."""
        return {
            "format": FORMAT,
            "mode": self.mode,
            "seed": self.seed,
            "systems": list(self.systems),
            "prompts": list(self.prompts),
            "details": self.details,
            "items": [
                {"id": one.id, "prompt": one.prompt, "shown": [[two.system, two.clip] for two in one.shown]}
                for one in self.items
            ],
        }

    @property
    def sha256(self) -> str:
        """What tells the study from others, so that its votes are not taken for those of another."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def order(self, rater: str) -> list[int]:
        """Return the items in the order in which a rater sees them; each rater has their own, always the same."""
        order = list(range(len(self.items)))
        random.Random(f"{self.sha256}:{rater}").shuffle(order)
        return order

    def path(self, shown: Shown) -> Path:
        """Return the file of a clip.

        Raises:
            RefusedError: It leaves the study's folder.
        """
        return safe_join(self.folder, shown.clip)


def make_study(
    systems: Sequence[System],
    target: Path | str,
    *,
    mode: Mode = "rating",
    num_prompts: int = NUM_PROMPTS,
    seed: int = 0,
    both_seats: bool = False,
    overwrite: bool = False,
    report: Callable[[int, int], None] | None = None,
) -> Study:
    """Draw prompts that every system has a clip of, copy the clips without what tells their maker, and mix them.

    Args:
        systems: At least one to rate, two to choose between.
        target: The folder to make.
        mode: Rate each clip, or choose between the clips of each two systems.
        num_prompts: How many prompts are drawn; all if there are fewer.
        seed: Of the prompts, the seats and the order.
        both_seats: Show each pair twice, once with each clip on the left. Else each pair of systems has either of
            them on the left in half of the prompts.
        overwrite: Whether a study that exists is replaced, with the votes in it.
        report: Told how many clips of how many are copied.

    Raises:
        UsageError: There are too few systems, two have one name, or the folder exists and is no study.
        InputError: No prompt has a clip of every system, or a clip cannot be read.
        MissingError: The disk is full.
    """
    target = Path(target)
    names = [system.name for system in systems]
    if len(set(names)) != len(names) or len(names) < (2 if mode == "pairwise" else 1):
        least = "two systems" if mode == "pairwise" else "one system or more"
        raise UsageError(f"a {mode} study needs {least}, each with a name of its own")
    if overwrite and target.exists() and not (target / STUDY_FILE).is_file() and any(target.iterdir()):
        raise UsageError(f"{target} is no study; name another folder")
    common = [prompt for prompt in systems[0].clips if all(prompt in system.clips for system in systems)]
    if not common:
        raise InputError(f"no prompt has a clip of each system: {', '.join(map(clean, names))}")
    generator = random.Random(seed)
    prompts = sorted(generator.sample(sorted(common), min(num_prompts, len(common))), key=common.index)
    count = len(prompts) * len(systems)
    clip_names = [f"{_CLIPS}/{number:05d}.mp4" for number in range(count)]
    generator.shuffle(clip_names)
    shown = [[Shown(name, clip_names.pop()) for name in names] for _ in prompts]
    items = _items(shown, mode, generator, both_seats=both_seats)
    details = {
        "common_prompts": len(common),
        "prompts_by": {system.name: list(system.prompts_by) for system in systems},
        "encoding": _ENCODING,
        "both_seats": both_seats,
    }
    study = Study(target, mode, seed, tuple(names), tuple(prompts), tuple(items), details)
    with atomic_path(target, overwrite=overwrite) as temporary:
        (temporary / _CLIPS).mkdir(parents=True)
        for done, (index, (system, one)) in enumerate(
            (index, pair) for index, row in enumerate(shown) for pair in zip(systems, row, strict=True)
        ):
            if report is not None:
                report(done, count)
            _copy(system.clips[prompts[index]], temporary / one.clip)
        write_text(temporary / STUDY_FILE, json.dumps(study.to_dict(), ensure_ascii=False, indent=1) + "\n")
    return study


def read_study(folder: Path | str) -> Study:
    """Read a study.

    Args:
        folder: Where it lies.

    Raises:
        InputError: It is missing, or no study.
        RefusedError: A clip leaves the folder.
    """
    folder = Path(folder)
    path = folder / STUDY_FILE
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{clean(str(folder))}: no study there: {error.strerror} ({STUDY_FILE})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{clean(str(path))}: no JSON: {clean(str(error))[:200]}") from error
    try:
        study = _parsed(folder, value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{clean(str(path))}: no study of this version ({type(error).__name__}: {error})") from error
    for item in study.items:
        for one in item.shown:
            study.path(one)
    return study


def _parsed(folder: Path, value: Any) -> Study:
    if value["format"] != FORMAT or value["mode"] not in ("rating", "pairwise"):
        raise ValueError(f"format {clean(str(value['format']))[:60]}")
    items = tuple(
        Item(str(one["id"]), int(one["prompt"]), tuple(Shown(str(system), str(clip)) for system, clip in one["shown"]))
        for one in value["items"]
    )
    systems, prompts = tuple(map(str, value["systems"])), tuple(map(str, value["prompts"]))
    wanted = 1 if value["mode"] == "rating" else 2
    for item in items:
        names = {one.system for one in item.shown}
        if not 0 <= item.prompt < len(prompts) or len(item.shown) != wanted or len(names) != wanted:
            raise ValueError(f"item {clean(item.id)[:60]}")
        if not names <= set(systems):
            raise ValueError(f"item {clean(item.id)[:60]}: a system of no name")
    if not items or len({item.id for item in items}) != len(items):
        raise ValueError("no items, or two of one id")
    return Study(folder, value["mode"], int(value["seed"]), systems, prompts, items, dict(value["details"]))


def _items(shown: list[list[Shown]], mode: Mode, generator: random.Random, *, both_seats: bool) -> list[Item]:
    """Return what is judged, mixed; the ids follow the mixed order and so say nothing."""
    parts: list[tuple[int, tuple[Shown, ...]]] = []
    if mode == "rating":
        parts = [(index, (one,)) for index, row in enumerate(shown) for one in row]
    else:
        for first, second in itertools.combinations(range(len(shown[0])), 2):
            seats = [index % 2 == 0 for index in range(len(shown))]
            generator.shuffle(seats)
            for index, (row, straight) in enumerate(zip(shown, seats, strict=True)):
                pair = (row[first], row[second]) if straight else (row[second], row[first])
                parts.append((index, pair))
                if both_seats:
                    parts.append((index, pair[::-1]))
    generator.shuffle(parts)
    return [Item(f"{number:05d}", prompt, pair) for number, (prompt, pair) in enumerate(parts)]


def _copy(source: Source, target: Path) -> None:
    """Encode a clip anew: the pixels, and nothing of what its file said about them."""
    try:
        with decoded(source.path, Span(source.start, source.end), _LIMITS) as (info, frames):
            height, width = info.height - info.height % 2, info.width - info.width % 2
            fps = min(max(float(info.fps), 0.01), 1000.0)
            encode_stream(target, _even(frames, height, width), (height, width), fps, how=_MP4)
        os.utime(target, (_TIME, _TIME))  # the order of writing would tell the systems apart
    except CogvxError as error:
        raise type(error)(f"{clean(str(source.path))}: {error}") from error


def _even(frames: Iterator[np.ndarray], height: int, width: int) -> Iterator[np.ndarray]:
    """Cut an odd last row and column off: H.264 shares colours between two."""
    for frame in frames:
        yield np.ascontiguousarray(frame[:height, :width])
