"""`cogvx caption`: clips to a manifest with captions."""

from dataclasses import dataclass
from typing import Annotated

import typer

from ._captioner import CaptionerFlags
from ._options import with_flags
from ._stages import StageFlags


@dataclass(frozen=True, kw_only=True)
class CaptionFlags(StageFlags, CaptionerFlags):
    """The flags of caption."""

    show_prompts: Annotated[
        bool,
        typer.Option("--show-prompts", help="Print cogvx's own file of prompts, to copy and edit, and do no more."),
    ] = False


@with_flags(CaptionFlags)
def caption(
    clips: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CLIP...|MANIFEST",
            show_default=False,
            help="Clips and images, or one manifest (JSONL) or folder of manifests; - reads one of them from stdin.",
        ),
    ] = None,
    *,
    flags: CaptionFlags,
) -> None:
    r"""Caption clips, and write a manifest that has them.

    The embedded captioner is a small one that was trained on one kind of clips: its captions have that kind's words,
    in lower case. The others ask language models (--lm): behind any OpenAI-compatible endpoint, or in this process.
    What an entry says is kept; a caption that it had goes to captions.given.

    \b
    Examples:
      cogvx caption clip.mp4 -m runs/storyboard-captioner/model
      cogvx caption clips/*.mp4 -o captioned.jsonl --captioner video --lm transformers
      cogvx caption clips.jsonl -o captioned.jsonl --captioner video --lm-url http://localhost:8000/v1 --workers 8
      cogvx caption clips.jsonl -o dense.jsonl --captioner dense --lm-model gpt-4o --frame-lm-url http://gpu:8000/v1
      cogvx caption clips.jsonl -o dense.jsonl --captioner dense --frame-captioner words --lm-url http://cpu:8080/v1
    """
    from ._caption import caption_clips

    caption_clips(clips or [], flags)
