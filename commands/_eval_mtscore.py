"""The work of `cogvx eval mtscore`: a language model that sees says how much clips change."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cogvx.errors import InputError

from ._eval_clips import ClipFile, ResultFlags, cell, find_clips, start
from ._language import LanguageFlags, announcer, language_spec

if TYPE_CHECKING:
    from cogvx.evaluation.mtscore import Opinion


@dataclass(frozen=True, kw_only=True)
class MtscoreFlags(LanguageFlags, ResultFlags):
    """The flags of eval mtscore."""

    repeats: Annotated[
        int, typer.Option("--repeats", metavar="N", min=1, help="Questions a clip; their mean counts.")
    ] = 3
    instructions: Annotated[
        Path | None,
        typer.Option(
            "--instructions",
            metavar="FILE",
            show_default=False,
            help="Another question, as a text file. Its hash stands in the result, as does that of the own one.",
        ),
    ] = None


def measure(source: str, flags: MtscoreFlags) -> None:
    """Have clips judged; errors are those of find_clips and cogvx.evaluation.mtscore."""
    from cogvx.evaluation import mtscore
    from cogvx.evaluation.result import Result
    from cogvx.language.ask import open_language_model

    session = start(flags)
    instructions = mtscore.INSTRUCTIONS if flags.instructions is None else _text(flags.instructions)
    clips = find_clips(source, session)
    console = session.console
    model = open_language_model(language_spec(flags), announce=announcer(console.warn, console.note))
    found: dict[str, list[Opinion]] = {}

    def look(clip: ClipFile) -> dict[str, Any]:
        from cogvx.data.video import read_clip

        opinions = mtscore.judge(
            model,
            read_clip(clip.path, start=clip.span["start"], end=clip.span["end"]).frames,
            repeats=flags.repeats,
            instructions=instructions,
        )
        found[clip.name] = opinions
        row = {"input": clip.name, "value": mtscore.mean_score(opinions)}
        return row | {"answers": [one.to_dict() for one in opinions]}

    rows = list(session.each("eval mtscore", clips, look))
    if not rows:
        raise InputError(f"{source}: no clip could be judged")
    answers = [one for opinions in found.values() for one in opinions]
    usable = [one for one in answers if one.score is not None]
    settings = model.settings()
    name = mtscore.metric_name(str(settings.get("model", model.name)), [one.model for one in usable])
    result = Result(
        metric=name,
        value=sum(row["value"] for row in rows) / len(rows),
        n=len(rows),
        per_video=rows,
        protocol=mtscore.protocol(repeats=flags.repeats, instructions=instructions) | {"judge": settings},
        backend={"name": model.name, "answered_by": sorted({one.model for one in usable if one.model})},
        failed=session.failed,
        more={"answers": {"asked": len(answers), "usable": len(usable)}},
    )
    if len(usable) < len(answers):
        console.warn(f"{len(answers) - len(usable)} of {len(answers)} answers could not be used")
    session.finish(
        result,
        [[name, cell(float(result.value)), str(result.n), f"{len(usable)}/{len(answers)}"]],  # type: ignore[arg-type]
        ["metric", "score", "clips", "answers"],
    )


def _text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if not text:
        raise InputError(f"{path}: no text in it")
    return text
