"""`cogvx eval vbench`: the suite's prompts, scores computed here, the official package's scores, totals."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ._eval_clips import ResultFile, check_free
from ._language import LanguageFlags
from ._options import Device, Json, Overwrite, Quiet, Verbose, with_flags

if TYPE_CHECKING:
    from cogvx.evaluation.result import Result
    from cogvx.evaluation.vbench.measure import Dimension
    from cogvx.evaluation.vbench.score import DimensionScore, Scores

    from ._console import Console

app = typer.Typer(no_args_is_help=True)

FullInfo = Annotated[
    Path | None,
    typer.Option(
        "--full-info",
        metavar="FILE",
        show_default=False,
        help="VBench_full_info.json of VBench's repository. Default: that of the installed package vbench.",
    ),
]
Dimensions = Annotated[
    str,
    typer.Option(
        "--dimensions",
        "--dimension",
        metavar="paper|all|NAME,...",
        help="VBench's dimensions; paper: the five that CogVideoX reports.",
    ),
]
Videos = Annotated[int, typer.Option("--videos", metavar="N", min=1, max=100, help="Videos a prompt.")]
FlickerVideos = Annotated[
    int,
    typer.Option("--flicker-videos", metavar="N", min=1, max=100, help="Videos a prompt of temporal_flickering."),
]
AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", help="Score what is there where videos are missing, and report the coverage.")
]


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


@dataclass(frozen=True, kw_only=True)
class ScoreFlags(LanguageFlags):
    """The flags of `cogvx eval vbench score`."""

    full_info: FullInfo = None
    dimensions: Dimensions = "temporal_flickering,dynamic_degree"
    videos: Videos = 5
    flicker_videos: FlickerVideos = 25
    allow_missing: AllowMissing = False
    flow: Annotated[
        Literal["dis", "raft"],
        typer.Option("--flow", help="Motion: OpenCV's DIS, or RAFT through torchvision (a GPU is needed in practice)."),
    ] = "dis"
    static_filter: Annotated[
        bool,
        typer.Option("--static-filter/--no-static-filter", help="In temporal_flickering, leave out clips that move."),
    ] = True
    clip: Annotated[
        str | None, typer.Option("--clip", metavar="DIR|REPO", show_default=False, help="CLIP. Default: ViT-B/32.")
    ] = None
    dino: Annotated[
        str | None, typer.Option("--dino", metavar="DIR|REPO", show_default=False, help="DINO. Default: ViT-B/16.")
    ] = None
    actions: Annotated[
        str | None,
        typer.Option(
            "--actions",
            metavar="DIR|REPO",
            show_default=False,
            help="Classifier of Kinetics-400, or an X-CLIP. Default: VideoMAE.",
        ),
    ] = None
    action_labels: Annotated[
        Path | None,
        typer.Option(
            "--action-labels",
            metavar="FILE",
            show_default=False,
            help="With an X-CLIP: the names of the classes, JSON or one a line.",
        ),
    ] = None
    detector: Annotated[
        str | None,
        typer.Option(
            "--detector", metavar="DIR|REPO", show_default=False, help="Detector of COCO. Default: RT-DETR R50."
        ),
    ] = None
    detections: Annotated[
        Path | None,
        typer.Option(
            "--detections",
            metavar="FILE.jsonl",
            show_default=False,
            help='Objects that something else found: {"video": NAME, "objects": [[...], ...]}, a list a frame.',
        ),
    ] = None
    captions: Annotated[
        Path | None,
        typer.Option(
            "--captions",
            metavar="FILE.jsonl",
            show_default=False,
            help='For scene, captions that something else wrote: {"video": NAME, "captions": [...]}, one a frame. '
            "Default: the language model is asked.",
        ),
    ] = None
    device: Device = None
    output: ResultFile = None
    overwrite: Overwrite = False
    json: Json = False
    quiet: Quiet = False
    verbose: Verbose = False


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
    from cogvx.evaluation.vbench.coverage import cover
    from cogvx.evaluation.vbench.score import DimensionScore
    from cogvx.evaluation.vbench.score import score as score_all
    from cogvx.evaluation.vbench.suite import check_dimensions, find_full_info, read_suite

    from ._console import Console, quiet_libraries

    console = Console(flags.quiet, flags.verbose, flags.json, silent_stdout=flags.output == "-")
    quiet_libraries(flags.verbose)
    check_free(flags.output, flags.overwrite)
    chosen = check_dimensions(flags.dimensions)
    suite = read_suite(find_full_info(flags.full_info))
    covers = [cover(folder, suite, name, videos=flags.videos, flicker_videos=flags.flicker_videos) for name in chosen]
    for one in covers:
        one.require(allow_missing=flags.allow_missing)
    opened = Networks(flags)
    scores = [
        DimensionScore(
            opened.dimension(one.dimension),
            one,
            most=flags.videos if one.dimension == "temporal_flickering" and flags.static_filter else None,
        )
        for one in covers
    ]
    with console.progress("eval vbench") as report:
        found = score_all(
            scores,
            report=lambda done, total: report("clip", done, total),
            on_failure=lambda name, error: console.failure(name, error, str(error)),
        )
    for line in found.remarks():
        console.warn(line)
    result = _score_result(found, suite_sha256=suite.sha256, flags=flags)
    show(result, console, flags.output, overwrite=flags.overwrite, rows=[_score_row(one) for one in found.dimensions])
    if found.failures:
        raise typer.Exit(3)


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


def show(
    result: "Result",
    console: "Console",
    output: str | None,
    *,
    overwrite: bool,
    rows: list[list[str]],
    header: list[str] | None = None,
) -> None:
    """Print a result as a table, or with --json as an object without its clips, and write its file."""
    from cogvx.evaluation.result import write_result

    from ._outputs import write_stdout

    if output == "-":
        write_stdout(result.to_json().encode())
        return
    if output is not None:
        write_result(output, result, overwrite=overwrite)
    if console.json:
        console.result("", {key: value for key, value in result.to_dict().items() if key != "per_video"})
    else:
        console.table(rows, header=header or ["metric", "score", "videos", "coverage", "network"])
    if output is not None:
        console.note(f"written to {output}")


def _score_row(one: "DimensionScore") -> list[str]:
    value = "-" if one.value is None else f"{one.value:.4f}"
    return [
        one.dimension.metric,
        value,
        str(one.counted),
        f"{one.coverage.share:.1%}",
        str(one.dimension.backend.get("name", "none")),
    ]


def _score_result(found: "Scores", *, suite_sha256: str, flags: ScoreFlags) -> "Result":
    from cogvx.evaluation.result import Result

    return Result(
        metric="vbench",
        value=found.values(),
        n=len(found.per_video),
        per_video=found.per_video,
        protocol={
            "suite_sha256": suite_sha256,
            "videos": flags.videos,
            "dimensions": {one.dimension.metric: one.dimension.protocol for one in found.dimensions},
            "set": {"clips_for_vbench_long": found.long},
        },
        backend={one.dimension.metric: one.dimension.backend for one in found.dimensions},
        failed=found.failures,
        more={"dimensions": {one.dimension.name: one.to_dict() for one in found.dimensions}},
    )


class Networks:
    """Opens what the chosen dimensions look through, each once."""

    def __init__(self, flags: ScoreFlags) -> None:
        from cogvx.generate.options import choose_device

        self.flags = flags
        self.device = choose_device(flags.device)
        self.open: dict[str, Any] = {}

    def dimension(self, name: str) -> "Dimension":
        """Return one dimension, ready to judge.

        Raises:
            UsageError: It is not computed here.
            MissingError: Its network is not here.
        """
        from cogvx.errors import UsageError
        from cogvx.evaluation.vbench import captions, measure, networks, xclip

        flags = self.flags
        if name == "temporal_flickering":
            return measure.temporal_flickering(self._flow() if flags.static_filter else None)
        if name == "dynamic_degree":
            return measure.dynamic_degree(self._flow())
        if name in ("appearance_style", "background_consistency"):
            clip = self._once(
                "clip", lambda: networks.open_clip(flags.clip or networks.CLIP_NETWORK, device=self.device)
            )
            own = flags.clip in (None, networks.CLIP_NETWORK)
            if name == "appearance_style":
                return measure.appearance_style(clip, official=own)
            return measure.consistency(name, clip, official=own)
        if name == "subject_consistency":
            own = flags.dino in (None, networks.DINO_NETWORK)
            return measure.consistency(
                name, networks.open_dino(flags.dino or networks.DINO_NETWORK, device=self.device), official=own
            )
        if name == "human_action":
            source = flags.actions or networks.ACTION_NETWORK
            if xclip.is_xclip(source):
                return measure.human_action(xclip.open_xclip(source, flags.action_labels, device=self.device))
            return measure.human_action(networks.open_actions(source, device=self.device))
        if name in ("multiple_objects", "object_class"):
            if flags.detections is not None:
                table = captions.read_frames_table(flags.detections, "objects")
                return measure.from_detections(table, flags.detections.stem, dimension=name)
            source = flags.detector or networks.OBJECT_NETWORK
            detector = self._once("objects", lambda: networks.open_objects(source, device=self.device))
            return measure.multiple_objects(detector, name=name)
        if name == "scene":
            if flags.captions is not None:
                return measure.from_captions(
                    captions.read_frames_table(flags.captions, "captions"), flags.captions.stem
                )
            from cogvx.language.ask import open_language_model

            from ._language import language_spec

            return measure.scene(captions.AskedCaptioner(open_language_model(language_spec(flags))))
        raise UsageError(f"{name} is not computed here; `cogvx eval vbench official` runs the official package")

    def _flow(self) -> Any:
        from cogvx.evaluation.vbench import networks

        return self._once("flow", lambda: networks.open_flow(self.flags.flow, device=self.device))

    def _once(self, key: str, make: Any) -> Any:
        if key not in self.open:
            self.open[key] = make()
        return self.open[key]
