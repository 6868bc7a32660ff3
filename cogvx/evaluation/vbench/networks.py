"""The networks that VBench's rules look through, or their stand-ins: optical flow, CLIP, DINO, actions, objects.

All come from folders or from what was downloaded before; nothing is fetched here, and no pickle is read.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from cogvx.checkpoints.frame_networks import clip_folder
from cogvx.checkpoints.hashes import weights_sha256
from cogvx.data.signals.flow import dis_flow
from cogvx.data.signals.sample import luma
from cogvx.data.signals.signal import need
from cogvx.errors import InputError, MissingError, UsageError
from cogvx.evaluation.vbench.rules import FlowOf
from cogvx.files import clean

ACTION_NETWORK = "MCG-NJU/videomae-base-finetuned-kinetics"
CLIP_NETWORK = "openai/clip-vit-base-patch32"
DINO_NETWORK = "facebook/dino-vitb16"
OBJECT_NETWORK = "PekingU/rtdetr_r50vd"

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP_PIXELS = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_BATCH = 16
_RAFT_ROUNDS = 20
_RAFT_LEAST = 128  # pixels a side that its coarsest correlations need
# What some detectors call the classes of COCO otherwise.
_COCO_NAMES = {
    "motorbike": "motorcycle",
    "aeroplane": "airplane",
    "sofa": "couch",
    "pottedplant": "potted plant",
    "diningtable": "dining table",
    "tvmonitor": "tv",
    "traffic_light": "traffic light",
}


@dataclass(frozen=True)
class FlowNetwork:
    """Something that finds motion between two frames.

    Attributes:
        name: "dis" or "raft".
        flow: The function.
        backend: What it is.
    """

    name: str
    flow: FlowOf
    backend: dict[str, Any]


@dataclass(frozen=True)
class FrameFeatures:
    """Something that describes pictures by vectors, and perhaps words.

    Attributes:
        images: Takes frames, uint8 (t h w 3), to features (t d).
        texts: Takes a text to features (d,); None if it knows no words.
        backend: What it is.
    """

    images: Callable[[np.ndarray], np.ndarray]
    texts: Callable[[str], np.ndarray] | None
    backend: dict[str, Any]


@dataclass(frozen=True)
class ActionNetwork:
    """A classifier of actions.

    Attributes:
        name: Of its kind, such as "videomae"; results bear it.
        num_frames: That it looks at.
        labels: Names of its classes.
        logits: Takes frames, uint8 (num_frames h w 3), to a number a class.
        backend: What it is.
    """

    name: str
    num_frames: int
    labels: tuple[str, ...]
    logits: Callable[[np.ndarray], np.ndarray]
    backend: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ObjectNetwork:
    """A detector of objects.

    Attributes:
        name: Of its kind, such as "rtdetr"; results bear it.
        detect: Takes a frame, uint8 (h w 3), to the names of the classes in it, as COCO has them.
        backend: What it is, with the least score of a detection.
    """

    name: str
    detect: Callable[[np.ndarray], set[str]]
    backend: dict[str, Any] = field(default_factory=dict)


def open_flow(engine: Literal["dis", "raft"], *, device: torch.device | str = "cpu") -> FlowNetwork:
    """Open an estimator of optical flow at the frames' full size.

    Args:
        engine: "dis": OpenCV's Dense Inverse Search, medium. "raft": torchvision's raft_large with weights C_T_V1, 20
            rounds, for which a GPU is needed in practice.
        device: Of RAFT.

    Raises:
        MissingError: A package or the weights are missing.
    """
    if engine == "dis":
        dis = dis_flow("medium")
        return FlowNetwork(
            "dis",
            lambda first, second: dis(*luma(np.stack([first, second]))),
            {"name": "OpenCV DIS, medium, no network"},
        )
    models = need("torchvision.models.optical_flow", extra="metrics", what="--flow raft")
    try:
        network = models.raft_large(weights=models.Raft_Large_Weights.C_T_V1, progress=False).eval().to(device)
    except OSError as error:  # of urllib: the weights are fetched when they are first used
        raise MissingError(f"--flow raft: its weights cannot be fetched: {error}") from error

    def flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        height, width, _ = first.shape
        down, right = (max(-(-size // 8) * 8, _RAFT_LEAST) - size for size in (height, width))
        edges = (right // 2, right - right // 2, down // 2, down - down // 2)
        pair = [
            functional.pad(
                rearrange(torch.from_numpy(one.copy()), "h w c -> 1 c h w").to(device).float() / 127.5 - 1,
                edges,
                mode="replicate",
            )
            for one in (first, second)
        ]
        with torch.inference_mode():
            found = network(*pair, num_flow_updates=_RAFT_ROUNDS)[-1][0]
        found = found[:, edges[2] : edges[2] + height, edges[0] : edges[0] + width]
        return rearrange(found, "c h w -> h w c").cpu().numpy()

    return FlowNetwork("raft", flow, {"name": "torchvision raft_large C_T_V1", "rounds": _RAFT_ROUNDS})


def open_clip(source: str = CLIP_NETWORK, *, device: torch.device | str = "cpu") -> FrameFeatures:
    """Load a CLIP with both its sides; VBench's is ViT-B/32.

    Raises:
        MissingError: It is not here.
        InputError: It cannot be loaded.
    """
    import transformers

    folder = clip_folder(source)
    vision = load_network(transformers.CLIPVisionModelWithProjection, folder, "CLIP").to(device)
    text = load_network(transformers.CLIPTextModelWithProjection, folder, "CLIP").to(device)
    tokenizer = load_tokenizer(folder)
    side = int(vision.config.image_size)

    def images(frames: np.ndarray) -> np.ndarray:
        def embed(batch: Tensor) -> Tensor:
            pixels = crop(resize_short(batch, side, mode="bicubic"), side)
            return vision(pixel_values=normalised(pixels, *CLIP_PIXELS)).image_embeds

        return _in_batches(frames, embed, device)

    def texts(words: str) -> np.ndarray:
        tokens = tokenizer([words], return_tensors="pt", truncation=True).to(device)
        with torch.inference_mode():
            return text(**tokens).text_embeds[0].float().cpu().numpy()

    return FrameFeatures(images, texts, backend_of(source, folder))


def open_dino(source: str = DINO_NETWORK, *, device: torch.device | str = "cpu") -> FrameFeatures:
    """Load a vision transformer whose first token describes a picture; VBench's is DINO ViT-B/16.

    Raises:
        MissingError: It is not here.
        InputError: It cannot be loaded.
    """
    import transformers

    folder = clip_folder(source)
    network = load_network(transformers.ViTModel, folder, "DINO", add_pooling_layer=False).to(device)
    side = int(network.config.image_size)

    def images(frames: np.ndarray) -> np.ndarray:
        def embed(batch: Tensor) -> Tensor:
            pixels = normalised(resize_short(batch, side, mode="bilinear"), *_IMAGENET)
            return network(pixel_values=pixels, interpolate_pos_encoding=True).last_hidden_state[:, 0]

        return _in_batches(frames, embed, device)

    return FrameFeatures(images, None, backend_of(source, folder))


def open_actions(source: str = ACTION_NETWORK, *, device: torch.device | str = "cpu") -> ActionNetwork:
    """Load a classifier of actions (VideoMAE, TimeSformer, ViViT) that knows the classes of Kinetics-400.

    Raises:
        MissingError: It is not here.
        InputError: It cannot be loaded.
    """
    import transformers

    folder = clip_folder(source)
    network = load_network(transformers.AutoModelForVideoClassification, folder, "classifier of actions").to(device)
    config = network.config
    side = int(config.image_size)
    labels = tuple(str(config.id2label[one]).replace("_", " ") for one in range(len(config.id2label)))

    def logits(frames: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            found = network(pixel_values=prepared_frames(frames, side, _IMAGENET, device)[None]).logits[0]
        return found.float().cpu().numpy()

    return ActionNetwork(str(config.model_type), int(config.num_frames), labels, logits, backend_of(source, folder))


def open_objects(
    source: str = OBJECT_NETWORK, *, least: float = 0.5, device: torch.device | str = "cpu"
) -> ObjectNetwork:
    """Load a detector that knows the classes of COCO: the RT-DETR and the DETR kinds.

    Args:
        source: A folder or a repository.
        least: Score that a detection needs.
        device: Where to compute.

    Raises:
        MissingError: It is not here.
        InputError: It cannot be loaded.
        UsageError: It is of another kind.
    """
    import transformers

    folder = clip_folder(source)
    network = load_network(transformers.AutoModelForObjectDetection, folder, "detector").to(device)
    kind = str(network.config.model_type)
    square = kind in ("rt_detr", "rt_detr_v2", "d_fine")
    if not square and kind not in ("detr", "conditional_detr", "yolos"):
        raise UsageError(
            f"{clean(source)}: detectors of the kind {clean(kind)} are not known here; take RT-DETR or DETR"
        )
    names = {int(one): _COCO_NAMES.get(str(name), str(name)) for one, name in network.config.id2label.items()}

    def detect(frame: np.ndarray) -> set[str]:
        picture = _tensor(frame[None], device)
        if square:
            pixels = functional.interpolate(picture, size=(640, 640), mode="bilinear", antialias=True) / 255
        else:
            pixels = normalised(_within(picture, short=800, long=1333), *_IMAGENET)
        with torch.inference_mode():
            found = network(pixel_values=pixels).logits[0].float()
        softmax = kind in ("detr", "yolos")  # with a class of its own for "nothing", the last
        scores = found.softmax(-1)[:, :-1] if softmax else found.sigmoid()
        return {names[int(one)] for one in (scores > least).any(0).nonzero()[:, 0] if int(one) in names}

    return ObjectNetwork(kind.replace("_", ""), detect, backend_of(source, folder) | {"least": least})


def resize_short(frames: Tensor, side: int, *, mode: str) -> Tensor:
    """Resize so that the shorter side has a length, without smoothing, and back to whole grey levels.

    Args:
        frames: (b 3 h w), 0 to 255.
        side: Pixels; the longer side is rounded down.
        mode: "bilinear" or "bicubic".
    """
    height, width = frames.shape[-2:]
    short = min(height, width)
    size = (int(side * height / short), int(side * width / short))
    resized = functional.interpolate(frames, size=size, mode=mode, align_corners=False)
    return resized.round().clamp(0, 255)


def crop(frames: Tensor, side: int) -> Tensor:
    """Cut the middle square out of (b 3 h w), both sides at least as long."""
    top, left = (round((size - side) / 2) for size in frames.shape[-2:])
    return frames[..., top : top + side, left : left + side]


def normalised(frames: Tensor, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Tensor:
    """Take (b 3 h w) from 0 to 255 to what networks were trained with."""
    shift, scale = (torch.tensor(one, device=frames.device).view(1, 3, 1, 1) for one in (mean, deviation))
    return (frames / 255 - shift) / scale


def prepared_frames(
    frames: np.ndarray,
    side: int,
    statistics: tuple[tuple[float, float, float], tuple[float, float, float]],
    device: torch.device | str,
) -> Tensor:
    """Return frames, uint8 (t h w 3), as classifiers of actions take them: (t 3 side side), resized, cropped, scaled.

    Args:
        frames: Of a clip.
        side: Pixels; the shorter side is resized to 256 of 224 parts of it, as VBench does.
        statistics: Mean and deviation of the pixels in training.
        device: Where they go.
    """
    pixels = crop(resize_short(_tensor(frames, device), round(side * 256 / 224), mode="bilinear"), side)
    return normalised(pixels, *statistics)


def _within(picture: Tensor, *, short: int, long: int) -> Tensor:
    """Resize (1 3 h w) to a shorter side, or less where the longer one would be too long."""
    height, width = picture.shape[-2:]
    scale = min(short / min(height, width), long / max(height, width))
    size = (round(height * scale), round(width * scale))
    return functional.interpolate(picture, size=size, mode="bilinear", antialias=True)


def _tensor(frames: np.ndarray, device: torch.device | str) -> Tensor:
    return rearrange(torch.from_numpy(np.array(frames)), "t h w c -> t c h w").to(device).float()


def _in_batches(frames: np.ndarray, embed: Callable[[Tensor], Tensor], device: torch.device | str) -> np.ndarray:
    with torch.inference_mode():
        parts = [
            embed(_tensor(frames[start : start + _BATCH], device)).float().cpu()
            for start in range(0, len(frames), _BATCH)
        ]
    return torch.cat(parts).numpy()


def load_network(kind: Any, folder: Path, what: str, **settings: Any) -> Any:
    """Load a network of transformers for looking only.

    Raises:
        InputError: The folder holds none of this kind.
    """
    try:
        network, told = kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
            **settings,
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"{clean(str(folder))}: no {what} can be loaded: {clean(reason[0])[:200]}") from error
    absent = sorted(told["missing_keys"]) or [str(key) for key in told["mismatched_keys"]]
    if absent:  # transformers fills them with random numbers
        raise InputError(f"{clean(str(folder))}: no {what}: it lacks weights, such as {clean(absent[0])[:80]}")
    return network.eval().requires_grad_(False)


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer of a network of transformers.

    Raises:
        InputError: The folder holds none.
    """
    import transformers

    try:
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise InputError(f"{clean(str(folder))}: no tokenizer can be loaded: {clean(str(error))[:200]}") from error


def backend_of(source: str, folder: Path) -> dict[str, Any]:
    """Return what a result says of a network; of a folder only its name."""
    name = folder.name if Path(source).expanduser().is_dir() else source
    return {"name": clean(name), "sha256": weights_sha256(folder)}
