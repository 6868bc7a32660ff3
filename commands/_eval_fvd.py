"""The work of `cogvx eval fvd`: features of two sets of clips, their distance, and how far it can be trusted."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cogvx.errors import UsageError

from ._eval_clips import ClipFile, NetworkFlags, Session, cell, check_free, find_clips, quiet_bars, start

if TYPE_CHECKING:
    from cogvx.evaluation.feature_set import Statistics
    from cogvx.evaluation.features import NetworkSpec, VideoNetwork

_STATISTICS = ".safetensors"


@dataclass(frozen=True, kw_only=True)
class FvdFlags(NetworkFlags):
    """The flags of eval fvd."""

    feature_net: Annotated[
        Literal["i3d", "videomae", "embedded", "efficientnet"],
        typer.Option(
            "--feature-net",
            show_default=True,
            help="i3d: FVD itself, from a TorchScript file. videomae: through transformers. embedded: the dual encoder "
            "of a model's folder. efficientnet: of frames, no download; its number is called fvd-lite.",
        ),
    ] = "efficientnet"
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            metavar="FILE|DIR|REPO",
            show_default=False,
            help="i3d: the TorchScript file. videomae: a folder or repository. embedded: a model's name or folder.",
        ),
    ] = None
    feature_sha256: Annotated[
        str | None,
        typer.Option("--feature-sha256", metavar="HEX", show_default=False, help="Refuse another file of i3d."),
    ] = None
    frames: Annotated[
        int | None,
        typer.Option("--frames", "--num-frames", metavar="N", min=1, show_default=False, help="Frames. Default: 16."),
    ] = None
    stride: Annotated[
        int | None,
        typer.Option("--stride", metavar="N", min=1, show_default=False, help="Take every N-th frame. Default: 1."),
    ] = None
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            metavar="N",
            min=16,
            show_default=False,
            help="Cover and crop frames to NxN first. Default: as read for i3d, the network's size for the others.",
        ),
    ] = None
    dims: Annotated[
        int, typer.Option("--dims", metavar="N", min=1, show_default=True, help="Features of efficientnet.")
    ] = 64
    save_real: Annotated[
        str | None,
        typer.Option(
            "--save-real",
            metavar="FILE.safetensors",
            show_default=False,
            rich_help_panel="Output",
            help="Keep the statistics of REAL; they can stand for it later.",
        ),
    ] = None


def measure(real: str, fake: str, flags: FvdFlags) -> None:
    """Compare two sets of clips; errors are those of find_clips and open_video_network."""
    from cogvx.evaluation.feature_set import compare, doubts
    from cogvx.evaluation.features import open_video_network
    from cogvx.evaluation.result import Result

    check_free(flags.save_real, flags.overwrite)
    session = start(flags)
    if flags.save_real is not None and not flags.save_real.endswith(_STATISTICS):
        raise UsageError(f"--save-real {flags.save_real}: the name must end in {_STATISTICS}")
    if flags.feature_net == "videomae":
        quiet_bars()
    network = open_video_network(network_spec(flags))
    backend, protocol = network.backend(), network.protocol()
    if "file" in backend:
        session.console.note(f"{backend['file']}: sha256 {backend['sha256']}")
    ours, _ = _statistics(real, network, session, flags.save_real)
    theirs, per_video = _statistics(fake, network, session, None)
    found = compare(ours, theirs)
    for doubt in doubts(ours, theirs, metric=network.metric):
        session.console.warn(doubt)
    kernel = network.metric.replace("fvd", "kvd")
    counts = {"n_real": ours.gaussian.count, "n_fake": theirs.gaussian.count}
    result = Result(
        metric=network.metric,
        value=found["fvd"],
        n=theirs.gaussian.count,
        per_video=per_video,
        protocol={**protocol, **counts, "covariance": "biased, float64", "resampling": "none"},
        backend=backend,
        failed=session.failed,
        more={
            kernel: found["kvd"],
            "half_against_half": {"real": found["floor_real"], "fake": found["floor_fake"]},
            "doubts": doubts(ours, theirs, metric=network.metric),
        },
    )
    session.finish(result, _rows(network.metric, kernel, found, counts), ["", "value", "real | real", "fake | fake"])


def network_spec(flags: FvdFlags) -> "NetworkSpec":
    """Return which network the flags ask for, and how its clips are read."""
    from cogvx.evaluation.features import NetworkSpec, Sampling
    from cogvx.generate.options import choose_device

    given = {"num_frames": flags.frames, "stride": flags.stride, "size": flags.size}
    named = {key: value for key, value in given.items() if value is not None}
    if named and flags.feature_net in ("videomae", "efficientnet"):
        named.setdefault("size", 224)
    return NetworkSpec(
        name=flags.feature_net,
        source=flags.weights,
        sha256=flags.feature_sha256,
        sampling=Sampling(**named) if named else None,
        dims=flags.dims,
        device=str(choose_device(flags.device)),
    )


def _statistics(
    source: str, network: "VideoNetwork", session: Session, keep: str | None
) -> "tuple[Statistics, list[dict[str, Any]]]":
    """Return the statistics of a set: read from a file, or computed and perhaps kept."""
    from cogvx.evaluation.feature_set import FeatureSet
    from cogvx.metrics.frechet import save_statistics

    if source.endswith(_STATISTICS) and Path(source).is_file():
        if keep is not None:
            raise UsageError(f"--save-real: {source} is a file of statistics already")
        return _kept(source, network), []
    features = FeatureSet(network.width)
    per_video = []

    def work(clip: ClipFile) -> dict[str, Any]:
        features.add(network.embed([network.read(clip.path, **clip.span)])[0])
        return {"input": clip.name}

    for record in session.each(f"eval fvd {source}", find_clips(source, session), work):
        per_video.append(record)
    statistics = features.statistics()
    if keep is not None:
        about = {"backend": network.backend(), "protocol": network.protocol(), "floor": statistics.floor}
        save_statistics(
            keep,
            statistics.gaussian,
            protocol=about,
            features=statistics.features,
            overwrite=session.flags.overwrite,
        )
        session.console.note(f"statistics written to {keep}")
    return statistics, per_video


def _kept(source: str, network: "VideoNetwork") -> "Statistics":
    """Read a file of statistics that was made in the same way.

    Raises:
        UsageError: It was made with another network, or clips were read otherwise.
    """
    from cogvx.evaluation.feature_set import Statistics
    from cogvx.metrics.frechet import load_statistics

    gaussian, about, features = load_statistics(source)
    for key, now in (("backend", network.backend()), ("protocol", network.protocol())):
        then = about.get(key)
        then = then if isinstance(then, dict) else {}
        # A file may be called otherwise today: its hash tells.
        differ = sorted(one for one in {*now, *then} - {"file", "source"} if now.get(one) != then.get(one))
        if differ:
            raise UsageError(f"{source} was made with another {key}: {', '.join(differ)} differ")
    floor = about.get("floor")
    return Statistics(gaussian, features, floor if isinstance(floor, dict) else {})


def _rows(metric: str, kernel: str, found: dict[str, Any], counts: dict[str, int]) -> list[list[str]]:
    """Return the distances, each beside what half of a set is from the other half."""
    floors = (found["floor_real"], found["floor_fake"])
    rows = [[metric, cell(found["fvd"]), *(cell(floor.get("fvd")) for floor in floors)]]
    rows.append([kernel, cell(found["kvd"]), *(cell(floor.get("kvd")) for floor in floors)])
    halves = [f"n={floor['n']:.0f}" if "n" in floor else "-" for floor in floors]
    rows.append(["clips", f"{counts['n_real']} | {counts['n_fake']}", *halves])
    return rows
