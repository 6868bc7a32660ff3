"""Questions about one clip to one language model, each asked once."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cogvx.captioning.answers import Answers
from cogvx.captioning.captioned import Said, usable
from cogvx.captioning.moments import SIDE, Moment
from cogvx.captioning.questions import Question
from cogvx.language.ask import LanguageModel, LanguageSpec, Video
from cogvx.language.model_files import find_files


@dataclass(frozen=True)
class Asker:
    """A language model, and what it has answered.

    Attributes:
        model: Who is asked.
        answers: What was answered.
    """

    model: LanguageModel
    answers: Answers

    def ask(
        self,
        what: str,
        question: Question,
        *,
        clip: str,
        seen: Sequence[Moment] = (),
        video: Video | None = None,
        **values: object,
    ) -> Said:
        """Ask about a clip, or return what was answered to the same.

        Args:
            what: The question's name.
            question: How it is asked.
            clip: What tells the clip from others; see ClipFile.key.
            seen: What of it is shown.
            video: The same as a video; None: it is shown as pictures.
            values: What the names in braces of the question stand for.

        Raises:
            InputError: The answer was blocked, or is empty.
            MissingError: Nobody answers.
        """
        images = () if video is not None else tuple(moment.frame for moment in seen)
        messages = question.messages(images=images, videos=() if video is None else (video,), **values)
        settings: dict[str, Any] = {"max_tokens": question.max_tokens, "temperature": question.temperature}
        about = {
            "clip": clip,
            "what": what,
            "seconds": [round(moment.seconds, 3) for moment in seen],
            "side": SIDE,
            "as": "pictures" if video is None else "video",
            "said": [[message.role, message.text] for message in messages],
            "model": self.model.settings(),
            "parameters": settings,
        }
        return usable(self.answers.get(about, lambda: self.model.ask(messages, **settings)), what)


def model_settings(spec: LanguageSpec) -> dict[str, Any]:
    """Return what tells a language model from others, without where it lies or runs.

    Raises:
        CogvxError: The files of a model on this machine cannot be found.
    """
    if spec.engine == "transformers" and (Path(str(spec.model)).expanduser().exists() or "/" not in str(spec.model)):
        files = find_files(spec, lambda text: None)
        return {"engine": spec.engine, "model": files.name, "version": files.version}
    about = {"engine": spec.engine, "model": spec.model, "revision": spec.revision, "gguf": spec.gguf}
    return {name: value for name, value in about.items() if value is not None}
