"""The caption of one clip, where a prompt is missing."""

import tempfile
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogvx.errors import MissingError

from ._captioner import Captioner, CaptionerFlags, FrameCaptioner, captioner_spec
from ._language import LanguageFlags

if TYPE_CHECKING:
    from cogvx.captioning.length import Limit
    from cogvx.captioning.stage import CaptionerSpec

    from ._console import Console
    from ._plan import Session


@dataclass(frozen=True)
class ClipCaption:
    """How a clip is captioned whose prompt is missing.

    Attributes:
        spec: The captioner.
        limit: As much as the model reads, counted by its tokenizer.
        console: Where the caption is shown.
        dry_run: Whether nobody is asked.
    """

    spec: "CaptionerSpec"
    limit: "Limit"
    console: "Console"
    dry_run: bool = False

    @classmethod
    def of(cls, session: "Session", captioner: Captioner, frames: FrameCaptioner) -> "ClipCaption":
        """Find the captioner before any work is done.

        Raises:
            MissingError: It is not here.
        """
        from cogvx.captioning.length import Limit
        from cogvx.checkpoints.clip_text import has_captioner

        flags, folder = session.flags, session.folder
        lm = {item.name: getattr(flags, item.name) for item in fields(LanguageFlags)}
        own = has_captioner(session.resolved.path)
        spec = captioner_spec(
            CaptionerFlags(captioner=captioner, frame_captioner=frames, device=flags.device, **lm),
            model=str(session.resolved.path) if own else "tiny",
            cache=None,
        )
        try:
            spec = spec.settled()
            spec.settings()
        except MissingError as error:
            raise MissingError(
                f"no PROMPT, so the clip has to be captioned, and: {error}. Give a PROMPT, or take --captioner video"
            ) from error
        if captioner == "embedded" and not own:
            session.console.note(
                "the embedded captioner knows simple drawn scenes only; --captioner video takes others"
            )
        return cls(spec, Limit(folder.max_text_length, folder.components["tokenizer"]), session.console, flags.dry_run)

    def caption(self, source: Path | bytes, *, end: float | None) -> tuple[str, dict[str, Any]]:
        """Return the caption of a clip, and how it was made.

        Args:
            source: A path, or the bytes of a file.
            end: Seconds; what comes from there on is not looked at.

        Raises:
            InputError: The clip cannot be captioned.
            MissingError: Nobody answers.
        """
        if self.dry_run:
            return "(a caption of the clip)", {}
        if isinstance(source, bytes):
            with tempfile.NamedTemporaryFile(prefix="cogvx-clip-") as file:
                file.write(source)
                file.flush()
                return self.caption(Path(file.name), end=end)
        from cogvx.captioning.length import cut_tokens
        from cogvx.captioning.moments import ClipFile

        with closing(self.spec.open()) as captioner:
            found = captioner.caption(ClipFile(source, None, end))
        text, was_cut = cut_tokens(found.text, self.limit, self.limit.counter())
        self.console.note(f"no PROMPT, so the clip is captioned: {text}")
        if was_cut:
            self.console.note(f"the caption is cut to the {self.limit.max_tokens} tokens that the model reads")
        return text, self.spec.settings() | {"outcome": "truncated" if was_cut else found.outcome}
