"""May a number stand beside the paper's? Only as far as its protocol says so."""

from dataclasses import dataclass
from typing import Literal

from cogvx.evaluation.report.numbers import Number

_SUITE_VIDEOS = 5
_PAPER_CROP, _PAPER_FRAMES = "256x256", 17


@dataclass(frozen=True)
class Verdict:
    """Whether a number is comparable with the paper's of the same name.

    Attributes:
        level: "same": the same protocol. "near": the same measure, in another setting that is named. "other": not
            comparable.
        why: The reason, for people.
    """

    level: Literal["same", "near", "other"]
    why: str


def paper_column(number: Number) -> str:
    """Return the name that the paper's number would have: that of a substitute is its original's."""
    base = number.column.partition("@")[0]
    return "GPT4o-MTScore" if base == "mtscore" else base


def verdict(number: Number) -> Verdict:
    """Compare the settings of a number with what the paper says of its own.

    Args:
        number: One whose paper_column is in the paper's table of its family.
    """
    return _RULES.get(number.family, _unknown)(number)


def _generation(number: Number) -> Verdict:
    base, at, network = number.column.partition("@")
    if base == "dynamics_quality":
        return Verdict("other", "the amount of motion is a stated formula, not DEVIL's own regressors")
    if base == "mtscore":
        return Verdict("other", f"the judge is {network or 'not named'}, not gpt-4o-2024-05-13")
    if base == "GPT4o-MTScore":
        if number.how.protocol.get("repeats") != 3 or number.how.protocol.get("frames") != 8:
            return Verdict("other", "not 8 frames and 3 answers")
        return Verdict("near", "the same judge, frames and repeats; the question is worded otherwise, and the prompts "
                       "have to be ChronoMagic-Bench's")  # fmt: skip
    if at:
        return Verdict("other", f"through {network}, not VBench's own network")
    if number.coverage is None or number.coverage < 1:
        share = "an unknown share" if number.coverage is None else f"{100 * number.coverage:.1f} %"
        return Verdict("other", f"made from {share} of the suite's videos")
    videos = number.how.protocol.get("videos")
    if videos != _SUITE_VIDEOS:
        return Verdict("other", f"{videos} videos a prompt, not {_SUITE_VIDEOS}")
    return Verdict("same", "VBench's rule, network and whole suite; the raw score")


def _reconstruction(number: Number) -> Verdict:
    if number.column != "psnr":
        return Verdict("other", "the paper does not state the unit")
    crop, frames = str(number.how.protocol.get("crop")), number.how.protocol.get("frames")
    if _PAPER_CROP not in crop or frames != _PAPER_FRAMES:
        return Verdict("other", f"not {_PAPER_CROP} and {_PAPER_FRAMES} frames")
    return Verdict("near", f"{_PAPER_CROP}, {_PAPER_FRAMES} frames as in Table 2; other clips than WebVid's")


def _human(number: Number) -> Verdict:
    return Verdict("other", "other prompts and raters")


def _filters(number: Number) -> Verdict:
    return Verdict("other", "other clips and classifiers")


def _held_out(number: Number) -> Verdict:
    return Verdict("other", "another model and other clips")


def _unknown(number: Number) -> Verdict:
    return Verdict("other", "nothing is known about it")


_RULES = {
    "generation": _generation,
    "reconstruction": _reconstruction,
    "human": _human,
    "filters": _filters,
    "held_out": _held_out,
}
