"""Which entries of manifests training uses, and at which shapes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cogvx.data.buckets import Media, Shape, fit, legal_frames
from cogvx.data.manifest import Entry
from cogvx.errors import UsageError


@dataclass(frozen=True)
class Selection:
    """Which entries of a manifest are used, and at which shapes.

    Attributes:
        sizes: (height, width) in pixels.
        max_frames: Longest length; 1 takes every clip as an image.
        fps: Frames per second.
        min_frames: Shortest length.
        max_upscale: How many times a clip may be enlarged to cover a size.
        min_scores: Score to the least value; an entry without the score is not used.
        where: Condition that an entry must fulfil (see cogvx.data.select); its quantiles are over all entries of the
            dataset's manifests.
        rejected: Whether entries that were rejected are used too.
    """

    sizes: Sequence[tuple[int, int]]
    max_frames: int
    fps: float
    min_frames: int = 1
    max_upscale: float = 1.0
    min_scores: Mapping[str, float] | None = None
    where: str = ""
    rejected: bool = False

    def check(self) -> None:
        """Raise a UsageError if nothing can be selected so."""
        if not self.sizes or any(height < 1 or width < 1 for height, width in self.sizes):
            raise UsageError(f"sizes must be pairs (height, width) above zero, got {list(self.sizes)}")
        if self.max_frames < 1 or legal_frames(self.max_frames) != self.max_frames:
            raise UsageError(f"max_frames must be 8k + 1, got {self.max_frames}")
        if not 0.01 <= self.fps <= 1000:
            raise UsageError(f"fps must be from 0.01 to 1000, got {self.fps}")

    def refused(self, entry: Entry) -> str | None:
        """Return why an entry is not used, by what stands in it alone (`where` needs all others); None if it is."""
        if entry.get("rejected") and not self.rejected:
            return "rejected"
        for name, least in (self.min_scores or {}).items():
            score = entry.get("scores", {}).get(name)
            if score is None or score < least:
                return f"{name} below {least:g}" if score is not None else f"no score {name}"
        return None

    def fit(self, media: Media) -> Shape | str:
        """Return the shape of a clip, or why it is not used."""
        shape = fit(media, sizes=self.sizes, max_frames=self.max_frames, fps=self.fps, max_upscale=self.max_upscale)
        if shape is None:
            return "smaller than every size"
        return shape if shape.num_frames >= self.min_frames else f"shorter than {self.min_frames} frames"


def pixel_field(entry: Entry) -> str | None:
    """Return the field of an entry that names its pixels."""
    return next((field for field in ("video", "image") if field in entry), None)
