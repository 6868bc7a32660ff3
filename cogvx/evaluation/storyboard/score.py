"""Right or wrong, attribute by attribute, for one clip."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

from cogvx.evaluation.storyboard.judge import SeenObject, Sight
from cogvx.evaluation.storyboard.margins import margin
from cogvx.evaluation.storyboard.request import AskedObject, Request, action_of

ATTRIBUTES = ("scene", "style", "camera", "count", "object", "colour", "size", "action")
NOTHING = "nothing"  # what was seen in place of an object that was not
_FIELDS = {"object": "kind", "colour": "colour", "size": "size", "action": "action"}
# What tells objects apart best counts most; with at most three objects, a sum says how often each was right.
_WEIGHTS = {"colour": 64, "object": 16, "action": 4, "size": 1}


@dataclass(frozen=True)
class Finding:
    """One thing that a clip was asked for, and what it shows.

    Attributes:
        attribute: One of `ATTRIBUTES`.
        asked: A name of the world; a number for "count".
        seen: The same; "nothing" for an object that was not seen.
        margin: How clearly what was asked for stands out from everything else, -1 to 1; None for "count". Above 0 if
            and only if it was seen, as a rule: what is seen is chosen over all frames, the margin of some attributes
            over a few.
    """

    attribute: str
    asked: str
    seen: str
    margin: float | None = None

    @property
    def right(self) -> bool:
        """Whether what was asked for was seen."""
        return self.asked == self.seen


@dataclass(frozen=True)
class Verdict:
    """How a clip did what it was asked.

    Attributes:
        findings: Everything that was asked for.
        num_objects: How many objects were asked for.
        fit: How well what was seen agrees with the objects asked for, the mean over them, 0 to 1; 0 for an object that
            was not seen.
    """

    findings: tuple[Finding, ...]
    num_objects: int
    fit: float

    @property
    def share(self) -> float:
        """The share of everything asked for that was right, 0 to 1."""
        return sum(one.right for one in self.findings) / len(self.findings)

    @property
    def has_objects(self) -> bool:
        """Whether every object asked for is there, with its kind and colour."""
        return all(one.right for one in self.findings if one.attribute in ("object", "colour"))

    @property
    def exact(self) -> bool:
        """Whether everything asked for was right."""
        return all(one.right for one in self.findings)


def judge_request(sight: Sight, request: Request) -> Verdict:
    """Compare what a clip shows with what it was asked for.

    Objects that were asked for are given to those that were seen so that as much as possible agrees, colours first; one
    that was not seen is wrong in everything. Their number is right if neither one is missing nor one too many. An
    action is right if it is the same motion, even if the object is taken for another kind: a person who walks to the
    left and is seen as a bird that moves to the left has the wrong kind only.
    """
    findings = []
    for name in ("scene", "style", "camera"):
        wanted = getattr(request, name)
        if wanted is not None:
            findings.append(Finding(name, wanted, getattr(sight, name), margin(sight.scores[name], wanted)))
    findings.append(Finding("count", str(len(request.objects)), str(len(sight.objects))))
    pairs = list(zip(request.objects, _given(request.objects, sight.objects), strict=True))
    for wanted, seen in pairs:
        findings += _findings_of(wanted, seen)
    fit = sum(seen.fit if seen else 0.0 for _, seen in pairs) / max(len(pairs), 1)
    return Verdict(tuple(findings), len(request.objects), fit)


def _findings_of(wanted: AskedObject, seen: SeenObject | None) -> list[Finding]:
    """Return the findings on what was said of one object."""
    findings = []
    for attribute, field in _FIELDS.items():
        asked = getattr(wanted, field)
        if asked is None:
            continue
        if seen is None:
            findings.append(Finding(attribute, asked, NOTHING, -1.0))
            continue
        shown = getattr(seen, field)
        here = action_of(seen.kind, asked) if attribute == "action" else asked
        found = asked if here == shown else shown
        findings.append(Finding(attribute, asked, found, margin(seen.scores[field], here)))
    return findings


def _given(wanted: Sequence[AskedObject], seen: Sequence[SeenObject]) -> tuple[SeenObject | None, ...]:
    """Return which seen object each one asked for is given, so that as much as possible agrees."""
    places = [*seen, *[None] * max(0, len(wanted) - len(seen))]
    return max(
        permutations(places, len(wanted)),
        key=lambda given: sum(_agreement(one, other) for one, other in zip(wanted, given, strict=True)),
    )


def _agreement(wanted: AskedObject, seen: SeenObject | None) -> int:
    if seen is None:
        return 0
    return sum(_WEIGHTS[one.attribute] for one in _findings_of(wanted, seen) if one.right)
