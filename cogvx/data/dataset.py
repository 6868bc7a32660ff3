"""Clips of manifests as training asks for them: by number, of a known shape, encoded ahead or raw."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cogvx.data.buckets import FRAME_PERIOD, Shape
from cogvx.data.cache import EncodedCache, content_sha256
from cogvx.data.clips import media_of, read_clip
from cogvx.data.latents import latents_info, load_posterior
from cogvx.data.manifest import Entry, Manifest, entry_id, read_manifest
from cogvx.data.select import refusals
from cogvx.data.selection import Selection, pixel_field
from cogvx.data.text_embeds import load_text_embeds
from cogvx.errors import CogvxError, InputError, RefusedError, UsageError
from cogvx.files import clean

Source = Path | str | Manifest
_LONGEST = 100_001  # frames, 8k + 1


@dataclass(frozen=True, eq=False)
class Sample:
    """One clip to train on.

    Attributes:
        index: Its number in the dataset.
        shape: Its shape in pixels; shorter than planned if the file turned out to be.
        caption: One of its captions; "" if it has none.
        frames: uint8 (t h w 3), RGB; only the first frame where that is wanted beside latents; None where it is not.
        latents: (c t h w), float32 or bfloat16, times the scaling factor: the posterior's mean; None if the clip is not
            encoded.
        std: The posterior's standard deviation (c t h w), times the scaling factor; None if it was not stored.
        text: Embeddings of the caption (l d); None if it has not been encoded.
        image_latents: Latents (c 1 h w) of the first frame with noise, times the scaling factor; None if not encoded.
        image_std: As std, of image_latents.
    """

    index: int
    shape: Shape
    caption: str
    frames: np.ndarray | None = None
    latents: Tensor | None = None
    std: Tensor | None = None
    text: Tensor | None = None
    image_latents: Tensor | None = None
    image_std: Tensor | None = None


@dataclass(frozen=True)
class _Item:
    manifest: Manifest
    entry: Entry
    path: Path | None  # of the pixels
    shape: Shape
    latents: Path | None  # named by the entry


class ClipDataset:
    """Clips of one or more manifests.

    What stands in the entries decides the shapes, so that packs can be planned before anything is decoded. Entries that
    cannot be read are left out, listed in `bad`, and an error when they are more than max_bad; entries that are not
    wanted are counted in `left_out`.

    Attributes:
        bad: Name and error of each entry that could not be used.
        left_out: Reason to number of entries that are not wanted.
    """

    def __init__(
        self,
        manifests: Source | Sequence[Source],
        selection: Selection,
        *,
        captions: Mapping[str, float] | None = None,
        root: Path | str | None = None,
        cache: EncodedCache | None = None,
        encoded: bool = True,
        first_frame: bool = False,
        max_bad: int = 0,
        on_bad: Callable[[str, CogvxError], None] | None = None,
        keep: Callable[[Entry], bool] | None = None,
    ) -> None:
        """Read the manifests and find the shape of each clip.

        Args:
            manifests: Paths, or manifests that were read.
            selection: Which entries, at which shapes.
            captions: Field of an entry ("caption", or a name in "captions") to its share (default: caption alone).
            root: What the manifests' paths must stay inside (default: each one's folder).
            cache: Where latents and texts are looked for that the entries do not name; also says which models made what
                they name.
            encoded: Whether latents are used where there are some; the autoencoder's own training wants pixels.
            first_frame: Whether a sample with latents has its first frame too, unless that was encoded with noise.
            max_bad: Entries that may be unusable, now and while reading.
            on_bad: Told of each of them.
            keep: Says whether an entry is used (default: all).

        Raises:
            InputError: A manifest is missing, or too many entries are bad.
            RefusedError: A path leaves the root.
            UsageError: The selection or the captions are impossible.
        """
        selection.check()
        self.selection = selection
        self.bad: list[tuple[str, CogvxError]] = []
        self.left_out: Counter[str] = Counter()
        self._captions = dict(captions or {"caption": 1.0})
        if not self._captions or min(self._captions.values()) < 0 or sum(self._captions.values()) <= 0:
            raise UsageError(f"captions need shares above zero, got {self._captions}")
        self._cache, self._encoded, self._first_frame = cache, encoded, first_frame
        self._max_bad, self._on_bad = max_bad, on_bad
        self._items: list[_Item] = []
        sources = [manifests] if isinstance(manifests, Source) else manifests
        read = [one if isinstance(one, Manifest) else self._read_manifest(one, root) for one in sources]
        every = [(manifest, entry) for manifest in read for entry in manifest.entries]
        whys = self._refusals([entry for _, entry in every])
        for (manifest, entry), why in zip(every, whys, strict=True):
            if keep is None or keep(entry):
                self._take(manifest, entry, why)
            else:
                self.left_out["not of this split"] += 1

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self._items)

    def shape(self, index: int) -> Shape:
        """Return the shape that is planned for a clip."""
        return self._items[index].shape

    def entry(self, index: int) -> Entry:
        """Return what the manifest says about a clip."""
        return self._items[index].entry

    def is_encoded(self, index: int) -> bool:
        """Whether reading a clip gives latents, by what is there now."""
        return self._latents_path(self._items[index]) is not None

    def captions(self, index: int) -> list[str]:
        """Return the captions of a clip that may be chosen."""
        texts = _captions_of(self._items[index].entry)
        return [texts[name] for name, share in self._captions.items() if share > 0 and name in texts]

    def caption_field(self, index: int, choice: float = 0.0) -> str | None:
        """Return which caption of a clip a number in [0, 1) chooses, by the shares of those that it has."""
        texts = _captions_of(self._items[index].entry)
        shares = {name: share for name, share in self._captions.items() if share > 0 and name in texts}
        mark = choice * sum(shares.values())
        for name, share in shares.items():
            if mark < share:
                return name
            mark -= share
        return next(reversed(shares), None)

    def read(self, index: int, *, caption_choice: float = 0.0, image_choice: float = 0.0) -> Sample | None:
        """Read a clip; None if it cannot be used and the limit of bad ones is not reached.

        Args:
            index: Its number.
            caption_choice: In [0, 1): chooses one of its captions.
            image_choice: In [0, 1): chooses one of the noises that its first frame was encoded with.

        Raises:
            InputError: It cannot be used, and too many others could not either.
        """
        try:
            return self._read(index, caption_choice, image_choice)
        except (InputError, RefusedError) as error:
            self._bad(self._items[index].entry, error)
            return None

    def text(self, prompt: str) -> Tensor | None:
        """Return the embeddings (l d) of a prompt from the cache, such as "" for a caption that is dropped."""
        path = None if self._cache is None else self._cache.text(prompt)
        if path is not None and path.exists():
            return load_text_embeds(path)[0]
        if prompt == "" and self._items:  # encoded manifests name it in every entry
            item = self._items[0]
            named = _texts_of(item.entry).get("")
            return load_text_embeds(item.manifest.path({"text": named}, "text"))[0] if named else None
        return None

    def _read_manifest(self, source: Path | str, root: Path | str | None) -> Manifest:
        return read_manifest(source, root=root, on_error=lambda error: self._bad(None, error))

    def _bad(self, entry: Entry | None, error: CogvxError) -> None:
        """Note a bad entry; raise its error if it is one too many, and at once if a path was refused."""
        if entry is None and isinstance(error, RefusedError):
            raise error
        name = "a line" if entry is None else clean(_name(entry))
        self.bad.append((name, error))
        if len(self.bad) > self._max_bad:
            if self._max_bad == 0:
                raise error
            more = f"{len(self.bad)} entries could not be used, more than the {self._max_bad} allowed; the last"
            raise InputError(f"{more}: {error}") from error
        if self._on_bad is not None:
            self._on_bad(name, error)

    def _refusals(self, entries: list[Entry]) -> list[str | None]:
        """Return which part of the selection's condition each entry does not fulfil; None where there is none."""
        if not self.selection.where:
            return [None] * len(entries)
        return refusals(self.selection.where, entries, rejected=self.selection.rejected)

    def _take(self, manifest: Manifest, entry: Entry, unfulfilled: str | None) -> None:
        """Add an entry, or note why not."""
        why: Shape | str | None = self.selection.refused(entry) or unfulfilled
        if why is None:
            try:
                item = self._item(manifest, entry)
            except (InputError, RefusedError) as error:
                self._bad(entry, error)
                return
            if isinstance(item, _Item):
                self._items.append(item)
                return
            why = item
        self.left_out[str(why)] += 1

    def _item(self, manifest: Manifest, entry: Entry) -> _Item | str:
        field = pixel_field(entry)
        latents = manifest.path(entry, "latents") if self._encoded and "latents" in entry else None
        if field is None:
            if latents is None:
                raise InputError(f"an entry names neither 'video' nor 'image' (it has {', '.join(entry)})")
            shape = self._encoded_shape(entry, latents)
            if (shape.height, shape.width) not in set(map(tuple, self.selection.sizes)):
                return "latents of another size"
            long = not self.selection.min_frames <= shape.num_frames <= self.selection.max_frames
            return "latents of another length" if long else _Item(manifest, entry, None, shape, latents)
        path = manifest.path(entry, field)
        shape_or_why = self.selection.fit(media_of(entry, path))
        if isinstance(shape_or_why, str):
            return shape_or_why
        if latents is not None and not _begins_with(self._encoded_shape(entry, latents), shape_or_why):
            latents = None  # made for another stage: the pixels, or the cache, have this one's
        return _Item(manifest, entry, path, shape_or_why, latents)

    def _encoded_shape(self, entry: Entry, path: Path) -> Shape:
        """Return the shape of the latents that an entry names; zeros if they are of another rate.

        Raises:
            InputError: They are unreadable, or another autoencoder made them.
        """
        about = entry.get("encoded")
        if not isinstance(about, dict):
            info = latents_info(path)
            about = {"num_frames": info.num_frames, "height": info.height, "width": info.width, "fps": info.fps}
        try:
            shape = Shape(int(about["num_frames"]), int(about["height"]), int(about["width"]))
            fps = float(about["fps"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"'encoded' must hold num_frames, height, width and fps, it holds {about}") from error
        if self._cache is not None and about.get("vae") not in (None, self._cache.vae):
            raise InputError(
                "its latents were made by another autoencoder, or in another precision; encode again with "
                "`cogvx data encode -m MODEL`"
            )
        same_rate = shape.num_frames == 1 or abs(fps - self.selection.fps) < 1e-6
        return shape if same_rate else Shape(0, 0, 0)

    def _latents_path(self, item: _Item) -> Path | None:
        if item.latents is not None or not self._encoded:
            return item.latents
        return next((path for path in self._in_cache(item) if path.exists()), None)

    def _in_cache(self, item: _Item) -> Iterator[Path]:
        """Yield where the cache has a clip's latents, then where it has those of longer clips that begin as this one.

        The VAE sees no frame before its time, so that a longer clip's first latents are those of the shorter clip. Only
        an image has its own: the norms of a clip's first chunk look at nine frames.
        """
        if self._cache is None or item.path is None:
            return
        sha256 = item.entry.get("sha256") or content_sha256(item.path)
        start, end = item.entry.get("start"), item.entry.get("end")
        longest = item.shape.num_frames
        if longest > 1:
            whole = replace(self.selection, max_frames=_LONGEST).fit(media_of(item.entry, item.path))
            longest = whole.num_frames if isinstance(whole, Shape) else longest
        for num_frames in range(item.shape.num_frames, longest + 1, FRAME_PERIOD):
            shape = replace(item.shape, num_frames=num_frames)
            yield self._cache.latents(sha256.lower(), shape, fps=self.selection.fps, start=start, end=end)

    def _read(self, index: int, caption_choice: float, image_choice: float) -> Sample:
        item = self._items[index]
        entry = item.entry
        name = self.caption_field(index, caption_choice)
        caption = "" if name is None else _captions_of(entry)[name]
        text = self._text(item, name, caption)
        path = self._latents_path(item)
        if path is None:
            if item.path is None:
                raise InputError(f"{clean(_name(entry))}: it has neither pixels nor latents")
            frames = self._frames(item, item.shape.num_frames)
            shape = Shape(len(frames), item.shape.height, item.shape.width)
            return Sample(index, shape, caption, frames=frames, text=text)
        latents, std, info = load_posterior(path)
        shape = Shape(info.num_frames, info.height, info.width)
        if shape != item.shape and _begins_with(shape, item.shape):
            ratio = (shape.num_frames - 1) // (latents.shape[1] - 1)
            kept = (item.shape.num_frames - 1) // ratio + 1
            latents, std = latents[:, :kept], None if std is None else std[:, :kept]
            shape = replace(shape, num_frames=item.shape.num_frames)
        if shape > item.shape or (shape.height, shape.width) != (item.shape.height, item.shape.width):
            raise InputError(f"{clean(str(path))}: latents of {shape}, expected {item.shape}")
        image, image_std = self._image(item, image_choice)
        first = None
        if self._first_frame and image is None and item.path is not None:
            first = self._frames(item, 1)
        return Sample(index, shape, caption, first, latents, std, text, image, image_std)

    def _frames(self, item: _Item, num_frames: int) -> np.ndarray:
        assert item.path is not None
        return read_clip(
            item.path,
            num_frames=num_frames,
            fps=self.selection.fps,
            height=item.shape.height,
            width=item.shape.width,
            start=item.entry.get("start"),
            end=item.entry.get("end"),
        )

    def _text(self, item: _Item, name: str | None, caption: str) -> Tensor | None:
        """Return the embeddings of a caption, if they were made."""
        named = _texts_of(item.entry).get("" if name is None else name)
        if named is None and name == "caption" and "text" in item.entry:
            named = item.entry["text"]
        if named is not None:
            path = item.manifest.path({"text": named}, "text")
            text, prompt, _ = load_text_embeds(path)
            if prompt != caption:
                raise InputError(f"{clean(str(path))}: it embeds another caption than the entry's {name!r}")
            return text
        return self.text(caption)

    def _image(self, item: _Item, choice: float) -> tuple[Tensor | None, Tensor | None]:
        """Return one of the first frame's latents (c 1 h w) and their standard deviation."""
        if "image_latents" not in item.entry:
            return None, None
        latents, std, _ = load_posterior(item.manifest.path(item.entry, "image_latents"))
        at = min(int(choice * latents.shape[1]), latents.shape[1] - 1)
        return latents[:, at : at + 1], None if std is None else std[:, at : at + 1]


def draw(mean: Tensor, std: Tensor | None, generator: torch.Generator) -> Tensor:
    """Return a sample, float32, of the posterior with this mean and deviation; the mean if there is no deviation."""
    if std is None:
        return mean.float()
    return mean.float() + std.float() * torch.randn(mean.shape, generator=generator)


def _captions_of(entry: Entry) -> dict[str, str]:
    texts = dict(entry.get("captions", {}))
    return texts | {"caption": entry["caption"]} if "caption" in entry else texts


def _texts_of(entry: Entry) -> dict[str, str]:
    """Return the paths of the embeddings that an entry names, by the field of the caption; "" is the empty prompt."""
    texts = entry.get("texts")
    return texts if isinstance(texts, dict) else {}


def _name(entry: Entry) -> str:
    try:
        return entry_id(entry)
    except InputError:
        return "an entry"


def _begins_with(encoded: Shape, wanted: Shape) -> bool:
    """Whether latents of one shape begin with those of another: of the same clip, or of a shorter one."""
    same_size = (encoded.height, encoded.width) == (wanted.height, wanted.width)
    return encoded == wanted or (same_size and encoded.num_frames > wanted.num_frames > 1)
