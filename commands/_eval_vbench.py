"""`cogvx eval vbench`: the suite's prompts, scores computed here, the official package's scores, totals."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ._eval_clips import ResultFile, check_free
from ._eval_vbench_flags import AllowMissing, Dimensions, FlickerVideos, FullInfo, Videos, show
from ._eval_vbench_score import ScoreFlags
from ._options import Json, Overwrite, Quiet, Verbose, with_flags

app = typer.Typer(no_args_is_help=True)


@app.callback()
def vbench() -> None:
    r"""Score clips as VBench does.

    A number bears the name of one of VBench's dimensions only if it is computed by its rule and through its network;
    with another network the name says so, as in dynamic_degree@dis.

    \b
    Examples:
      cogvx eval vbench prompts VBench_full_info.json -o prompts.jsonl
      cogvx sample --prompts prompts.jsonl -m 2b -o clips/
      cogvx eval vbench score clips/ --full-info VBench_full_info.json --dimensions dynamic_degree -o result.json
    """


@app.command()
def prompts(
    full_info: Annotated[
        Path | None,
        typer.Argument(metavar="[FULL_INFO.json]", help="Default: that of the installed package vbench."),
    ] = None,
    dimensions: Dimensions = "paper",
    videos: Videos = 5,
    flicker_videos: FlickerVideos = 25,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Of the first video.")] = 0,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            "--output-path",
            metavar="FILE",
            rich_help_panel="Output",
            show_default=False,
            help="Write the rows there, JSON a line. Default: stdout.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    r"""Write the suite's prompts in the form that `cogvx sample --prompts` reads: a row a video.

    Videos get their official names, PROMPT-0.mp4 and so on, and each a seed of its own: --seed + 100 k + i for video i
    of prompt k, whatever dimensions are chosen. `cogvx upsample` keeps the names.

    \b
    Examples:
      cogvx eval vbench prompts VBench_full_info.json -o prompts.jsonl
      cogvx eval vbench prompts --dimensions temporal_flickering -o flicker.jsonl
    """
    import json as json_module
    import sys

    from cogvx.evaluation.vbench.suite import check_dimensions, find_full_info, read_suite, sample_rows
    from cogvx.files import write_text

    from ._console import Console

    chosen = check_dimensions(dimensions)
    suite = read_suite(find_full_info(full_info))
    rows = list(sample_rows(suite, chosen, seed=seed, videos=videos, flicker_videos=flicker_videos))
    text = "".join(json_module.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    console = Console(quiet, verbose, json, silent_stdout=output in (None, "-"))
    if output in (None, "-"):
        sys.stdout.write(text)
    else:
        write_text(str(output), text, overwrite=overwrite)
    texts = len({row["vbench"]["prompt"] for row in rows})
    console.note(f"{len(rows)} videos of {texts} prompts, {len(chosen)} dimensions")
    console.result(output, {"output": output, "videos": len(rows), "prompts": texts, "dimensions": list(chosen)})


@app.command()
@with_flags(ScoreFlags)
def score(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Clips with the official names, PROMPT-0.mp4.")],
    flags: ScoreFlags,
) -> None:
    r"""Score a folder of clips in the dimensions that are computed here.

    Exact, without a network: temporal_flickering (with --no-static-filter). By VBench's rule and network:
    background_consistency, appearance_style (CLIP ViT-B/32), subject_consistency (DINO ViT-B/16), dynamic_degree with
    --flow raft. By VBench's rule with another network, and named so: dynamic_degree@dis, human_action@...,
    multiple_objects@..., object_class@..., scene@.... The others need `cogvx eval vbench official`.

    All videos of the suite have to be there, else a dimension is refused; --allow-missing reports the coverage instead.

    \b
    Examples:
      cogvx eval vbench score clips/ --full-info VBench_full_info.json --dimensions dynamic_degree -o result.json
      cogvx eval vbench score clips/ --dimensions appearance_style --clip openai/clip-vit-base-patch32
    """
    from ._eval_vbench_score import measure

    measure(folder, flags)


@app.command()
def official(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR|FILE", help="Clips with the official names; or, without --vbench-python, *_eval_results.json."
        ),
    ],
    vbench_python: Annotated[
        Path | None,
        typer.Option(
            "--vbench-python",
            metavar="FILE",
            show_default=False,
            help="The Python of an environment with the package vbench. Without it, DIR has its result files.",
        ),
    ] = None,
    full_info: FullInfo = None,
    dimensions: Dimensions = "paper",
    videos: Videos = 5,
    allow_missing: AllowMissing = False,
    work: Annotated[
        Path | None,
        typer.Option("--work", metavar="DIR", show_default=False, help="For vbench's own files. Default: DIR/vbench."),
    ] = None,
    device: Annotated[str, typer.Option("--device", metavar="cuda|cpu", help="Where vbench computes.")] = "cuda",
    output: ResultFile = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    r"""Run the official package vbench in an environment of its own, or read what it wrote.

    The package scores the videos that are there and only warns of others; here missing ones are an error, or with
    --allow-missing are reported.

    \b
    Examples:
      cogvx eval vbench official clips/ --vbench-python ~/vbench/bin/python --full-info VBench_full_info.json
      cogvx eval vbench official results/x_eval_results.json --full-info VBench_full_info.json -o result.json
    """
    from cogvx.errors import InputError, UsageError
    from cogvx.evaluation.result import Result
    from cogvx.evaluation.vbench.coverage import cover
    from cogvx.evaluation.vbench.official import official_command, read_official, run_official
    from cogvx.evaluation.vbench.suite import check_dimensions, find_full_info, read_suite, video_name

    from ._console import Console

    console = Console(quiet, json=json, silent_stdout=output == "-")
    check_free(output, overwrite)
    info = find_full_info(full_info)
    suite = read_suite(info)
    chosen = check_dimensions(dimensions)
    if vbench_python is None:
        found = read_official(folder)
    else:
        if not vbench_python.is_file():
            raise UsageError(f"--vbench-python {vbench_python}: no such file")
        for name in chosen:
            cover(folder, suite, name, videos=videos, flicker_videos=videos).require(allow_missing=allow_missing)
        place = work or folder / "vbench"
        console.note(f"vbench scores {len(chosen)} dimensions; its files go to {place}")
        command = official_command(vbench_python, folder, info, place, dimensions=chosen, device=device)
        found = run_official(command, place)
    rows, coverage = [], {}
    per_video: dict[str, dict[str, Any]] = {}
    for one in found:
        wanted = {video_name(prompt.text, index) for prompt in suite.of(one.dimension) for index in range(videos)}
        missing = sorted(wanted - set(one.videos))
        if missing and not allow_missing:
            raise InputError(
                f"{one.dimension}: {len(missing)} of {len(wanted)} videos are missing ({missing[0]!r}, ...); "
                "--allow-missing reports the coverage instead"
            )
        coverage[one.dimension] = len(wanted & set(one.videos)) / len(wanted) if wanted else 0.0
        for name, value in one.videos.items():
            row = per_video.setdefault(name, {"input": name, "value": {}})
            row["value"][one.dimension] = value
        rows.append(
            [one.dimension, f"{one.score:.4f}", str(len(one.videos)), f"{coverage[one.dimension]:.1%}", "vbench"]
        )
    result = Result(
        metric="vbench",
        value={one.dimension: one.score for one in found},
        n=len(per_video),
        per_video=list(per_video.values()),
        protocol={"suite_sha256": suite.sha256, "videos": videos, "mode": "vbench_standard"},
        backend={"name": "the official package vbench, in its own environment"},
        more={"dimension_coverage": coverage},
    )
    show(result, console, output, overwrite=overwrite, rows=rows)


@app.command()
def total(
    results: Annotated[list[Path], typer.Argument(metavar="RESULT.json...", help="Results of score and official.")],
    missing_as_zero: Annotated[
        bool, typer.Option("--missing-as-zero", help="Count missing dimensions as raw 0, as VBench's script does.")
    ] = False,
    output: ResultFile = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    r"""Work out VBench's quality, semantic and total score from the scores of its sixteen dimensions.

    \b
    Examples:
      cogvx eval vbench total ours.json official.json
    """
    from cogvx.errors import InputError
    from cogvx.evaluation.result import Result, read_result
    from cogvx.evaluation.vbench.totals import totals

    from ._console import Console

    console = Console(quiet, verbose, json, silent_stdout=output == "-")
    check_free(output, overwrite)
    scores: dict[str, float] = {}
    for path in results:
        found = read_result(path)
        if not found.metric.startswith("vbench") or not isinstance(found.value, dict):
            raise InputError(f"{path}: no result of `cogvx eval vbench`, but of {found.metric}")
        for name, value in found.value.items():
            if name in scores:
                raise InputError(f"{path}: {name} is in another of the results too")
            if value is not None:
                scores[name] = value
    found_totals = totals(scores, missing_as_zero=missing_as_zero)
    if found_totals.substitutes:
        console.warn(f"not comparable with VBench's: {', '.join(found_totals.substitutes.values())}")
    table = found_totals.to_dict()
    result = Result(
        metric="vbench_total@cogvx" if found_totals.substitutes else "vbench_total",
        value={key: table[key] for key in ("quality", "semantic", "total")},
        n=len(scores),
        per_video=[],
        protocol={"missing_as_zero": missing_as_zero, "dimensions": sorted(scores)},
        backend={},
        more={key: table[key] for key in ("normalised", "missing", "substitutes")},
    )
    rows = [[key, f"{scores[key]:.4f}", f"{100 * table['normalised'][key.partition('@')[0]]:.2f}"] for key in scores]
    rows += [
        [key, "", "-" if table[key] is None else f"{100 * table[key]:.2f}"] for key in ("quality", "semantic", "total")
    ]
    show(result, console, output, overwrite=overwrite, rows=rows, header=["dimension", "raw", "normalised"])
    if found_totals.missing and not missing_as_zero:
        console.note(f"{len(found_totals.missing)} dimensions are missing: {', '.join(found_totals.missing)}")
