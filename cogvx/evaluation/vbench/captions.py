"""What is in a frame, in words: asked of a language model that sees, or read from a file; and objects from a file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cogvx.errors import InputError
from cogvx.files import clean
from cogvx.language.ask import LanguageModel, Message

QUESTION = "Say in one sentence of 10 to 30 words what this picture shows: the place, and what is in it."
_MAX_TOKENS = 80


@dataclass(frozen=True)
class AskedCaptioner:
    """A language model that is asked about each frame.

    Attributes:
        model: It, seeing pictures.
    """

    model: LanguageModel

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    def caption(self, frame: np.ndarray) -> str:
        """Return a sentence about a frame, uint8 (h w 3).

        Raises:
            MissingError: There was no answer.
            InputError: The answer cannot be used.
        """
        answer = self.model.ask([Message("user", QUESTION, (frame,))], max_tokens=_MAX_TOKENS)
        if answer.outcome == "error" and not answer.fatal:
            raise InputError(answer.error or "the language model gave no answer")
        return answer.checked(allow_truncated=True)

    def settings(self) -> dict[str, Any]:
        """Return what decides the sentences."""
        return {"question": QUESTION, "max_tokens": _MAX_TOKENS, **self.model.settings()}


def read_frames_table(path: Path | str, key: Literal["captions", "objects"]) -> dict[str, list[Any]]:
    """Read what was found in the frames of videos by something else: a JSON object a line.

    Args:
        path: Lines like {"video": "NAME.mp4", "captions": ["...", ...]} or, for objects,
            {"video": "NAME.mp4", "objects": [["bird", "cat"], ...]}: one entry a frame that was looked at.
        key: Which of them.

    Raises:
        InputError: It cannot be read, or a line has another form.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    table: dict[str, list[Any]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}:{number}: not JSON") from error
        values = row.get(key) if isinstance(row, dict) else None
        if not isinstance(values, list) or not isinstance(row.get("video"), str):
            raise InputError(f"{path}:{number}: expected an object with 'video' and a list of '{key}'")
        if not all(_is_entry(one, key) for one in values):
            raise InputError(f"{path}:{number}: {clean(str(values))[:80]} does not hold one entry a frame")
        table[Path(row["video"]).name] = values
    return table


def _is_entry(value: Any, key: str) -> bool:
    if key == "captions":
        return isinstance(value, str)
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
