"""`cogvx eval`: how good clips are, in numbers that say how they were measured."""

from typing import Annotated

import typer

from ._eval_clip import ClipFlags
from ._eval_clips import ResultFlags
from ._eval_dynamics import DynamicsFlags
from ._eval_fvd import FvdFlags
from ._eval_human import app as human_app
from ._eval_mtscore import MtscoreFlags
from ._eval_prompts import PromptsFlags
from ._eval_reconstruction import ReconstructionFlags
from ._eval_report import ReportFlags
from ._eval_run import RunFlags
from ._eval_vbench import app as vbench_app
from ._options import with_flags

app = typer.Typer(no_args_is_help=True)
app.add_typer(human_app, name="human")
app.add_typer(vbench_app, name="vbench")


@app.callback()
def evaluate() -> None:
    r"""Measure clips.

    \b
    Examples:
      cogvx eval storyboard world/manifest.jsonl
      cogvx eval storyboard clips/ -o result.json
    """


@app.command()
@with_flags(ResultFlags)
def storyboard(
    source: Annotated[
        str,
        typer.Argument(
            metavar="MANIFEST|DIR", help="A manifest (JSONL; - reads one from stdin), or a folder of generated clips."
        ),
    ],
    flags: ResultFlags,
) -> None:
    r"""Judge clips of Storyboard, the synthetic world: do they show what they were asked to?

    Scene, style, camera, the number of objects, and of each object its kind, colour, size and action are read off the
    pixels alone, by drawing everything that the world can show and keeping what explains the clip best. They are
    compared with the entry's `prompt`, else its `truth`, else its `caption`; in a folder without manifest.jsonl, with
    the prompt in each clip's comment tag. A prompt must be worded as the captions of `cogvx data synth` are; what it
    leaves open is not scored, but for the style (then flat) and the camera (then still).

    accuracy is the share of what was asked for that was right, with its 95 % interval. margin says how clearly: the
    score of what was asked for less the best other one's, as a share of the larger, from -1 to 1; it moves before the
    accuracy does. fit (in the JSON) is how much of the pixels agree with the object seen, 0 to 1. Clips that leave
    doubts are counted. Clips that cannot be judged are no part of the numbers, and end the command with 3.

    \b
    Examples:
      cogvx eval storyboard world/manifest.jsonl
      cogvx sample --prompts prompts.txt -o clips/ && cogvx eval storyboard clips/ -o result.json
      cogvx eval storyboard clips/ --json
    """
    from ._eval_storyboard import measure

    measure(source, flags)


@app.command()
@with_flags(FvdFlags)
def fvd(
    real: Annotated[
        str,
        typer.Argument(metavar="REAL", help="A manifest or folder of real clips, or statistics that --save-real kept."),
    ],
    fake: Annotated[str, typer.Argument(metavar="FAKE", help="A manifest or folder of generated clips.")],
    flags: FvdFlags,
) -> None:
    r"""Compare two sets of clips: the Fréchet distance of their features (FVD), and the kernel distance (KVD).

    Beside each number stands what half of each set is from its other half: what is no larger than that tells nothing.
    Too few clips make every number too large. Only i3d gives FVD; each other network's number has a name of its own.
    Numbers compare only at the same network, frames, sizes and counts, all of which the result states.

    \b
    Examples:
      cogvx eval fvd real/ fake/ --feature-net i3d --weights i3d_torchscript.pt
      cogvx eval fvd real/ fake/ --save-real real.safetensors -o fvd.json
      cogvx eval fvd real.safetensors other/
    """
    from ._eval_fvd import measure

    measure(real, fake, flags)


@app.command()
@with_flags(ClipFlags)
def clip(
    source: Annotated[
        str,
        typer.Argument(metavar="MANIFEST|DIR", help="Clips with their texts: a manifest, or a folder of clips."),
    ],
    flags: ClipFlags,
) -> None:
    r"""Tell how well clips fit their texts, and whether each is found by the other among all.

    A clip's text is its entry's `prompt`, else its `caption`, else the prompt in its comment tag. value is the mean
    cosine. The ranks say more: of all clips, at which place does a text find its own (1 is best)? "centred" takes the
    means of rows and columns out first. Clips with equal texts are never wrong for each other. With the weights of
    CLIP4Clip the number is clip4clip_meanp, with any other CLIP clip_meanp.

    \b
    Examples:
      cogvx eval clip clips/manifest.jsonl
      cogvx eval clip clips/ --backend clip --weights openai/clip-vit-base-patch32 -o clip.json
    """
    from ._eval_clip import measure

    measure(source, flags)


@app.command()
@with_flags(ReconstructionFlags)
def reconstruction(
    source: Annotated[str, typer.Argument(metavar="MANIFEST|DIR", help="The original clips.")],
    decoded: Annotated[
        str | None,
        typer.Argument(
            metavar="DECODED",
            show_default=False,
            help="What became of them: a manifest or folder, paired by file name. Default: a model's VAE codes them.",
        ),
    ] = None,
    *,
    flags: ReconstructionFlags,
) -> None:
    r"""Measure what a VAE keeps of clips: PSNR, SSIM, MS-SSIM, ST-LPIPS or LPIPS, and flicker.

    Flicker is the mean change between frames in grey levels, beside that of the originals; flicker_excess is 0 where
    the changes are those of the original, and the ratio 1. The CogVideoX paper gives flicker without a unit; the two
    readings are what its number may mean, and no more. MS-SSIM needs 176x176 pixels. ST-LPIPS is not LPIPS: their
    numbers do not compare.

    \b
    Examples:
      cogvx eval reconstruction clips/ --model THUDM/CogVideoX-2b
      cogvx eval reconstruction clips/ decoded/ --preset native -o result.json
    """
    from ._eval_reconstruction import measure

    measure(source, decoded, flags)


@app.command()
@with_flags(DynamicsFlags)
def dynamics(
    source: Annotated[str, typer.Argument(metavar="MANIFEST|DIR", help="The clips of one model.")],
    flags: DynamicsFlags,
) -> None:
    r"""Tell how much happens in a model's clips, and how good they are at every amount of it (DEVIL's protocol).

    Each clip gets a number from 0 (a still picture) to 1: from frame to frame (flow, SSIM, perceptual hashes), between
    segments, and over the whole. It is a stated formula of cogvx, not fitted to ratings, hence dynamics@cogvx. range is
    the 99th percentile less the first. controllability says how well the numbers follow the grades of the prompts (the
    entries' `grade`: static, low, medium, high, very_high); 0.5 is chance. dynamics_quality@cogvx is the mean of four
    qualities over twelve equal bins of the number; a bin without clips counts as 0.

    \b
    Examples:
      cogvx eval dynamics clips/manifest.jsonl -o dynamics.json
      cogvx eval dynamics clips/ --quality subject_consistency=vbench.json
    """
    from ._eval_dynamics import measure

    measure(source, flags)


@app.command()
@with_flags(MtscoreFlags)
def mtscore(
    source: Annotated[str, typer.Argument(metavar="MANIFEST|DIR", help="The clips; each of at least 8 frames.")],
    flags: MtscoreFlags,
) -> None:
    r"""Have a language model that sees rate, from 1 to 5, how much clips change, as time-lapse films do.

    Eight frames of each clip are shown, three times, and the mean counts. The number is called mtscore@JUDGE; only the
    judge gpt-4o-2024-05-13 makes it GPT4o-MTScore. Answers without a score are counted and told.

    \b
    Examples:
      cogvx eval mtscore clips/ --lm-model gpt-4o-2024-05-13 -o mtscore.json
      cogvx eval mtscore clips/ --lm-url http://localhost:8000/v1
    """
    from ._eval_mtscore import measure

    measure(source, flags)


@app.command()
@with_flags(PromptsFlags)
def prompts(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|MANIFEST|DIR", help="Prompts (.txt, .jsonl), or a manifest or its folder: its captions."
        ),
    ],
    flags: PromptsFlags,
) -> None:
    r"""Write prompts as rows that `cogvx sample --prompts` reads and that are the manifest of the clips afterwards.

    Each row names its clip, as the manifest's own clip is called or by its number, and a seed. What a row says besides
    (a grade, dimensions of VBench) stays in it, so that the metrics of `cogvx eval` find it; a clip that is missing
    counts as a failure there.

    \b
    Examples:
      cogvx eval prompts held-out/manifest.jsonl -o clips/manifest.jsonl
      cogvx sample --prompts clips/manifest.jsonl -o clips/
      cogvx eval clip clips/
    """
    from ._eval_prompts import write_rows

    write_rows(source, flags)


@app.command()
@with_flags(RunFlags)
def run(
    suite: Annotated[
        str, typer.Argument(metavar="SUITE.toml", help="The suite, or the folder of a run: its suite.toml.")
    ],
    flags: RunFlags,
) -> None:
    r"""Generate, measure and report, all in one: what a suite names, system by system.

    A suite names systems (models, or clips made elsewhere), prompts and metrics. Each step is a command of cogvx of its
    own; --dry-run prints them. Flags, files, models and networks are looked for before the first step. Ready suites are
    in fixtures/suites.

    The same command goes on after a stop, a kill included: a step that is done is passed over if its command, the files
    that it read and made, and the version of cogvx are the same. After a step has failed, those that do not need it
    still run; the command then ends with 3 (with 1 after a fault of cogvx). Clips that another command made are not
    removed without --overwrite. Files of the run: clips/SYSTEM/PROMPTS/, results/SYSTEM/METRIC.json, report/, logs/,
    run.jsonl.

    \b
    Examples:
      cogvx eval run fixtures/suites/tiny.toml --dry-run
      cogvx eval run fixtures/suites/tiny.toml -o evals/tiny
      cogvx eval run fixtures/suites/paper.toml --set systems.0.model=5b
    """
    from ._eval_run import run as run_suite

    run_suite(suite, flags)


@app.command()
@with_flags(ReportFlags)
def report(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]RESULT.json|DIR|RUN...",
            help="Results of `cogvx eval`, folders of them, and run folders of `cogvx train`.",
        ),
    ],
    flags: ReportFlags,
) -> None:
    r"""Put results of several systems side by side, with the paper's, on one page that needs nothing else.

    A system is called NAME, or what the folder of its result is called. Beside every number stand the clips that it is
    made from and its protocol; beside a number of the paper, whether the two may be compared. Of run folders the curves
    are shown, of `cogvx train filter` its table. Clips go into the page, small ones made for it (see --inline-mb).

    Systems are ranked only where every setting is the same; else the command ends with 2 and names the settings, and
    --no-rank shows the numbers without an order. What cannot be read is left out and told, and the command ends with 3.

    \b
    Examples:
      cogvx eval report results/ours/ results/theirs/ -o report
      cogvx eval report ours=fvd.json theirs=fvd2.json runs/dit --clips ours=clips/ --clips theirs=clips2/
      cogvx eval report results/*/ --no-rank --paper all
    """
    from ._eval_report import write

    write(inputs, flags)
