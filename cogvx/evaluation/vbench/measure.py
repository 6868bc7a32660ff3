"""Scores of clips in the dimensions that are computed here, and their mean over the suite."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from cogvx.errors import InputError, UsageError
from cogvx.evaluation.vbench import rules
from cogvx.evaluation.vbench.coverage import SuiteVideo
from cogvx.evaluation.vbench.networks import ActionNetwork, FlowNetwork, FrameFeatures, ObjectNetwork

FRAMES = 16  # that are looked at for actions, objects and scenes
_MOST_SIDE, _OBJECT_SIDE = 768, 720
_SCENE_SIDE = 384


class Captioner(Protocol):
    """Something that says what is in a picture."""

    @property
    def name(self) -> str:
        """Results bear it: "scene@NAME"."""
        ...

    def caption(self, frame: np.ndarray) -> str:
        """Return a sentence about a frame, uint8 (h w 3)."""
        ...

    def settings(self) -> dict[str, Any]:
        """Return what decides the sentences."""
        ...


@dataclass(frozen=True)
class Shown:
    """A decoded clip of the suite.

    Attributes:
        video: Which one.
        frames: uint8 (t h w 3).
        fps: Their rate.
    """

    video: SuiteVideo
    frames: np.ndarray
    fps: float


@dataclass(frozen=True)
class Judgement:
    """What a dimension says of one clip.

    Attributes:
        value: The score, 0 to 1; None if the clip does not count (it moves, in temporal_flickering).
        weight: How much it counts: frames, where VBench means over frames; else 1.
        more: What else is told.
    """

    value: float | None
    weight: float = 1.0
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Dimension:
    """A dimension that is computed here.

    Attributes:
        name: VBench's name of it.
        metric: The name of the number: VBench's, or with what stands in for its network.
        judge: Takes a clip to its score.
        protocol: Settings that change the number.
        backend: The network.
    """

    name: str
    metric: str
    judge: Callable[[Shown], Judgement]
    protocol: dict[str, Any]
    backend: dict[str, Any]


def temporal_flickering(flow: FlowNetwork | None) -> Dimension:
    """Return the dimension temporal_flickering.

    Args:
        flow: Of the static filter: clips that move do not count. None: all count.
    """

    def judge(shown: Shown) -> Judgement:
        if flow is not None and not rules.is_static(shown.frames, flow.flow):
            return Judgement(None, more={"static": False})
        return Judgement(rules.temporal_flickering(shown.frames))

    name = "temporal_flickering"
    metric = name if flow is None or flow.name == "raft" else f"{name}@{flow.name}"
    protocol = {"static_filter": None if flow is None else flow.name}
    return Dimension(name, metric, judge, protocol, {} if flow is None else flow.backend)


def dynamic_degree(flow: FlowNetwork) -> Dimension:
    """Return the dimension dynamic_degree; with flow of DIS its name says so."""

    def judge(shown: Shown) -> Judgement:
        moves, pairs = rules.dynamic_degree(shown.frames, shown.fps, flow.flow)
        chosen = rules.motion_frames(shown.frames, shown.fps)
        limit, needed = rules.motion_limits(len(chosen), *chosen.shape[1:3])
        found = {"pairs": len(pairs), "over": sum(pair > limit for pair in pairs), "limit": limit, "need": needed}
        return Judgement(float(moves), more=found)

    name = "dynamic_degree"
    protocol = {"flow": flow.name, "rate": rules.MOTION_RATE}
    return Dimension(name, name if flow.name == "raft" else f"{name}@{flow.name}", judge, protocol, flow.backend)


def consistency(name: str, features: FrameFeatures, *, official: bool) -> Dimension:
    """Return subject_consistency (of DINO) or background_consistency (of CLIP).

    Args:
        name: Which.
        features: The network.
        official: Whether it is VBench's network; if not, the metric is named after the network.
    """

    def judge(shown: Shown) -> Judgement:
        found = features.images(shown.frames)
        return Judgement(rules.consistency(found), weight=len(found) - 1)

    return Dimension(name, _named(name, features.backend, official), judge, {"mean": "frames"}, features.backend)


def appearance_style(clip: FrameFeatures, *, official: bool) -> Dimension:
    """Return the dimension appearance_style: the cosine between frames and the name of the style."""

    def judge(shown: Shown) -> Judgement:
        assert clip.texts is not None
        style = clip.texts(_asked(shown, "appearance_style"))
        return Judgement(rules.style_cosine(clip.images(shown.frames), style), weight=len(shown.frames))

    name = "appearance_style"
    return Dimension(name, _named(name, clip.backend, official), judge, {"mean": "frames"}, clip.backend)


def human_action(network: ActionNetwork) -> Dimension:
    """Return the dimension human_action by VBench's rule, with another network than VBench's: human_action@KIND."""

    def judge(shown: Shown) -> Judgement:
        chosen = rules.middle_frames(len(shown.frames), network.num_frames)
        action = rules.action_of(shown.video.prompt.text)
        if action not in {label.lower() for label in network.labels}:
            raise UsageError(f"the classifier has no class {action!r}; it must know those of Kinetics-400")
        seen = rules.action_is_seen(network.logits(shown.frames[chosen]), network.labels, action)
        return Judgement(float(seen), more={"action": action})

    protocol = {"frames": network.num_frames, "top": rules.ACTION_TOP, "least": rules.ACTION_LEAST, "squash": "sigmoid"}
    return Dimension("human_action", f"human_action@{network.name}", judge, protocol, network.backend)


def multiple_objects(network: ObjectNetwork, *, name: str = "multiple_objects") -> Dimension:
    """Return multiple_objects or object_class, with another detector than VBench's: multiple_objects@KIND."""

    def judge(shown: Shown) -> Judgement:
        wanted = rules.objects_of(_asked(shown, name))
        frames = shown.frames[rules.middle_frames(len(shown.frames), FRAMES)]
        detected = [network.detect(_resized(frame, _MOST_SIDE, _OBJECT_SIDE)) for frame in frames]
        return Judgement(rules.share_with_objects(detected, wanted), more={"wanted": wanted})

    return Dimension(name, f"{name}@{network.name}", judge, {"frames": FRAMES}, network.backend)


def scene(captioner: Captioner) -> Dimension:
    """Return the dimension scene, with another captioner than VBench's: scene@NAME."""

    def judge(shown: Shown) -> Judgement:
        frames = shown.frames[rules.middle_frames(len(shown.frames), FRAMES)]
        captions = [captioner.caption(_square(frame, _SCENE_SIDE)) for frame in frames]
        wanted = _asked(shown, "scene")
        return Judgement(rules.share_with_scene(captions, wanted), more={"wanted": wanted, "captions": captions})

    protocol = {"frames": FRAMES, "side": _SCENE_SIDE, **captioner.settings()}
    return Dimension("scene", f"scene@{captioner.name}", judge, protocol, {"name": captioner.name})


def from_captions(captions: Mapping[str, Sequence[str]], name: str) -> Dimension:
    """Return the dimension scene for captions that were made elsewhere: name of the video → one a frame."""

    def judge(shown: Shown) -> Judgement:
        wanted = _asked(shown, "scene")
        return Judgement(rules.share_with_scene(_of(captions, shown), wanted), more={"wanted": wanted})

    return Dimension("scene", f"scene@{name}", judge, {"captions": "given"}, {"name": name})


def from_detections(detections: Mapping[str, Sequence[Sequence[str]]], name: str, *, dimension: str) -> Dimension:
    """Return multiple_objects or object_class for detections that were made elsewhere: video → names of each frame."""

    def judge(shown: Shown) -> Judgement:
        wanted = rules.objects_of(_asked(shown, dimension))
        return Judgement(rules.share_with_objects(_of(detections, shown), wanted), more={"wanted": wanted})

    return Dimension(dimension, f"{dimension}@{name}", judge, {"detections": "given"}, {"name": name})


def mean_of(judgements: Sequence[Judgement]) -> float | None:
    """Return the score of a dimension: the weighted mean over clips that count; None if none does."""
    counted = [(one.value, one.weight) for one in judgements if one.value is not None]
    total = sum(weight for _, weight in counted)
    return sum(value * weight for value, weight in counted) / total if total else None


def _named(name: str, backend: Mapping[str, Any], official: bool) -> str:
    return name if official else f"{name}@{str(backend.get('name', 'own')).rsplit('/', 1)[-1]}"


def _asked(shown: Shown, dimension: str) -> str:
    asked = shown.video.prompt.asked.get(dimension)
    if not isinstance(asked, str):
        raise InputError(f"the file of prompts does not say what {dimension} asks for")
    return asked


def _of(table: Mapping[str, Sequence[Any]], shown: Shown) -> Sequence[Any]:
    name = shown.video.path.name
    if name not in table:
        raise InputError("nothing is given about it")
    return table[name]


def _resized(frame: np.ndarray, most: int, side: int) -> np.ndarray:
    """Return a frame, smaller if its shorter side is longer than `most`."""
    from PIL import Image

    height, width, _ = frame.shape
    if min(height, width) <= most:
        return frame
    scale = side / min(height, width)
    size = (int(width * scale), int(height * scale))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR))


def _square(frame: np.ndarray, side: int) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(frame).resize((side, side), Image.Resampling.BICUBIC))
