"""What training will see of a manifest, as pictures: sizes, crops, rates, captions; or what it will not see."""

import io
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from cogvx.data.buckets import Media, Shape, fit
from cogvx.data.clips import media_of, read_clip
from cogvx.data.contact_sheet import PackPlan, Tile, evenly
from cogvx.data.manifest import Entry, Manifest, entry_id, iter_manifest
from cogvx.data.packing import fill, pack
from cogvx.data.select import refusals
from cogvx.data.selection import Selection, pixel_field
from cogvx.errors import CogvxError, InputError, RefusedError
from cogvx.files import clean

OnBad = Callable[[str, CogvxError], None]
Keep = Callable[[Entry], bool]


@dataclass(frozen=True, kw_only=True)
class PreviewOptions:
    """What is shown.

    Attributes:
        selection: Which entries, at which sizes, lengths and rate.
        frames_shown: Frames of each clip, evenly spread, the first and the last among them.
        count: Clips at most, evenly spread over the manifests; None: all.
        rejected: Show the entries that are not used, with the reasons, in place of those that are.
        captions: Field ("caption", or a name in "captions") -> share; of those that a clip has, the greatest is shown.
        keep: Says which entries there are at all (default: all).
    """

    selection: Selection
    frames_shown: int = 5
    count: int | None = None
    rejected: bool = False
    captions: Mapping[str, float] = field(default_factory=lambda: {"caption": 1.0})
    keep: Keep = lambda entry: True


class Preview:
    """Entries of manifests, looked at as training would.

    Attributes:
        left_out: Why entries that were chosen are not shown -> how many.
    """

    def __init__(
        self,
        sources: Sequence[str],
        options: PreviewOptions,
        *,
        root: str | None,
        on_bad: OnBad = lambda name, error: None,
    ) -> None:
        """Take manifests; "-" is standard input.

        Args:
            sources: Manifests.
            options: What is shown.
            root: What their paths must stay inside (default: each one's folder).
            on_bad: Told each line and entry that cannot be used.
        """
        self._options, self._on_bad = options, on_bad
        self._root = root
        self._sources: list[tuple[str, str | bytes]] = [
            (name, sys.stdin.buffer.read() if name == "-" else name) for name in sources
        ]
        self._unfulfilled: list[str | None] | None = None
        self.left_out: Counter[str] = Counter()

    def tiles(self) -> Iterator[Tile]:
        """Yield the chosen clips, read one by one.

        Raises:
            InputError: A manifest cannot be read.
        """
        total = sum(1 for _ in self._chosen(told=True))
        wanted = total if self._options.count is None else self._options.count
        places = set(evenly(total, wanted))
        for number, (manifest, entry, reasons) in enumerate(self._chosen(told=False)):
            if number not in places:
                continue
            try:
                tile = self._tile(manifest, entry, reasons)
            except (InputError, RefusedError) as error:
                self._on_bad(_name(entry), error)
                continue
            if isinstance(tile, Tile):
                yield tile
            else:
                self.left_out[tile] += 1

    def lengths(self, tokens: Callable[[Shape], int]) -> tuple[list[Shape], list[int]]:
        """Return the shape of every entry that is used, and its tokens; nothing is decoded.

        Args:
            tokens: Of a clip of a shape, those of its text included.
        """
        shapes = []
        for manifest, entry, why in self._entries(told=False):
            if why is not None or self._options.selection.refused(entry) is not None:
                continue
            try:
                shape = self._options.selection.fit(media_of(entry, _path(manifest, entry)))
            except (InputError, RefusedError) as error:
                self._on_bad(_name(entry), error)
                continue
            if isinstance(shape, Shape):
                shapes.append(shape)
        return shapes, [tokens(shape) for shape in shapes]

    def _entries(self, *, told: bool) -> Iterator[tuple[Manifest, Entry, str | None]]:
        """Yield every entry, and what it does not fulfil of the selection's condition.

        Bad lines are told of only when told is true, as manifests are read more than once.
        """
        if self._options.selection.where and self._unfulfilled is None:
            every = [entry for _, entry in self._all(told=False)]  # quantiles need all of them
            self._unfulfilled = refusals(
                self._options.selection.where, every, rejected=self._options.selection.rejected
            )
        for number, (manifest, entry) in enumerate(self._all(told=told)):
            if self._options.keep(entry):
                yield manifest, entry, self._unfulfilled[number] if self._unfulfilled else None

    def _all(self, *, told: bool) -> Iterator[tuple[Manifest, Entry]]:
        def bad_line(error: CogvxError) -> None:
            if told:
                self._on_bad(clean(name), error)

        for name, content in self._sources:
            folder = Path() if isinstance(content, bytes) else Path(name).parent
            manifest = Manifest([], folder, Path(self._root) if self._root is not None else folder)
            source: str | IO[bytes] = io.BytesIO(content) if isinstance(content, bytes) else content
            for _, entry in iter_manifest(source, on_error=bad_line):
                yield manifest, entry

    def _chosen(self, *, told: bool) -> Iterator[tuple[Manifest, Entry, tuple[str, ...]]]:
        """Yield the entries that are to be shown, as far as they themselves tell, and why they are not used."""
        for manifest, entry, unfulfilled in self._entries(told=told):
            reasons = self._reasons(entry, unfulfilled)
            if bool(reasons) == self._options.rejected:
                yield manifest, entry, reasons

    def _reasons(self, entry: Entry, unfulfilled: str | None) -> tuple[str, ...]:
        """Return why an entry is not used, by what stands in it."""
        selection = self._options.selection
        refused = selection.refused(entry)
        stated = [] if selection.rejected else [str(reason) for reason in entry.get("rejected", ())]
        stated += [refused] if refused is not None and not stated else []
        stated += [unfulfilled] if unfulfilled is not None else []
        if _is_known(entry):
            shape = selection.fit(media_of(entry, Path()))
            stated += [shape] if isinstance(shape, str) else []
        return tuple(stated)

    def _tile(self, manifest: Manifest, entry: Entry, reasons: tuple[str, ...]) -> Tile | str:
        """Return a clip as it is shown, or why it is not."""
        selection, path = self._options.selection, _path(manifest, entry)
        media = media_of(entry, path)
        shape = selection.fit(media)
        if isinstance(shape, str):
            if not self._options.rejected:
                return shape
            shape = self._forced(media)
        start, end = entry.get("start"), entry.get("end")
        frames = read_clip(
            path,
            num_frames=shape.num_frames,
            fps=selection.fps,
            height=shape.height,
            width=shape.width,
            start=start,
            end=end,
        )
        span = (
            ""
            if start is None and end is None
            else f" · from {start or 0:g} s" + ("" if end is None else f" to {end:g} s")
        )
        length = "image" if len(frames) == 1 else f"{len(frames)} frames at {selection.fps:g} fps"
        title = f"{Path(entry[_field(entry)]).name}{span} · {length} · {shape.width}x{shape.height}"
        title += f" of {media.width}x{media.height}"
        shown = frames[evenly(len(frames), self._options.frames_shown)]
        return Tile(shown, title, self._caption(entry), reasons)

    def _forced(self, media: Media) -> Shape:
        """Return the shape of a clip that is too small or too short."""
        chosen = self._options.selection
        shape = fit(media, sizes=chosen.sizes, max_frames=chosen.max_frames, fps=chosen.fps, max_upscale=float("inf"))
        assert shape is not None
        return shape

    def _caption(self, entry: Entry) -> str:
        texts = dict(entry.get("captions", {})) | ({"caption": entry["caption"]} if "caption" in entry else {})
        names = sorted(self._options.captions, key=lambda name: -self._options.captions[name])
        return next((texts[name] for name in names if name in texts), "")


def plan_packs(shapes: Sequence[Shape], lengths: Sequence[int], *, budget: int | None, shown: int) -> PackPlan:
    """Pack clips as training does in its first epoch (of seed 0), and return some of the packs.

    Args:
        shapes: Of the clips.
        lengths: Their tokens.
        budget: Tokens of a pack (default: those of the longest clip).
        shown: How many packs to return.

    Raises:
        InputError: There are no clips, or one does not fit into a pack.
    """
    if not lengths:
        raise InputError("no clips to pack")
    most = budget or max(lengths)
    packs = pack(lengths, budget=most, seed=0, epoch=0)
    title = f"{len(lengths):,} clips in {len(packs):,} packs of {most:,} tokens, {100 * fill(packs, most):.1f} % filled"
    title += f"; the first {shown}" if shown < len(packs) else ""
    return PackPlan(title, most, [[(shapes[i], lengths[i]) for i in one.items] for one in packs[:shown]])


def _field(entry: Entry) -> str:
    name = pixel_field(entry)
    if name is None:
        raise InputError(f"an entry names neither 'video' nor 'image' (it has {', '.join(entry)})")
    return name


def _path(manifest: Manifest, entry: Entry) -> Path:
    return manifest.path(entry, _field(entry))


def _is_known(entry: Entry) -> bool:
    """Whether an entry says all that decides its shape, so that its file need not be looked at."""
    if not (entry.get("width") and entry.get("height")) or pixel_field(entry) is None:
        return False
    if "video" not in entry:
        return True
    part = [entry.get("start"), entry.get("end")]
    long = (entry.get("duration") or entry.get("num_frames")) if part == [None, None] else None not in part
    return bool(entry.get("fps") and long)


def _name(entry: Entry) -> str:
    try:
        return clean(entry_id(entry))
    except InputError:
        return "an entry"
