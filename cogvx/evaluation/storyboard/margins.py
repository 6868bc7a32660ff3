"""How clearly a name stands out among others: the soft side of right and wrong."""

from collections.abc import Mapping

Scores = Mapping[str, float]
"""A score for every name that something could have; the more, the likelier."""


def margin(scores: Scores, name: str) -> float:
    """Return how far a name's score is above the best other one, relative to the larger of both: -1 to 1.

    It is above 0 for the name with the best score and no other, near 0 where two names are as likely, and -1 for a
    name without a score. Scores may all be negative (such as distances with their sign turned).
    """
    if name not in scores:
        return -1.0
    own = scores[name]
    other = max((score for one, score in scores.items() if one != name), default=-abs(own))
    scale = max(abs(own), abs(other), 1e-9)
    return min(1.0, max(-1.0, (own - other) / scale))
