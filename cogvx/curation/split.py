"""The stage that splits films into their shots: entries for parts of a file, or files of their own."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from cogvx import __version__
from cogvx.data.cut_files import CutForm, cut_path, write_cut
from cogvx.data.manifest import Entry
from cogvx.data.media import Span, VideoInfo
from cogvx.data.resample import TIME_TOLERANCE
from cogvx.data.shots import Shot, ShotDetector, ShotRules, cut_shots, end_of
from cogvx.data.stages import Item
from cogvx.data.video import FILM_LIMITS, decoded
from cogvx.errors import UsageError
from cogvx.files import sha256_file

Detector = Literal["adaptive", "content", "transnet"]
THRESHOLDS: dict[Detector, float] = {"adaptive": 3.0, "content": 27.0, "transnet": 0.4}
MIN_GAP = 15  # frames: the default of PySceneDetect
_VERSION = 1
# What was found in the whole clip does not hold for its parts.
_OF_THE_WHOLE = ("scores", "labels", "latents", "encoded", "image_latents", "num_frames", "duration")


@dataclass(frozen=True, kw_only=True)
class SplitStage:
    """Splits clips into shots; what is no video, and what was rejected, passes through.

    Attributes:
        detector: What finds the boundaries: by a difference to the neighbours that stands out, by the difference alone
            (both PySceneDetect), or TransNet V2.
        threshold: From which a boundary counts (default: that of the detector, see THRESHOLDS).
        min_gap: Least number of frames between two cuts (adaptive, content).
        rules: Which shots are wanted; shorter ones are kept, rejected.
        cut: Folder for files of the parts; None: entries that name the part of the file.
        form: Of these files.
        overwrite: Whether such a file is made anew if it is there.
    """

    name = "split"
    detector: Detector = "adaptive"
    threshold: float | None = None
    min_gap: int = MIN_GAP
    rules: ShotRules = field(default_factory=ShotRules)
    cut: Path | None = None
    form: CutForm = "mkv"
    overwrite: bool = False

    def check(self) -> None:
        """Raise a UsageError if nothing can be split so."""
        self.rules.check()
        most = 1.0 if self.detector == "transnet" else 255.0
        if not 0 < self._threshold() < most:
            raise UsageError(f"the threshold of {self.detector} lies between 0 and {most:g}, got {self._threshold():g}")
        if self.min_gap < 0:
            raise UsageError(f"{self.min_gap} frames between two cuts are impossible")

    def settings(self) -> dict[str, Any]:
        """Return all that changes the results."""
        return self.made() | ({} if self.cut is None else {"folder": str(self.cut.absolute())})

    def made(self) -> dict[str, Any]:
        """Return what stands in an entry's `made.split`."""
        made: dict[str, Any] = {"version": _VERSION, "detector": self.detector, "threshold": self._threshold()}
        if self.detector != "transnet":
            made["min_gap"] = self.min_gap
        made |= asdict(self.rules)
        return made if self.cut is None else made | {"cut": self.form}

    def wanted(self, entry: Entry) -> bool:
        """Whether an entry is a video that was not split so before."""
        made = entry.get("made")
        done = isinstance(made, dict) and made.get(self.name) == self.made()
        return "video" in entry and not done and not entry.get("rejected")

    def open(self) -> None:
        """Load the detector's packages and weights.

        Raises:
            MissingError: They are not installed.
        """
        object.__setattr__(self, "_network", None)
        if self.detector == "transnet":
            import torch

            from cogvx.checkpoints.shot_network import load_shot_network

            torch.set_num_threads(1)
            object.__setattr__(self, "_network", load_shot_network())
        else:
            self.new_detector()
            import cv2

            cv2.setNumThreads(1)

    def process(self, item: Item) -> list[Entry]:
        """Return the entries of the shots of an item.

        Raises:
            InputError: The clip cannot be decoded.
            UsageError: A file cannot be written.
            MissingError: The disk is full.
        """
        assert item.path is not None
        entry, times = item.entry, list[float]()
        detector = self.new_detector()
        span = Span(entry.get("start"), entry.get("end"))
        with decoded(item.path, span, FILM_LIMITS, times=times) as (info, frames):
            for frame in frames:
                detector.feed(frame)
        stop = end_of(times, info.fps)
        stop = stop if span.end is None else min(stop, span.end)
        shots = cut_shots(times, stop, detector.boundaries(), self.rules)
        if not shots:  # all of it was trimmed away
            rejected = [f"{self.name}: nothing is left between the cuts"]
            return [dict(entry) | {"made": self._made_of(entry), "rejected": rejected}]
        return [self._row(item, shot, times, info) for shot in shots]

    def close(self) -> None:
        """Let go of the network."""
        object.__setattr__(self, "_network", None)

    def _threshold(self) -> float:
        return THRESHOLDS[self.detector] if self.threshold is None else self.threshold

    def new_detector(self) -> ShotDetector:
        """Return a detector for one film; open() must have been called."""
        if self.detector == "transnet":
            from cogvx.curation.network_cuts import NetworkCuts

            return NetworkCuts(self._network, threshold=self._threshold())  # type: ignore[attr-defined]
        from cogvx.data.shot_detectors import DifferenceCuts

        return DifferenceCuts(self.detector, threshold=self._threshold(), min_gap=self.min_gap)

    def _row(self, item: Item, shot: Shot, times: list[float], info: VideoInfo) -> Entry:
        """Return the entry of a shot; of a clip that is one shot, all that was known of it stays."""
        entry, is_part = item.entry, "start" in item.entry or "end" in item.entry
        whole = shot.num_frames == len(times)
        row = {name: value for name, value in entry.items() if whole or name not in _OF_THE_WHOLE}
        known: Entry = {"fps": info.fps, "height": info.height, "width": info.width}
        known |= {"num_frames": shot.num_frames, "duration": shot.seconds}
        row |= {name: value for name, value in known.items() if name not in row}
        row["made"] = self._made_of(entry if whole else {})
        if not whole:  # bounds of the entry stay where nothing was cut off
            row["start"] = entry.get("start", shot.start) if shot.first == 0 else shot.start
            row["end"] = entry.get("end", shot.end) if shot.stop == len(times) else shot.end
        if len(times) > 1 and shot.seconds < self.rules.min_seconds - TIME_TOLERANCE:
            row["rejected"] = [f"{self.name}: shorter than {self.rules.min_seconds:g} s"]
        elif self.cut is not None and (is_part or not whole):
            row |= self._cut(item, shot, times[shot.first : shot.stop], info)
            row.pop("start", None)
            row.pop("end", None)
        return row

    def _made_of(self, entry: Entry) -> dict[str, Any]:
        before = entry.get("made")
        return {**(before if isinstance(before, dict) else {}), self.name: self.made()}

    def _cut(self, item: Item, shot: Shot, times: list[float], info: VideoInfo) -> Entry:
        """Write the file of a shot, and return what its entry says of it."""
        assert self.cut is not None and item.path is not None
        entry = item.entry
        target = cut_path(self.cut, entry["video"], shot, self.form, content=entry.get("sha256", ""))
        if self.overwrite or not target.exists():
            comment: Entry = {"format": "cogvx.cut/1", "version": __version__, "source": item.path.name}
            comment |= {"start": shot.start, "end": shot.end}
            comment |= {"source_sha256": entry["sha256"]} if "sha256" in entry else {}
            text = json.dumps(comment, ensure_ascii=False)
            write_cut(item.path, target, shot, times, fps=info.fps, form=self.form, comment=text)
        return {
            "video": str(target.absolute()),
            "source": entry.get("source", entry["video"]),
            "source_start": shot.start,
            "source_end": shot.end,
            "num_frames": shot.num_frames,
            "duration": shot.seconds,
            "sha256": sha256_file(target),
        }
