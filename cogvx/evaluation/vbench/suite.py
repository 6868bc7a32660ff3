"""The prompts of VBench, from a file that users have: VBench_full_info.json.

The file is not part of cogvx. It lies in VBench's repository, and inside its package, from where it is read without
importing anything.
"""

import importlib.util
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cogvx.errors import InputError, MissingError, UsageError
from cogvx.files import clean, safe_join, sha256_file

FULL_INFO = "VBench_full_info.json"
VIDEOS = 5
FLICKER_VIDEOS = 25  # before the static filter, which keeps at most five
DIMENSIONS = (
    "subject_consistency",
    "background_consistency",
    "temporal_flickering",
    "motion_smoothness",
    "dynamic_degree",
    "aesthetic_quality",
    "imaging_quality",
    "object_class",
    "multiple_objects",
    "human_action",
    "color",
    "spatial_relationship",
    "scene",
    "appearance_style",
    "temporal_style",
    "overall_consistency",
)
PAPER = ("human_action", "scene", "dynamic_degree", "multiple_objects", "appearance_style")
_SEEDS_A_PROMPT = 100  # so that the seeds of a prompt stay the same whatever dimensions are chosen
_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class SuitePrompt:
    """One prompt of the suite.

    Attributes:
        text: The prompt, which is also the name of its videos.
        dimensions: What its videos are scored in.
        asked: Dimension → what it asks for, for those that need more than the prompt: the objects, the scene, the
            style.
        place: Its number among the file's different prompts, from 0.
    """

    text: str
    dimensions: tuple[str, ...]
    asked: dict[str, Any]
    place: int


@dataclass(frozen=True)
class Suite:
    """The prompts of a file.

    Attributes:
        prompts: Each text once, in the order of the file.
        sha256: Of the file.
    """

    prompts: tuple[SuitePrompt, ...]
    sha256: str

    def of(self, dimension: str) -> list[SuitePrompt]:
        """Return the prompts of one dimension."""
        return [prompt for prompt in self.prompts if dimension in prompt.dimensions]


def find_full_info(named: Path | str | None = None) -> Path:
    """Return the file of prompts: the one that is named, else that of the installed package `vbench`.

    Raises:
        InputError: The named file is not there.
        MissingError: None is named, and the package is not installed.
    """
    if named is not None:
        if not Path(named).is_file():
            raise InputError(f"{named}: no such file; it is {FULL_INFO} of VBench's repository")
        return Path(named)
    found = importlib.util.find_spec("vbench")
    for folder in (found.submodule_search_locations or []) if found else []:
        if (Path(folder) / FULL_INFO).is_file():
            return Path(folder) / FULL_INFO
    raise MissingError(
        f"the prompts are not here: name {FULL_INFO} of VBench's repository, or install the package vbench"
    )


def read_suite(path: Path | str) -> Suite:
    """Read a file of prompts in VBench's form.

    A prompt that occurs twice (two do) stands once, with the dimensions of both: the same videos serve both.

    Raises:
        InputError: It cannot be read, or is of another form.
        RefusedError: A prompt cannot be the name of a file.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path}: {path.stat().st_size} bytes are no list of prompts")
        rows = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {clean(str(error))[:200]}") from error
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{path}: expected a list of prompts, as in {FULL_INFO}")
    found: dict[str, SuitePrompt] = {}
    for number, row in enumerate(rows):
        prompt = _prompt(row, f"{path}: entry {number}")
        before = found.get(prompt.text)
        if before is None:
            found[prompt.text] = SuitePrompt(prompt.text, prompt.dimensions, prompt.asked, len(found))
        else:
            names = tuple(dict.fromkeys((*before.dimensions, *prompt.dimensions)))
            found[prompt.text] = SuitePrompt(prompt.text, names, before.asked | prompt.asked, before.place)
    return Suite(tuple(found.values()), sha256_file(path))


def check_dimensions(names: Sequence[str] | str) -> tuple[str, ...]:
    """Return the dimensions that are meant: "paper", "all", or names (or a list of them, separated by commas).

    Raises:
        UsageError: One is not known.
    """
    given = names.split(",") if isinstance(names, str) else list(names)
    chosen: dict[str, None] = {}
    for name in (one.strip() for one in given):
        group = {"paper": PAPER, "all": DIMENSIONS}.get(name, (name,))
        if group == (name,) and name not in DIMENSIONS:
            raise UsageError(f"no dimension {clean(name)!r}; there are paper, all, {', '.join(DIMENSIONS)}")
        chosen.update(dict.fromkeys(group))
    return tuple(chosen)


def videos_of(prompt: SuitePrompt, dimensions: Sequence[str], *, videos: int, flicker_videos: int) -> int:
    """Return how many videos of a prompt some dimensions need; 0 if it belongs to none of them."""
    wanted = set(dimensions) & set(prompt.dimensions)
    if "temporal_flickering" in wanted:
        return max(flicker_videos, videos if len(wanted) > 1 else 0)
    return videos if wanted else 0


def video_name(prompt: str, index: int) -> str:
    """Return the official name of a prompt's video."""
    return f"{prompt}-{index}.mp4"


def sample_rows(
    suite: Suite,
    dimensions: Sequence[str],
    *,
    seed: int = 0,
    videos: int = VIDEOS,
    flicker_videos: int = FLICKER_VIDEOS,
) -> Iterator[dict[str, Any]]:
    """Yield the rows that `cogvx sample --prompts` reads: one a video.

    Args:
        suite: The prompts.
        dimensions: Those to make videos for.
        seed: Of the first video. Video i of the file's prompt k has seed + 100 k + i, whatever dimensions are chosen.
        videos: A prompt.
        flicker_videos: A prompt of temporal_flickering; those that move are sorted out afterwards.

    Raises:
        UsageError: A prompt would have more videos than seeds.
    """
    if not 1 <= max(videos, flicker_videos) <= _SEEDS_A_PROMPT or min(videos, flicker_videos) < 1:
        raise UsageError(f"videos a prompt: expected 1 to {_SEEDS_A_PROMPT}, got {videos} and {flicker_videos}")
    for prompt in suite.prompts:
        for index in range(videos_of(prompt, dimensions, videos=videos, flicker_videos=flicker_videos)):
            yield {
                "prompt": prompt.text,
                "seed": seed + _SEEDS_A_PROMPT * prompt.place + index,
                "output": video_name(prompt.text, index),
                "vbench": {
                    "prompt": prompt.text,
                    "index": index,
                    "dimensions": [name for name in prompt.dimensions if name in dimensions],
                },
            }


def _prompt(row: object, place: str) -> SuitePrompt:
    """Return one entry of the file, checked."""
    if not isinstance(row, dict):
        raise InputError(f"{place}: expected an object")
    text, names, info = row.get("prompt_en"), row.get("dimension"), row.get("auxiliary_info", {})
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{place}: no text under 'prompt_en'")
    if "/" in text:
        raise InputError(f"{place}: {clean(text)[:80]!r} cannot name a file")
    safe_join(Path(), video_name(text, 0))
    if not isinstance(names, list) or not names or not set(names) <= set(DIMENSIONS):
        raise InputError(f"{place}: 'dimension' is no list of VBench's dimensions: {clean(str(names))[:120]}")
    if not isinstance(info, dict):
        raise InputError(f"{place}: 'auxiliary_info' is no object")
    asked = {name: _asked(name, info[name], place) for name in names if name in info}
    return SuitePrompt(text, tuple(names), asked, 0)


def _asked(dimension: str, value: Any, place: str) -> Any:
    """Return what a dimension asks for: the value inside the file's boxes in boxes."""
    if dimension == "spatial_relationship":
        while isinstance(value, dict) and list(value) == [dimension]:
            value = value[dimension]
        return value
    while isinstance(value, dict) and len(value) == 1:
        value = next(iter(value.values()))
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{place}: 'auxiliary_info' of {dimension} holds no text")
    return value
