"""The rules by which VBench makes scores of what networks see; arithmetic only.

Source: Vchitect/VBench 0.1.5.
"""

import re
from collections.abc import Callable, Collection, Sequence

import numpy as np

from cogvx.errors import InputError

ACTION_LEAST = 0.85
ACTION_TOP = 5
MOTION_RATE = 8  # frames a second that dynamic_degree looks at
_MOTION_PIXELS, _STATIC_PIXELS = 6.0, 3.0  # of a picture whose shorter side is 256
_MOTION_SHARE, _STATIC_SHARE = 4 / 16, 2 / 16
_MOTION_TOP, _STATIC_TOP = 0.05, 0.02

FlowOf = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Takes two frames, uint8 (h w 3), to the flow between them, (h w 2) in pixels."""


def middle_frames(length: int, count: int) -> list[int]:
    """Return the frames that stand for a clip: middles of equal parts, the last one repeated if they are too few."""
    if length < 1:
        raise InputError("a clip without frames")
    parts = min(count, length)
    edges = np.linspace(0, length, parts + 1).astype(int)
    chosen = [(int(low) + int(high) - 1) // 2 for low, high in zip(edges[:-1], edges[1:], strict=True)]
    return chosen + [chosen[-1]] * (count - parts)


def temporal_flickering(frames: np.ndarray) -> float:
    """Return 1 for frames that are all the same, 0 for black and white in turn: 1 - mean |change| / 255.

    Independent uniform noise has 0.665, real clips 0.936 to 0.992.

    Args:
        frames: uint8 (t h w 3), all of them at full size.

    Raises:
        InputError: There are no two frames.
    """
    if len(frames) < 2:
        raise InputError("temporal_flickering needs two frames")
    changes = [
        float(np.abs(after.astype(np.float32) - before.astype(np.float32)).mean(dtype=np.float64))
        for before, after in zip(frames[:-1], frames[1:], strict=True)
    ]
    return (255 - float(np.mean(changes))) / 255


def motion_limits(num_frames: int, height: int, width: int) -> tuple[float, int]:
    """Return what counts as motion: the least pixels of a pair, and how many pairs need it.

    Args:
        num_frames: Frames that are looked at.
        height: Pixels.
        width: Pixels.
    """
    return _MOTION_PIXELS * min(height, width) / 256, round(_MOTION_SHARE * num_frames)


def static_limits(num_frames: int, height: int, width: int) -> tuple[float, int]:
    """Return what the static filter allows: the most pixels of a pair, and how many pairs may have more."""
    return _STATIC_PIXELS * min(height, width) / 256, round(_STATIC_SHARE * num_frames)


def motion_frames(frames: np.ndarray, fps: float) -> np.ndarray:
    """Return the frames that dynamic_degree looks at: about eight a second."""
    return frames[:: max(1, round(fps / MOTION_RATE))]


def top_motion(flow: np.ndarray, share: float) -> float:
    """Return the mean length of the longest part of a flow (h w 2), in pixels."""
    lengths = np.linalg.norm(flow.astype(np.float64), axis=2).ravel()
    count = max(1, int(lengths.size * share))
    return float(np.partition(lengths, -count)[-count:].mean())


def is_dynamic(pairs: Sequence[float], limit: float, need: int) -> bool:
    """Tell whether enough pairs of frames move more than the limit."""
    return bool(pairs) and sum(pair > limit for pair in pairs) >= need


def dynamic_degree(frames: np.ndarray, fps: float, flow: FlowOf) -> tuple[bool, list[float]]:
    """Tell whether a clip is dynamic, and how far each pair moves, in pixels.

    Args:
        frames: uint8 (t h w 3), all of them at full size.
        fps: Their rate.
        flow: Finds motion. VBench's is RAFT (raft-things, 20 rounds).

    Raises:
        InputError: Fewer than two frames are looked at.
    """
    chosen = motion_frames(frames, fps)
    if len(chosen) < 2:
        raise InputError(f"dynamic_degree needs two frames, of {len(frames)} at {fps:g} fps it looks at {len(chosen)}")
    pairs = [
        top_motion(flow(before, after), _MOTION_TOP) for before, after in zip(chosen[:-1], chosen[1:], strict=True)
    ]
    limit, need = motion_limits(len(chosen), *chosen.shape[1:3])
    return is_dynamic(pairs, limit, need), pairs


def static_verdict(pairs: Sequence[float], ends: Sequence[float], limit: float, need: int) -> bool:
    """Tell whether a clip stands still.

    Args:
        pairs: How far adjacent frames move, in pixels.
        ends: How far the first and the last frame are from each other, in either direction.
        limit: See static_limits.
        need: See static_limits.
    """
    if sum(pair > limit for pair in pairs) > need:
        return False
    return all(end <= limit * need * 2 for end in ends)


def is_static(frames: np.ndarray, flow: FlowOf) -> bool:
    """Tell whether a clip passes the static filter, which chooses the clips of temporal_flickering.

    Args:
        frames: uint8 (t h w 3), all of them at full size.
        flow: Finds motion; VBench's is RAFT.

    Raises:
        InputError: There are no two frames.
    """
    if len(frames) < 2:
        raise InputError("the static filter needs two frames")
    pairs = [
        top_motion(flow(before, after), _STATIC_TOP) for before, after in zip(frames[:-1], frames[1:], strict=True)
    ]
    ends = [
        top_motion(flow(first, last), _STATIC_TOP) for first, last in ((frames[0], frames[-1]), (frames[-1], frames[0]))
    ]
    return static_verdict(pairs, ends, *static_limits(len(frames), *frames.shape[1:3]))


def action_of(prompt: str) -> str:
    """Return the action that a prompt of human_action names ("a person is riding a bike" → "riding a bike")."""
    return re.split("[-_]", prompt.lower())[0].split("person is ")[-1].strip()


def action_is_seen(logits: np.ndarray, labels: Sequence[str], action: str) -> bool:
    """Tell whether a classifier sees an action: among the five likeliest, and its sigmoid at least 0.85.

    Args:
        logits: One number a class, before any squashing.
        labels: Names of the classes.
        action: The name that is looked for; case does not matter.

    Raises:
        InputError: Logits and labels do not fit.
    """
    if logits.shape != (len(labels),):
        raise InputError(f"{len(labels)} labels for logits of shape {logits.shape}")
    squashed = 1 / (1 + np.exp(-logits.astype(np.float64)))
    best = np.argsort(-logits, kind="stable")[:ACTION_TOP]
    return any(squashed[one] >= ACTION_LEAST and labels[one].lower() == action.lower() for one in best)


def consistency(features: np.ndarray) -> float:
    """Return how alike the frames of a clip are, 0 to 1: to the frame before and to the first one, in the mean.

    Args:
        features: (t d), one row a frame, t at least 2; of any length, but not 0.

    Raises:
        InputError: There are no two frames, or a row is 0.
    """
    rows = features.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if len(rows) < 2 or not (lengths > 0).all():
        raise InputError(f"consistency needs two frames with features, got shape {features.shape}")
    rows = rows / lengths
    before = np.maximum(0, (rows[:-1] * rows[1:]).sum(axis=1))
    first = np.maximum(0, rows[1:] @ rows[0])
    return float(((before + first) / 2).mean())


def style_cosine(frames: np.ndarray, style: np.ndarray) -> float:
    """Return the mean cosine between features of frames (t d) and of the style's name (d,)."""
    rows = frames.astype(np.float64) / np.linalg.norm(frames.astype(np.float64), axis=1, keepdims=True)
    text = style.astype(np.float64) / np.linalg.norm(style.astype(np.float64))
    return float((rows @ text).mean())


def share_with_objects(detected: Sequence[Collection[str]], wanted: Sequence[str]) -> float:
    """Return the share of frames in which all wanted classes are detected.

    Raises:
        InputError: There are no frames.
    """
    if not detected:
        raise InputError("no frames were looked at")
    return sum(set(wanted) <= set(names) for names in detected) / len(detected)


def objects_of(asked: str) -> list[str]:
    """Return the classes that multiple_objects asks for ("bird and cat" → bird, cat)."""
    return [name.strip() for name in asked.split(" and ")]


def share_with_scene(captions: Sequence[str], scene: str) -> float:
    """Return the share of captions that contain every word of a scene's name, as a part of any word.

    Raises:
        InputError: There are no captions.
    """
    if not captions:
        raise InputError("no frames were captioned")
    words = scene.lower().split()
    return sum(all(word in caption.lower() for word in words) for caption in captions) / len(captions)
