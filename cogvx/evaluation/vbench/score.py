"""Clips of a suite through all chosen dimensions: each is decoded once, and what is missing or broken is told."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cogvx.data.video import read_clip
from cogvx.errors import CogvxError, InputError, RefusedError
from cogvx.evaluation.vbench.coverage import LONG_SECONDS, Coverage, SuiteVideo, too_long
from cogvx.evaluation.vbench.measure import Dimension, Judgement, Shown, mean_of

_ABOUT_THE_CLIP = (InputError, RefusedError)  # anything else would go wrong with every other clip too


@dataclass
class DimensionScore:
    """What is known of one dimension.

    Attributes:
        dimension: It.
        coverage: Which of its videos are there.
        judged: Video and judgement, in the order of the suite.
        failed: Videos that could not be judged.
        most: Videos a prompt that count; None: all. Further ones of temporal_flickering are not looked at.
    """

    dimension: Dimension
    coverage: Coverage
    judged: list[tuple[SuiteVideo, Judgement]] = field(default_factory=list)
    failed: list[SuiteVideo] = field(default_factory=list)
    most: int | None = None

    @property
    def value(self) -> float | None:
        """The score, 0 to 1."""
        return mean_of([judgement for _, judgement in self.judged])

    @property
    def counted(self) -> int:
        """How many videos the score is made from."""
        return sum(judgement.value is not None for _, judgement in self.judged)

    def wants(self, video: SuiteVideo) -> bool:
        """Tell whether a video can still change the score."""
        if self.most is None:
            return True
        same = (one for one, judgement in self.judged if judgement.value is not None)
        return sum(one.prompt.text == video.prompt.text for one in same) < self.most

    def to_dict(self) -> dict[str, Any]:
        """Return what a result tells of the dimension."""
        return {
            "metric": self.dimension.metric,
            "value": self.value,
            "videos": self.counted,
            "not_counted": len(self.judged) - self.counted,
            "failed": len(self.failed),
            "missing": len(self.coverage.missing),
            "coverage": self.coverage.share,
            "protocol": self.dimension.protocol,
            "backend": self.dimension.backend,
        }


@dataclass(frozen=True)
class Scores:
    """What is known of all chosen dimensions.

    Attributes:
        dimensions: In the order that was chosen.
        per_video: A row a video: its "input", its form, and the score of each of its dimensions.
        failures: "input" and "error".
        long: Clips that are as long as those that VBench-Long is meant for.
    """

    dimensions: list[DimensionScore]
    per_video: list[dict[str, Any]]
    failures: list[dict[str, Any]]
    long: int

    def values(self) -> dict[str, float | None]:
        """Return metric → score."""
        return {one.dimension.metric: one.value for one in self.dimensions}

    def remarks(self) -> Iterator[str]:
        """Yield what a reader of the numbers should know."""
        for one in self.dimensions:
            if one.coverage.missing:
                missing = len(one.coverage.missing)
                yield f"{one.dimension.name}: {missing} videos are missing, {one.coverage.share:.1%} covered"
            if one.most is not None:
                short = sum(1 for count in _a_prompt(one).values() if count < one.most)
                if short:
                    yield f"{one.dimension.name}: {short} prompts have fewer than {one.most} clips that stand still"
        if self.long:
            yield f"{self.long} clips last {LONG_SECONDS:g} s or more; for such clips there is VBench-Long"


def score(
    scores: Sequence[DimensionScore],
    *,
    report: Callable[[int, int], None] | None = None,
    on_failure: Callable[[str, Exception], None] | None = None,
) -> Scores:
    """Judge every video of some dimensions.

    Args:
        scores: The dimensions, nothing judged yet.
        report: Called with videos done and all.
        on_failure: Called with a video's name and what is wrong with it; the others go on.
    """
    jobs: dict[Path, list[tuple[DimensionScore, SuiteVideo]]] = {}
    for one in scores:
        for video in one.coverage.videos:
            jobs.setdefault(video.path, []).append((one, video))
    rows, failures, seconds = [], [], []

    def failed(name: str, error: CogvxError) -> None:
        failures.append({"input": name, "error": str(error)})
        if on_failure is not None:
            on_failure(name, error)

    for done, (path, wanted) in enumerate(jobs.items()):
        if report is not None:
            report(done, len(jobs))
        wanted = [(one, video) for one, video in wanted if one.wants(video)]
        if not wanted:
            continue
        row: dict[str, Any] = {"input": path.name, "value": {}}
        try:
            clip = read_clip(path)
        except _ABOUT_THE_CLIP as error:
            for one, video in wanted:
                one.failed.append(video)
            failed(path.name, error)
            continue
        count, height, width, _ = clip.frames.shape
        row["clip"] = f"{count}x{height}x{width} at {clip.fps:g} fps"
        seconds.append(count / clip.fps)
        for one, video in wanted:
            try:
                judgement = one.dimension.judge(Shown(video, clip.frames, clip.fps))
            except _ABOUT_THE_CLIP as error:
                one.failed.append(video)
                failed(path.name, error)
                continue
            one.judged.append((video, judgement))
            row["value"][one.dimension.metric] = judgement.value
            if judgement.more:
                row.setdefault("details", {})[one.dimension.metric] = judgement.more
        if row["value"]:
            rows.append(row)
    return Scores(list(scores), rows, failures, too_long(seconds))


def _a_prompt(one: DimensionScore) -> dict[str, int]:
    """Return prompt → videos that count."""
    counts = {video.prompt.text: 0 for video in one.coverage.videos}
    for video, judgement in one.judged:
        counts[video.prompt.text] += judgement.value is not None
    return counts
