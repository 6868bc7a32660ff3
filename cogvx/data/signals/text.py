"""Text in the picture: how much area it covers, and whether it stays where it is while the clip goes on."""

import functools
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from cogvx.data.signals.sample import Sample
from cogvx.data.signals.signal import Measured, Signal, View, need, spread
from cogvx.errors import MissingError
from cogvx.files import clean

_MOST_TEXTS, _MOST_LETTERS = 50, 200  # of what is kept of the readings of a clip
_SURE = 0.9  # what a single letter must be read with: textures look like one
_CORNER = (0.2, 0.5)  # height and width of a corner, as shares of the picture's


@dataclass(frozen=True, eq=False)
class Line:
    """A line of text in one picture.

    Attributes:
        polygon: (n 2) corners, x and y in pixels.
        text: What it says.
    """

    polygon: np.ndarray
    text: str

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        return (*self.polygon.min(axis=0).tolist(), *self.polygon.max(axis=0).tolist())


@dataclass
class Track:
    """Lines in several pictures that are one: at the same place all the time.

    Attributes:
        lines: By the number of the picture.
    """

    lines: dict[int, Line] = field(default_factory=dict)


@dataclass(frozen=True)
class Text(Signal):
    """Text that RapidOCR finds and can read in some stills.

    A line counts if it is read with a certainty of at least min_score (0.9 for a single letter).
    `text_area` is the share of the picture that lines cover, the mean over the stills. A track is a line that is found
    in one still after another, one still may be missing between, at the same place (boxes with an intersection over
    union of at least 0.9); it is stable if it is found in at least half of the stills, and two: text that was laid
    over the clip, or a sign before a camera that stands still. `text_tracks` is the number of stable tracks,
    `text_corner` the share of stills that have a line of a stable track wholly in a corner (a fifth of the height, half
    of the width). Of a single still there are no tracks. The entry gets what was read under "ocr".

    Attributes:
        stills: At most so many, evenly spread.
        min_score: Least certainty of the reading.
    """

    name: ClassVar[str] = "text"
    columns: ClassVar[tuple[str, ...]] = ("text_area", "text_tracks", "text_corner")
    view: ClassVar[View] = "stills"
    fields: ClassVar[tuple[str, ...]] = ("ocr",)

    stills: int = 5
    min_score: float = 0.5

    def open(self) -> None:
        """Load the networks (see Signal.open)."""
        _engine()

    def __call__(self, frames: np.ndarray, fps: float) -> dict[str, float]:
        """Return the columns of stills, uint8 (t h w 3)."""
        return self.columns_of(self.read(frames), frames.shape[1], frames.shape[2])

    def measure(self, sample: Sample) -> Measured:
        """Return the columns of a clip, and what was read."""
        pages = self.pages(sample)
        texts = list(dict.fromkeys(line.text for page in pages for line in page))[:_MOST_TEXTS]
        return Measured(self.columns_of(pages, *sample.stills.shape[1:3]), {"ocr": texts})

    def pages(self, sample: Sample) -> list[list[Line]]:
        """Return the lines of each still of a sample that is read; they are read once."""
        key = repr(self)
        if key not in sample.shared:
            sample.shared[key] = self.read(sample.stills)
        return sample.shared[key]

    def read(self, frames: np.ndarray) -> list[list[Line]]:
        """Read some of these stills, uint8 (t h w 3), and return the lines of each."""
        return [self._lines(frame) for frame in frames[spread(len(frames), self.stills)]]

    def columns_of(self, pages: list[list[Line]], height: int, width: int) -> dict[str, float]:
        """Return the columns of pictures of a size with these lines in them."""
        area = float(np.mean([_covered([line.polygon for line in page], height, width) for page in pages]))
        tracks = stable_tracks(pages)
        cornered = {
            number for track in tracks for number, line in track.lines.items() if in_corner(line.box, height, width)
        }
        return {"text_area": area, "text_tracks": len(tracks), "text_corner": len(cornered) / len(pages)}

    def _lines(self, frame: np.ndarray) -> list[Line]:
        if min(frame.shape[:2]) < 8:  # no letter fits, and the detector refuses
            return []
        found = _engine()(np.ascontiguousarray(frame[..., ::-1]))  # it takes BGR, as OpenCV has it
        if found.boxes is None or not found.txts:
            return []
        lines = []
        for polygon, text, score in zip(found.boxes, found.txts, found.scores, strict=True):
            text = " ".join(clean(str(text)).split())[:_MOST_LETTERS]
            letters = len(re.findall(r"\w", text))
            if letters and score >= (self.min_score if letters > 1 else max(self.min_score, _SURE)):
                lines.append(Line(np.asarray(polygon, dtype=np.float64).reshape(-1, 2), text))
        return lines


def stable_tracks(pages: list[list[Line]], *, overlap: float = 0.9) -> list[Track]:
    """Link the lines of pictures that follow each other, and return the tracks that last.

    Args:
        pages: The lines of each picture.
        overlap: Intersection over union of the boxes of a line in one picture and the next.
    """
    tracks: list[Track] = []
    for number, page in enumerate(pages):
        taken: set[int] = set()
        for line in page:
            best, most = None, overlap
            for index, track in enumerate(tracks):
                last = max(track.lines)
                shared = intersection_over_union(track.lines[last].box, line.box)
                if index not in taken and last < number <= last + 2 and shared >= most:
                    best, most = index, shared
            if best is None:
                tracks.append(Track())
                best = len(tracks) - 1
            taken.add(best)
            tracks[best].lines[number] = line
    least = max(2, -(-len(pages) // 2))
    return [track for track in tracks if len(track.lines) >= least]


def in_corner(box: tuple[float, float, float, float], height: int, width: int) -> bool:
    """Whether a box (left, top, right, bottom) lies wholly in a corner of a picture."""
    left, top, right, bottom = box
    tall, wide = _CORNER[0] * height, _CORNER[1] * width
    return (bottom <= tall or top >= height - tall) and (right <= wide or left >= width - wide)


def intersection_over_union(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> float:
    """Return how much of two boxes (left, top, right, bottom) is common, 0…1."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    tall = min(one[3], other[3]) - max(one[1], other[1])
    if wide <= 0 or tall <= 0:
        return 0.0
    areas = sum((right - left) * (bottom - top) for left, top, right, bottom in (one, other))
    return wide * tall / (areas - wide * tall)


def _covered(polygons: list[np.ndarray], height: int, width: int) -> float:
    """Return the share of a picture that polygons cover together."""
    from PIL import Image, ImageDraw

    mask = Image.new("1", (width, height))
    for polygon in polygons:
        ImageDraw.Draw(mask).polygon([tuple(point) for point in polygon.tolist()], fill=1)
    return float(np.asarray(mask).mean())


@functools.cache
def _engine() -> Any:
    """Load RapidOCR's networks, which lie in its package: detection and reading, on one thread."""
    rapidocr = need("rapidocr", extra="ocr", what="the signal text")
    need("onnxruntime", extra="ocr", what="the signal text")
    options = {
        "Global.log_level": "error",
        "Global.use_cls": False,  # upside-down text is rare, and found all the same
        "Det.limit_side_len": 480,  # enlarge smaller pictures to that; its own 736 takes more than twice the time
        "Det.limit_type": "min",
        "EngineConfig.onnxruntime.intra_op_num_threads": 1,
        "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    }
    try:
        return rapidocr.RapidOCR(params=options)
    except Exception as error:  # it has no kind of its own for a file that is missing or damaged
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise MissingError(f"the signal text: the networks of rapidocr cannot be loaded: {clean(reason)}") from error
