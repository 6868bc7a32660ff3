"""Captions by one model that sees the clip: as a video, or as frames of it."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cogvx.captioning.answers import Answers
from cogvx.captioning.asking import Asker, model_settings
from cogvx.captioning.captioned import Captioned
from cogvx.captioning.moments import SIDE, ClipFile, Moment, read_spread, times_in_words
from cogvx.captioning.questions import Questions
from cogvx.errors import UsageError
from cogvx.language.ask import LanguageSpec, Video, open_language_model, settle

VERSION = 1  # raised when the same settings would give other captions


@dataclass(frozen=True)
class VideoSpec:
    """How the end-to-end captioner works; can be sent to another process.

    Attributes:
        model: The model that sees the clip.
        questions: What is asked.
        num_frames: Frames of a clip that are shown, evenly spread.
        send: As pictures with their times in words, or as a video.
        cache: Folder of the answers; None: they are forgotten.
    """

    model: LanguageSpec
    questions: Questions = field(repr=False)
    num_frames: int = 16
    send: Literal["frames", "video"] = "frames"
    cache: Path | None = None

    def settled(self) -> "VideoSpec":
        """Return it with a definite name of the model; errors are those of settle."""
        return replace(self, model=settle(self.model))

    def settings(self) -> dict[str, Any]:
        """Return all that decides the captions."""
        return {
            "captioner": "video",
            "version": VERSION,
            "model": model_settings(self.model),
            "prompts": self.questions.digest("video"),
            "num_frames": self.num_frames,
            "send": self.send,
            "side": SIDE,
        }

    def open(self) -> "VideoCaptioner":
        """Load the model, or get ready to ask it.

        Raises:
            UsageError: It sees nothing.
            MissingError: The model, a package or the endpoint is not there.
        """
        model = open_language_model(self.model)
        if not model.sees_images:
            raise UsageError(f"{model.name} sees no clips; name a model that does with --lm-model")
        return VideoCaptioner(self, Asker(model, Answers(self.cache)))


class VideoCaptioner:
    """Captions clips end to end (see ClipCaptioner).

    Args:
        spec: How.
        asker: The model.
    """

    def __init__(self, spec: VideoSpec, asker: Asker) -> None:
        self._spec, self._asker = spec, asker

    def caption(self, clip: ClipFile) -> Captioned:
        """Return the caption of a clip, also under "video"."""
        moments = read_spread(clip, self._spec.num_frames)
        as_video = self._spec.send == "video" and len(moments) > 1
        said = self._asker.ask(
            "video",
            self._spec.questions.video,
            clip=clip.key(),
            seen=moments,
            video=_video(moments) if as_video else None,
            times="" if as_video else _times(moments),
        )
        return Captioned(said.text, {"video": said.text}, "truncated" if said.cut_off else "success")

    def close(self) -> None:
        """Close the answers."""
        self._asker.answers.close()


def _times(moments: list[Moment]) -> str:
    if len(moments) == 1:
        return ""
    return f"The {len(moments)} pictures are frames of one clip, at {times_in_words(moments)} seconds. "


def _video(moments: list[Moment]) -> Video:
    fps = (len(moments) - 1) / (moments[-1].seconds - moments[0].seconds)
    return Video(np.stack([moment.frame for moment in moments]), min(max(fps, 0.01), 1000.0))
