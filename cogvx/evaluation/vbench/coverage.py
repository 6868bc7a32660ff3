"""Which videos of the suite a folder has, and which are missing: a score of half the videos is not the score."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cogvx.errors import InputError
from cogvx.evaluation.vbench.suite import Suite, SuitePrompt, video_name
from cogvx.files import clean

LONG_SECONDS = 5.0  # from there on VBench's authors point to VBench-Long, which cuts clips before it scores them
_SHOWN = 3


@dataclass(frozen=True)
class SuiteVideo:
    """One video of a dimension.

    Attributes:
        path: The file.
        prompt: What it was made from.
        index: Its number among those of the prompt.
    """

    path: Path
    prompt: SuitePrompt
    index: int


@dataclass(frozen=True)
class Coverage:
    """The videos of one dimension.

    Attributes:
        dimension: Its name.
        videos: Those that are there, in the order of the suite.
        missing: Names of those that are not.
    """

    dimension: str
    videos: tuple[SuiteVideo, ...]
    missing: tuple[str, ...]

    @property
    def share(self) -> float:
        """The part that is there, 0 to 1."""
        total = len(self.videos) + len(self.missing)
        return len(self.videos) / total if total else 0.0

    def require(self, *, allow_missing: bool) -> None:
        """Refuse a dimension of which videos are missing.

        Args:
            allow_missing: Whether some may be missing; never all.

        Raises:
            InputError: They are.
        """
        if not self.videos or (self.missing and not allow_missing):
            total = len(self.videos) + len(self.missing)
            names = ", ".join(repr(clean(name)) for name in self.missing[:_SHOWN])
            more = ", ..." if len(self.missing) > _SHOWN else ""
            hint = "" if not self.videos else "; --allow-missing scores the others and reports the coverage"
            raise InputError(
                f"{self.dimension}: {len(self.missing)} of {total} videos are missing ({names}{more}){hint}"
            )


def cover(folder: Path | str, suite: Suite, dimension: str, *, videos: int, flicker_videos: int) -> Coverage:
    """Look for the videos of one dimension in a folder.

    Of temporal_flickering, whatever there is up to flicker_videos a prompt is taken, and what is missing of the first
    `videos` is missing: the static filter decides which of them are scored.

    Raises:
        InputError: The folder is not there, or the suite has no such dimension.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    prompts = suite.of(dimension)
    if not prompts:
        raise InputError(f"{dimension}: the file of prompts has none of this dimension")
    names = {path.name for path in folder.iterdir()}
    found, missing = [], []
    for prompt in prompts:
        most = max(videos, flicker_videos) if dimension == "temporal_flickering" else videos
        for index in range(most):
            name = video_name(prompt.text, index)
            if name in names:
                found.append(SuiteVideo(folder / name, prompt, index))
            elif index < videos:
                missing.append(name)
    return Coverage(dimension, tuple(found), tuple(missing))


def too_long(seconds: Sequence[float]) -> int:
    """Return how many clips are as long as those that VBench-Long is meant for."""
    return sum(one >= LONG_SECONDS for one in seconds)
