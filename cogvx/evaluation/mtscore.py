"""How much a clip changes in the way that time-lapse films do, judged by a language model that sees: 1 to 5.

The protocol of ChronoMagic-Bench's GPT4o-MTScore: eight frames, a score of 1 to 5 for the amount of change, the mean of
three answers. The question is worded here, and the number is named after the judge; only gpt-4o-2024-05-13 may give it
the benchmark's name.

Source: Yuan et al.: ChronoMagic-Bench (arXiv 2406.18522).
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cogvx.errors import InputError, MissingError
from cogvx.files import clean
from cogvx.language.ask import Answer, LanguageModel, Message
from cogvx.language.json_answer import read_object

FRAMES = 8
SIDE = 256  # pixels of the shorter side at most
REPEATS = 3
OFFICIAL_JUDGE = "gpt-4o-2024-05-13"
OFFICIAL_NAME = "GPT4o-MTScore"
_MAX_TOKENS = 2048
_SCORES = range(1, 6)
_SCORE = re.compile(r"\"?score\"?\s*[:=]\s*[\{\"]?\s*([1-5])(?![\d.])", re.IGNORECASE)

INSTRUCTIONS = """\
You see eight frames of one video, in the order of time; they are called frame-1.png to frame-8.png. Rate how much the \
scene itself changes over the video, as in a time-lapse film. Only the amount of change counts, not how good the \
pictures are.
1: hardly anything changes; the frames look alike.
2: small changes, of position or light, while everything stays what it is.
3: clear changes of some parts, such as clouds that pass or a shadow that wanders.
4: large changes of most of the scene, such as day turning into night.
5: the scene becomes something else, such as a bud that is a flower in the end, or an empty site that is a house.
Three examples. The same lake with other ripples in every frame: 1. A street whose cars are gone in the later frames, \
under the same light: 2. A seed that has become a plant with leaves in the last frame: 5.
Say in one or two sentences what changes, and then give the score, as a JSON object: \
{"reasoning": "...", "score": 1}"""

SCHEMA = {
    "type": "object",
    "properties": {"reasoning": {"type": "string"}, "score": {"type": "integer", "minimum": 1, "maximum": 5}},
    "required": ["reasoning", "score"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Opinion:
    """One answer of the judge.

    Attributes:
        score: 1 to 5; None if there was no usable answer.
        text: The answer.
        error: Why there is no score.
        model: What the server says has answered.
    """

    score: int | None
    text: str
    error: str | None = None
    model: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it for a result."""
        return {"score": self.score, "text": self.text[:2000]} | ({"error": self.error} if self.error else {})


def frame_indices(length: int) -> list[int]:
    """Return the eight frames that the judge sees: the first, six in equal steps, the last.

    Raises:
        InputError: There are fewer than eight.
    """
    if length < FRAMES:
        raise InputError(f"the judge sees {FRAMES} frames, and the clip has {length}")
    step = (length - 1) // (FRAMES - 1)
    return [*(step * index for index in range(FRAMES - 1)), length - 1]


def shown_frames(frames: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the eight frames as the judge sees them: a shorter side of at most 256 pixels.

    Args:
        frames: uint8 (t h w 3).

    Raises:
        InputError: There are fewer than eight.
    """
    from PIL import Image

    chosen = frames[frame_indices(len(frames))]
    height, width = chosen.shape[1:3]
    if min(height, width) <= SIDE:
        return tuple(chosen)
    scale = SIDE / min(height, width)
    size = (round(width * scale), round(height * scale))
    return tuple(np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX)) for frame in chosen)


def read_score(text: str) -> int:
    """Return the score of an answer: of its JSON object, else of words like `"Score": 4`; of several the last.

    Raises:
        InputError: It has none from 1 to 5.
    """
    try:
        table = {str(key).lower(): value for key, value in read_object(text).items()}
    except InputError:
        table = {}
    if "score" in table:
        score = table["score"]
        if isinstance(score, str) and score.strip().isdigit():
            score = int(score)
        if isinstance(score, bool) or not isinstance(score, int | float) or score not in _SCORES:
            raise InputError(f"the judge's score is not one of 1 to 5: {clean(str(score))[:40]}")
        return int(score)
    found = _SCORE.findall(text)
    if not found:
        raise InputError(f"the judge's answer has no score from 1 to 5: {clean(text)[:120]!r}")
    return int(found[-1])


def judge(
    model: LanguageModel, frames: np.ndarray, *, repeats: int = REPEATS, instructions: str = INSTRUCTIONS
) -> list[Opinion]:
    """Ask a judge about a clip, several times; what cannot be read has no score.

    Args:
        model: The judge; it must see pictures.
        frames: uint8 (t h w 3), at least eight.
        repeats: Times that it is asked, with the seeds 0, 1, ….
        instructions: The question.

    Raises:
        InputError: The clip has fewer than eight frames.
        MissingError: There is no judge, or it cannot see.
    """
    if not model.sees_images:
        raise MissingError(f"{model.name} sees no pictures; take a model that does")
    message = Message("user", instructions, shown_frames(frames))
    return [
        _opinion(model.ask([message], max_tokens=_MAX_TOKENS, temperature=0.0, seed=seed, schema=SCHEMA))
        for seed in range(repeats)
    ]


def mean_score(opinions: Sequence[Opinion]) -> float:
    """Return the mean of the scores that there are.

    Raises:
        InputError: There is none.
    """
    scores = [one.score for one in opinions if one.score is not None]
    if not scores:
        raise InputError(f"the judge gave no score: {opinions[-1].error if opinions else 'it was not asked'}")
    return sum(scores) / len(scores)


def metric_name(judge_model: str, answered_by: Sequence[str | None]) -> str:
    """Return what the number is called: mtscore@JUDGE, or GPT4o-MTScore if that very judge gave every answer.

    Args:
        judge_model: The name that was asked for.
        answered_by: Of each answer, what the server says has answered.
    """
    if judge_model == OFFICIAL_JUDGE and all(name == OFFICIAL_JUDGE for name in answered_by):
        return OFFICIAL_NAME
    return f"mtscore@{judge_model}"


def protocol(*, repeats: int, instructions: str) -> dict[str, Any]:
    """Return the settings that change the number."""
    return {
        "frames": FRAMES,
        "short_side": SIDE,
        "repeats": repeats,
        "temperature": 0.0,
        "scale": "1 to 5",
        "question_sha256": hashlib.sha256(instructions.encode()).hexdigest(),
    }


def _opinion(answer: Answer) -> Opinion:
    if answer.fatal:
        raise MissingError(answer.error or "the judge cannot be asked")
    try:
        if answer.outcome == "error":
            raise InputError(answer.error or "no answer")
        text = answer.checked(allow_truncated=True)
        return Opinion(read_score(text), text, model=answer.model)
    except InputError as error:
        return Opinion(None, answer.text, str(error), answer.model)
