"""X-CLIP as a classifier of actions: which of many names a clip is nearest to."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange

from cogvx.checkpoints.frame_networks import clip_folder
from cogvx.checkpoints.weights import read_json
from cogvx.errors import InputError, UsageError
from cogvx.evaluation.vbench.networks import (
    CLIP_PIXELS,
    ActionNetwork,
    backend_of,
    load_network,
    load_tokenizer,
    prepared_frames,
)
from cogvx.files import clean

_LEAST = 1e-12
_MAX_BYTES = 1 << 20


def is_xclip(source: str) -> bool:
    """Whether a folder or repository holds an X-CLIP.

    Raises:
        MissingError: It is not here.
    """
    path = clip_folder(source) / "config.json"
    return path.is_file() and read_json(path).get("model_type") == "xclip"


def open_xclip(source: str, labels: Path | None, *, device: torch.device | str = "cpu") -> ActionNetwork:
    """Load an X-CLIP that tells the names of actions apart.

    Its numbers are logits of the share that a name has among all (softmax), since X-CLIP compares names with each
    other; the 0.85 of VBench's rule is then such a share.

    Args:
        source: A folder, or a repository that was downloaded before.
        labels: File of the names, JSON or one a line; VBench's rule wants those of Kinetics-400.
        device: Where it computes.

    Raises:
        UsageError: No labels are given.
        MissingError: It is not here.
        InputError: It, or the labels, cannot be read.

    Source: Ni et al., "Expanding Language-Image Pretrained Models for General Video Recognition" (arXiv 2208.02816).
    """
    import transformers

    if labels is None:
        raise UsageError("an X-CLIP compares clips with names: --action-labels names the file of the classes")
    names = read_labels(labels)
    folder = clip_folder(source)
    network = load_network(transformers.XCLIPModel, folder, "X-CLIP").to(device)
    tokens = load_tokenizer(folder)(list(names), return_tensors="pt", padding=True, truncation=True).to(device)
    side, count = int(network.config.vision_config.image_size), int(network.config.vision_config.num_frames)

    def logits(frames: np.ndarray) -> np.ndarray:
        pixels = rearrange(prepared_frames(frames, side, CLIP_PIXELS, device), "t c h w -> 1 t c h w")
        with torch.inference_mode():
            found = network(pixel_values=pixels, **tokens).logits_per_video[0]
        share = found.double().softmax(dim=0).clamp(_LEAST, 1 - _LEAST)
        return torch.logit(share).cpu().numpy()

    backend: dict[str, Any] = backend_of(source, folder) | {"labels": len(names), "share": "softmax over the labels"}
    return ActionNetwork("xclip", count, names, logits, backend)


def read_labels(path: Path) -> tuple[str, ...]:
    """Return the names of classes in a file: a JSON list, or one a line.

    Raises:
        InputError: It cannot be read, or holds fewer than two names.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path}: too large for a list of names")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {clean(str(path))}: {getattr(error, 'strerror', None) or error}") from error
    if text.lstrip().startswith("["):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{clean(str(path))}: not JSON") from error
    else:
        found = [line.strip() for line in text.splitlines() if line.strip()]
    if not all(isinstance(name, str) and name.strip() for name in found) or len(set(found)) < 2:
        raise InputError(f"{clean(str(path))}: at least two names are needed, each a text")
    return tuple(name.strip() for name in found)
