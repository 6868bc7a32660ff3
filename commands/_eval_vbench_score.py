"""The work of `cogvx eval vbench score`: open the networks of the dimensions, score the clips, report."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ._eval_clips import ResultFile, check_free
from ._eval_vbench_flags import AllowMissing, Dimensions, FlickerVideos, FullInfo, Videos, show
from ._language import LanguageFlags
from ._options import Device, Json, Overwrite, Quiet, Verbose

if TYPE_CHECKING:
    from cogvx.evaluation.result import Result
    from cogvx.evaluation.vbench.measure import Dimension
    from cogvx.evaluation.vbench.score import DimensionScore, Scores


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


def measure(folder: Path, flags: ScoreFlags) -> None:
    """Score the clips of a folder.

    Raises:
        typer.Exit: With 3, when some clips could not be used.
        UsageError: A dimension is not computed here, or the output exists.
        InputError: Videos of the suite are missing.
        MissingError: A network is not here.
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
