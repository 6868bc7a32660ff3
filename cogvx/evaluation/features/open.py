"""Opens a network for clips by its name."""

from dataclasses import dataclass
from pathlib import Path

import torch

from cogvx.errors import UsageError
from cogvx.evaluation.features.network import NETWORKS, Sampling, VideoNetwork
from cogvx.files import clean


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """Which network, and how its clips are read.

    Attributes:
        name: "i3d", "videomae", "embedded" or "efficientnet".
        source: The TorchScript file of i3d; a folder or repository of videomae; a model's name or folder of embedded.
        sha256: What the file's sha256 must be; None: any.
        sampling: Which frames; None: those of the network's own protocol. The embedded one takes no other.
        dims: Features that efficientnet's are projected to.
        device: Where it computes.
    """

    name: str
    source: str | None = None
    sha256: str | None = None
    sampling: Sampling | None = None
    dims: int = 64
    device: str = "cpu"


def open_video_network(spec: NetworkSpec) -> VideoNetwork:
    """Load a network for clips; nothing is downloaded.

    Raises:
        UsageError: There is no such network, or it needs a source or takes none.
        MissingError: Its package or its files are not here.
        InputError: Its files are damaged.
        RefusedError: A file has another sha256 than the one asked for.
    """
    from cogvx.evaluation.features.efficientnet import EfficientNetClips
    from cogvx.evaluation.features.embedded import EmbeddedClips
    from cogvx.evaluation.features.i3d import I3D
    from cogvx.evaluation.features.videomae import VideoMAE

    device = torch.device(spec.device)
    if spec.sha256 is not None and spec.name != "i3d":
        raise UsageError("--feature-sha256 is of the file of i3d")
    if spec.name == "i3d":
        return I3D(
            Path(_source(spec, "the TorchScript file of an I3D")), spec.sampling or Sampling(), device, spec.sha256
        )
    if spec.name == "videomae":
        return VideoMAE(_source(spec, "a folder or repository with a VideoMAE"), spec.sampling, device)
    if spec.name == "embedded":
        if spec.sampling is not None:
            raise UsageError(
                "the embedded network reads clips as it was trained: --frames, --stride, --size go not with it"
            )
        return EmbeddedClips.open(spec.source or "tiny", device)
    if spec.name == "efficientnet":
        if spec.source is not None:
            raise UsageError("efficientnet comes from its package; it takes no --weights")
        return EfficientNetClips.open(spec.sampling or Sampling(size=224), spec.dims, device)
    raise UsageError(f"no such network for clips: {clean(spec.name)}; take {', '.join(NETWORKS)}")


def _source(spec: NetworkSpec, wanted: str) -> str:
    if spec.source is None:
        raise UsageError(f"{spec.name} needs --weights: {wanted}")
    return spec.source
