"""`cogvx v2v`: a clip and a prompt to another clip."""

from typing import Annotated, Literal

import typer

from ._options import GenerateFlags, with_flags


@with_flags(GenerateFlags)
def v2v(
    clip: Annotated[str, typer.Argument(metavar="CLIP", help="The clip to start from; - reads it from stdin.")],
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="What the new clip shows.", show_default=False)
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            "--strength",
            metavar="X",
            help="How far to go from CLIP, in (0, 1]; 1 keeps nothing of it. Default: 0.8.",
            show_default=False,
            rich_help_panel="Diffusion",
        ),
    ] = None,
    captioner: Annotated[
        Literal["embedded", "dense", "video"],
        typer.Option(
            "--captioner",
            help="Who captions CLIP without PROMPT: the small captioner of the model, else of the embedded model "
            "(embedded), or language models (--lm; see `cogvx caption`).",
            rich_help_panel="Diffusion",
        ),
    ] = "embedded",
    frame_captioner: Annotated[
        Literal["lm", "words"],
        typer.Option(
            "--frame-captioner",
            help="With --captioner dense: who describes frames, a language model that sees (lm), or words from "
            "networks in packages, without any download (words).",
            rich_help_panel="Diffusion",
        ),
    ] = "lm",
    *,
    flags: GenerateFlags,
) -> None:
    r"""Make a clip from another clip and a prompt.

    Without PROMPT the clip is captioned first, and the caption is the prompt.

    The clip is cut to a frame count that the model can do and resized to the model's size, or to --height and --width.

    \b
    Examples:
      cogvx v2v street.mp4 "a street in the snow" -m 5b
      cogvx v2v street.mp4 "a street at night" --strength 0.6 -o night.mp4
      cogvx v2v street.mp4 -m 5b --captioner video --lm-url http://localhost:8000/v1
    """
    from cogvx.data.video import probe, read_clip, resize_exact, to_video
    from cogvx.errors import UsageError

    from ._caption_one import ClipCaption
    from ._console import quiet_libraries
    from ._generate import Start, make_clips, note_stretch, used
    from ._jobs import Job
    from ._plan import Planned, compare_input, open_session, plan_clips

    quiet_libraries(flags.verbose)
    if strength is not None and not 0 < strength <= 1:
        raise UsageError(f"--strength must be in (0, 1], got {strength:g}")
    session = open_session("v2v", flags, default_model="tiny")
    asked = ClipCaption.of(session, captioner, frame_captioner) if prompt is None and flags.like is None else None
    rules = session.rules
    wanted = flags.frames or session.like.get("num_frames")
    limit = wanted or session.defaults.num_frames
    (info, source, data), about = used(
        clip, lambda data: (probe(data), read_clip(data, max_frames=limit), data), "clip"
    )
    compare_input(session, "clip", about)
    have = len(source.frames)
    num_frames = wanted or rules.floor_frames(have)
    if have < num_frames:
        raise UsageError(f"--frames {wanted}: {clip} has {have} frames; nearest: {rules.floor_frames(have)}")
    if max(info.frames, have) != num_frames:
        session.console.note(f"{clip}: the first {num_frames} of its {max(info.frames, have)} frames are used")
    captioned = None
    if asked is not None:
        prompt, captioned = asked.caption(data, end=num_frames / source.fps if num_frames < info.frames else None)
    base = {"num_frames": num_frames, "fps": source.fps, "strength": 0.8}
    job = Job(prompt or clip, prompt, {"strength": strength} if strength is not None else {})

    def start(item: Planned) -> Start:
        options = item.options
        note_stretch(session, clip, source.frames.shape[1:3], options)
        frames = resize_exact(source.frames[: options.num_frames], options.height, options.width)
        return Start(clip=to_video(frames), inputs={"clip": about}, captioned=captioned)

    make_clips(session, plan_clips(session, [job], base=base), start)
