"""What a rater is asked about a clip or a pair of clips, and which answers there are.

Source: CogVideoX paper (arXiv 2408.06072), appendix "Human Evaluation Details".
"""

from dataclasses import dataclass
from typing import Any

from cogvx.errors import InputError


@dataclass(frozen=True)
class Aspect:
    """One of the four things that a clip is rated by.

    Attributes:
        name: In files.
        title: On the page and in tables.
        meanings: What 0, 0.5 and 1 stand for.
    """

    name: str
    title: str
    meanings: tuple[str, str, str]


ASPECTS = (
    Aspect(
        "sensory_quality",
        "Sensory Quality",
        (
            "Poor: the picture breaks, flickers or changes its subject",
            "Mostly steady: at least four fifths hold together, small faults",
            "Steady and sharp from beginning to end",
        ),
    ),
    Aspect(
        "instruction_following",
        "Instruction Following",
        (
            "Not followed: wrong things, wrong number or wrong features",
            "Followed with minor flaws",
            "Everything asked for is there",
        ),
    ),
    Aspect(
        "physics_simulation",
        "Physics Simulation",
        (
            "Against nature: things melt, jump or pass through each other",
            "Mostly natural, some movement or light is wrong",
            "Moves, falls and shines as in nature",
        ),
    ),
    Aspect(
        "cover_quality",
        "Cover Quality",
        (
            "The single frame is blurred or broken",
            "The single frame is clear, with small faults",
            "The single frame is clear and well composed",
        ),
    ),
)
SCORES = (0.0, 0.5, 1.0)
MAX_TOTAL = 5
CAP = 2  # the highest total of a clip that does not follow its instructions
CAP_ASPECT = "instruction_following"
CHOICES = ("a", "b", "tie")
MAX_REASONS = 2000  # letters


def checked_rating(value: Any) -> dict[str, Any]:
    """Return a rating as it is kept: a score of each aspect, the total, and the reasons for deductions.

    Raises:
        InputError: Something is missing or impossible, or the total breaks the rule: at most 2 where the
            instructions are not followed.
    """
    names = [aspect.name for aspect in ASPECTS]
    scores = value.get("scores") if isinstance(value, dict) else None
    if not isinstance(scores, dict) or set(scores) != set(names):
        raise InputError(f"scores must hold {', '.join(names)}")
    if any(not _is_number(score) or score not in SCORES for score in scores.values()):
        raise InputError("a score is 0, 0.5 or 1")
    total = value.get("total")
    if not _is_number(total) or total not in range(MAX_TOTAL + 1):
        raise InputError(f"the total is a whole number from 0 to {MAX_TOTAL}")
    if scores[CAP_ASPECT] == 0 and total > CAP:
        raise InputError(f"the total is at most {CAP} where the instructions are not followed")
    kept = {"scores": {name: float(scores[name]) for name in names}, "total": int(total)}
    return kept | {"reasons": _reasons(value)}


def checked_choice(value: Any) -> dict[str, Any]:
    """Return a choice between two clips as it is kept: "a", "b" or "tie", and the reasons.

    Raises:
        InputError: It is none of them.
    """
    choice = value.get("choice") if isinstance(value, dict) else None
    if not isinstance(choice, str) or choice not in CHOICES:
        raise InputError(f"the choice is one of {', '.join(CHOICES)}")
    return {"choice": choice, "reasons": _reasons(value)}


def _reasons(value: dict[str, Any]) -> str:
    text = value.get("reasons", "")
    if not isinstance(text, str) or len(text) > MAX_REASONS:
        raise InputError(f"the reasons are a text of at most {MAX_REASONS} letters")
    return text.strip()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
