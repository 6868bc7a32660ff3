"""The labelling page: clips of a manifest, one after the other, each with the faults that a person sees in it."""

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cogvx.data.labels import LABEL_MEANINGS, title_of
from cogvx.data.manifest import Entry, Manifest, entry_id
from cogvx.errors import CogvxError, InputError
from cogvx.serving.journal import Journal
from cogvx.serving.playable import PlayableClips
from cogvx.serving.raters import page_text
from cogvx.serving.replies import Data, Html, NoSuchThing, Reply, Request, WrongRequest

_LONGEST_SECONDS = 86400.0


@dataclass(frozen=True)
class _Item:
    """A clip to label.

    Attributes:
        name: For people.
        path: Its file.
        still: Whether it is an image.
        keys: What tells it from others in the journal; the first one is written.
        entry: Of the manifest.
    """

    name: str
    path: Path
    still: bool
    keys: tuple[str, ...]
    entry: Entry


def item_keys(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what tells a clip from others in a journal: its content, which stays when files move, and its id.

    Raises:
        InputError: The entry names no file.
    """
    name = entry_id(entry)
    if "sha256" not in entry:
        return (name,)
    part = [entry.get("start"), entry.get("end")]
    return f"sha256:{entry['sha256'].lower()}{'' if part == [None, None] else f'#{json.dumps(part)}'}", name


class LabelSite:
    """Serves the page, the clips and the labels of raters; see cogvx.serving.replies.Site."""

    def __init__(self, manifest: Manifest, journal: Journal, clips: PlayableClips, labels: Sequence[str]) -> None:
        """Find the clips.

        Args:
            manifest: Its entries with a video or an image are labelled, in their order.
            journal: Where answers are written down.
            clips: Makes clips playable.
            labels: Names of the labels, in the order of their keys.

        Raises:
            InputError: No entry names a clip.
        """
        self._journal, self._clips, self._labels = journal, clips, list(labels)
        self._items = [_item(manifest, entry) for entry in manifest.entries if "video" in entry or "image" in entry]
        if not self._items:
            raise InputError("no entry of the manifest names a video or an image")
        self._lock = threading.Lock()
        self._done: dict[str, set[int]] = {}
        self._broken: set[int] = set()  # clips that could not be shown: nobody is led to them
        self._page = page_text("cogvx.curation.labelling")

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self._items)

    def num_done(self, rater: str) -> int:
        """Return how many clips a rater has labelled."""
        return len(self._done_by(rater))

    def get(self, request: Request) -> Reply:
        """Return the page, how far a rater is, a clip, or what is known about it."""
        if request.path == ():
            return Html(self._page)
        if request.path == ("state",):
            after = request.query.get("after", "-1")
            return Data(self._state(request.rater, -1 if after == "-1" else self._index(after)))
        match request.path:
            case ("item", number):
                return Data(self._about(request.rater, self._index(number)))
            case ("clip", number):
                return self._shown(self._index(number), made=request.query.get("made") == "1")
        raise NoSuchThing

    def post(self, request: Request) -> Reply:
        """Write the labels of a clip down; return how far the rater is."""
        match request.path:
            case ("label", number):
                index = self._index(number)
                answer, seconds = self._answer(request.body)
                self._journal.add(request.rater, self._items[index].keys[0], answer, seconds=seconds)
                done = self._done_by(request.rater)
                with self._lock:
                    done.add(index)
                return Data({"done": len(done), "next": self._next(request.rater, index)})
        raise NoSuchThing

    def _shown(self, index: int, *, made: bool) -> Reply:
        """Return a clip as browsers take it."""
        item = self._items[index]
        start, end = item.entry.get("start"), item.entry.get("end")
        try:
            return self._clips.image(item.path) if item.still else self._clips.clip(item.path, start, end, made=made)
        except CogvxError:
            with self._lock:
                self._broken.add(index)
            raise

    def _state(self, rater: str, after: int) -> dict[str, Any]:
        labels = [
            {"name": name, "title": title_of(name), "meaning": LABEL_MEANINGS.get(name, "")} for name in self._labels
        ]
        state = {"rater": rater, "labels": labels, "count": len(self), "done": self.num_done(rater)}
        return state | {"next": self._next(rater, after)}

    def _about(self, rater: str, index: int) -> dict[str, Any]:
        item = self._items[index]
        answers = [answer for key in item.keys for answer in self._journal.latest(rater=rater, item=key)]
        latest = max(answers, key=lambda answer: answer.at, default=None)
        return {
            "index": index,
            "name": item.name,
            "caption": item.entry.get("caption", ""),
            "still": item.still,
            "direct": not item.still and self._clips.is_direct(item.path),
            "start": item.entry.get("start"),
            "end": item.entry.get("end"),
            "labels": None if latest is None else latest.answer,
        }

    def _answer(self, body: Any) -> tuple[dict[str, int], float | None]:
        """Return what was posted, checked: a 0 or 1 for each label, and the seconds that it took."""
        labels = body.get("labels") if isinstance(body, dict) else None
        if not isinstance(labels, dict) or set(labels) != set(self._labels):
            raise WrongRequest(f"labels must hold {', '.join(self._labels)}")
        if any(value not in (0, 1) or isinstance(value, bool) for value in labels.values()):
            raise WrongRequest("a label is 0 or 1")
        seconds = body.get("seconds")
        known = isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds <= _LONGEST_SECONDS
        return {name: int(labels[name]) for name in self._labels}, float(seconds) if known else None

    def _index(self, text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 12) or int(text) >= len(self._items):
            raise NoSuchThing
        return int(text)

    def _done_by(self, rater: str) -> set[int]:
        """Return the clips that a rater has labelled; read from the journal once."""
        with self._lock:
            if rater not in self._done:
                keys = {answer.item for answer in self._journal.latest(rater=rater)}
                self._done[rater] = {i for i, item in enumerate(self._items) if not keys.isdisjoint(item.keys)}
            return self._done[rater]

    def _next(self, rater: str, index: int) -> int | None:
        """Return the next clip that a rater has to label, behind the last one the first; None if there is none."""
        done, count = self._done_by(rater), len(self._items)
        with self._lock:
            passed = done | self._broken
        return next(((index + i) % count for i in range(1, count + 1) if (index + i) % count not in passed), None)


def _item(manifest: Manifest, entry: Entry) -> _Item:
    field = "video" if "video" in entry else "image"
    return _Item(entry_id(entry), manifest.path(entry, field), field == "image", item_keys(entry), entry)
