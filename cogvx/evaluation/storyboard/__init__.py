"""The Storyboard judge: exact detectors for the synthetic world, so that a clip's obedience is measured.

`look_at(frames, fps)` says what a clip shows, from its pixels alone; `read_prompt` and `Request.from_truth` what it was
asked for; `judge_request` what of that is right; a `Tally` adds it up. The detectors know how the world is drawn: every
scene's colours in every style, every object in every colour, kind and pose, every camera's and action's path. What
explains the pixels best is what is seen. No network and no training is in them.
"""

from cogvx.evaluation.storyboard.grammar import read_prompt
from cogvx.evaluation.storyboard.judge import SeenObject, Sight, look_at
from cogvx.evaluation.storyboard.margins import margin
from cogvx.evaluation.storyboard.request import AskedObject, Request
from cogvx.evaluation.storyboard.score import ATTRIBUTES, Finding, Verdict, judge_request
from cogvx.evaluation.storyboard.tally import Tally

METHOD = "storyboard/1"
"""Name of this way of judging: another one where the same clip may be judged otherwise."""

__all__ = [
    "ATTRIBUTES",
    "METHOD",
    "AskedObject",
    "Finding",
    "Request",
    "SeenObject",
    "Sight",
    "Tally",
    "Verdict",
    "judge_request",
    "look_at",
    "margin",
    "read_prompt",
]
