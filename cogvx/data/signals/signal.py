"""What a signal is: a function of a clip's frames, with the parameters and the version that its numbers depend on."""

import dataclasses
import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from cogvx.data.signals.sample import SAMPLING_VERSION, Sample
from cogvx.errors import MissingError

View = Literal["runs", "stills", "file"]


@dataclass(frozen=True)
class Measured:
    """What a signal found in a clip.

    Attributes:
        scores: Column to number. A number that does not exist for the clip is left out.
        fields: What is no number: fields of the manifest's entry.
    """

    scores: dict[str, float]
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Signal:
    """Base of all signals. The fields of a subclass are its parameters; an object of it holds nothing else.

    Attributes:
        name: What --signals calls it.
        columns: What it adds to an entry.
        view: Which part of a sample it looks at: runs of consecutive frames, stills, or the file itself.
        version: Raised when the same parameters would give other numbers.
        fields: What it adds that is no number, by the name of the entry's field.
    """

    name: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]
    view: ClassVar[View]
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[str, ...]] = ()

    def made(self) -> dict[str, Any]:
        """Return what its columns depend on, as it stands under "made" in an entry."""
        sampling = {} if self.view == "file" else {"sampling": SAMPLING_VERSION}
        return {"version": self.version, **sampling, **dataclasses.asdict(self)}

    def open(self) -> None:
        """Load what it needs, once a process.

        Raises:
            MissingError: A package or its weights are not here.
        """

    def __call__(self, frames: np.ndarray, fps: float) -> dict[str, float]:
        """Return the columns of one piece of a clip.

        Args:
            frames: uint8 (t h w 3), RGB.
            fps: Frames per second of these frames.
        """
        raise NotImplementedError

    def measure(self, sample: Sample) -> Measured:
        """Return the columns of a clip: those of its stills, or of all its runs together."""
        if self.view == "stills":
            return Measured(self(sample.stills, sample.still_rate))
        parts = [(len(run) - 1, self(run, sample.fps)) for run in sample.runs if len(run) > 1]
        return Measured(self.combine(parts))

    def combine(self, parts: Sequence[tuple[int, dict[str, float]]]) -> dict[str, float]:
        """Return the columns of several runs as one: their mean, weighted with their pairs of frames.

        Args:
            parts: Pairs of frames in a run, and its columns.
        """
        result = {}
        for column in self.columns:
            found = [(pairs, columns[column]) for pairs, columns in parts if column in columns]
            if found:
                result[column] = sum(pairs * value for pairs, value in found) / sum(pairs for pairs, _ in found)
        return result


def need(module: str, *, extra: str, what: str) -> Any:
    """Import a package that is not always there.

    Args:
        module: Its name, to import.
        extra: The extra of cogvx that holds it.
        what: Who needs it, for the message.

    Raises:
        MissingError: It is not installed, or does not start.
    """
    try:
        return importlib.import_module(module)
    except Exception as error:  # a package built for another version fails in any way while it is imported
        why = "" if isinstance(error, ImportError) else f" ({type(error).__name__}: {error})"
        package = module.split(".")[0]
        raise MissingError(f'{what} needs the package {package}{why}: pip install "cogvx[{extra}]"') from error


def finite(columns: dict[str, float]) -> dict[str, float]:
    """Return columns to six digits, those that are no finite number left out."""
    return {name: float(f"{float(value):.6g}") for name, value in columns.items() if math.isfinite(value)}


def spread(count: int, most: int) -> list[int]:
    """Return at most so many of the numbers 0…count - 1, evenly spread: the middles of equal parts."""
    if count <= most:
        return list(range(count))
    return [int((i + 0.5) * count / most) for i in range(most)]
