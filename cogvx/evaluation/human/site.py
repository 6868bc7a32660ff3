"""The rating page: items of a study in each rater's own order, without a word about who made what."""

import threading
from typing import Any

from cogvx.errors import CogvxError, InputError
from cogvx.evaluation.human.answers import (
    ASPECTS,
    CAP,
    CAP_ASPECT,
    MAX_REASONS,
    MAX_TOTAL,
    SCORES,
    checked_choice,
    checked_rating,
)
from cogvx.evaluation.human.study import Study
from cogvx.serving.journal import Journal
from cogvx.serving.raters import page_text
from cogvx.serving.replies import Data, Html, Media, NoSuchThing, Reply, Request, WrongRequest

_LONGEST_SECONDS = 86400.0


class StudySite:
    """Serves the page, the clips and the votes of raters; see cogvx.serving.replies.Site.

    Items are named by their place in a rater's own order, clips by that and their seat: what reaches the browser
    holds no id, file name or system.
    """

    def __init__(self, study: Study, journal: Journal) -> None:
        """Remember what is judged.

        Args:
            study: The items.
            journal: Where votes are written down.
        """
        self._study, self._journal = study, journal
        self._check = checked_rating if study.mode == "rating" else checked_choice
        self._lock = threading.Lock()
        self._orders: dict[str, list[int]] = {}
        self._done: dict[str, set[int]] = {}
        self._broken: set[int] = set()  # items that could not be shown: nobody is led to them
        self._page = page_text("cogvx.evaluation.human")

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._study.items)

    def num_done(self, rater: str) -> int:
        """Return how many items a rater has judged."""
        return len(self._done_by(rater))

    def get(self, request: Request) -> Reply:
        """Return the page, how far a rater is, an item, or a clip of it."""
        if request.path == ():
            return Html(self._page)
        if request.path == ("state",):
            after = request.query.get("after", "-1")
            return Data(self._state(request.rater, -1 if after == "-1" else self._place(after)))
        match request.path:
            case ("item", number):
                return Data(self._about(request.rater, self._place(number)))
            case ("clip", number, seat):
                return self._clip(request.rater, self._place(number), seat)
        raise NoSuchThing

    def post(self, request: Request) -> Reply:
        """Write a vote down; return how far the rater is."""
        match request.path:
            case ("vote", number):
                place = self._place(number)
                index = self._order(request.rater)[place]
                try:
                    answer = self._check(request.body)
                except InputError as error:
                    raise WrongRequest(str(error)) from error
                seconds = _seconds(request.body.get("seconds"))
                self._journal.add(request.rater, self._study.items[index].id, answer, seconds=seconds)
                done = self._done_by(request.rater)
                with self._lock:
                    done.add(index)
                return Data({"done": len(done), "next": self._next(request.rater, place)})
        raise NoSuchThing

    def _clip(self, rater: str, place: int, seat: str) -> Reply:
        index = self._order(rater)[place]
        item = self._study.items[index]
        if seat not in ("a", "b")[: len(item.shown)]:
            raise NoSuchThing
        try:
            path = self._study.path(item.shown["ab".index(seat)])
            if not path.is_file():
                raise InputError("the clip is gone from the study's folder")
        except CogvxError:
            with self._lock:
                self._broken.add(index)
            raise
        return Media(path, "video/mp4")

    def _state(self, rater: str, after: int) -> dict[str, Any]:
        aspects = [{"name": one.name, "title": one.title, "meanings": list(one.meanings)} for one in ASPECTS]
        state: dict[str, Any] = {"rater": rater, "mode": self._study.mode, "study": self._study.sha256[:16]}
        state |= {"count": len(self), "done": self.num_done(rater), "max_reasons": MAX_REASONS}
        if self._study.mode == "rating":
            state |= {"aspects": aspects, "scores": list(SCORES), "max_total": MAX_TOTAL}
            state |= {"cap": CAP, "cap_aspect": CAP_ASPECT}
        return state | {"next": self._next(rater, after)}

    def _about(self, rater: str, place: int) -> dict[str, Any]:
        item = self._study.items[self._order(rater)[place]]
        latest = next(self._journal.latest(rater=rater, item=item.id), None)
        return {
            "index": place,
            "prompt": self._study.prompts[item.prompt],
            "answer": None if latest is None else latest.answer,
        }

    def _place(self, text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 12) or int(text) >= len(self):
            raise NoSuchThing
        return int(text)

    def _order(self, rater: str) -> list[int]:
        with self._lock:
            if rater not in self._orders:
                self._orders[rater] = self._study.order(rater)
            return self._orders[rater]

    def _done_by(self, rater: str) -> set[int]:
        """Return the items that a rater has judged; read from the journal once."""
        with self._lock:
            if rater not in self._done:
                ids = {answer.item for answer in self._journal.latest(rater=rater)}
                self._done[rater] = {i for i, item in enumerate(self._study.items) if item.id in ids}
            return self._done[rater]

    def _next(self, rater: str, place: int) -> int | None:
        """Return the next place that a rater has to judge, behind the last one the first; None if there is none."""
        done, count, order = self._done_by(rater), len(self), self._order(rater)
        with self._lock:
            passed = done | self._broken
        places = ((place + i) % count for i in range(1, count + 1))
        return next((one for one in places if order[one] not in passed), None)


def _seconds(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LONGEST_SECONDS
    return float(value) if known else None
