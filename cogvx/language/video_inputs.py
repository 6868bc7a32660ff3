"""Frames of a clip as models of the Qwen2-VL and Qwen2.5-VL kind take a video.

The library's own preparation of videos needs torchvision; what it computes is little, and stands here. Source: the
papers on Qwen2-VL (arXiv 2409.12191: dynamic resolution, frames joined in pairs) and Qwen2.5-VL (arXiv 2502.13923:
times).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from cogvx.errors import InputError
from cogvx.language.ask import Message, Video

FAMILY = ("qwen2_vl", "qwen2_5_vl")  # model_type of those that can be fed
MARK = "<|video_pad|>"
_MIN_TOKENS, _MAX_TOKENS = 128, 768  # of a pair of frames: the family's own limits
_LONGEST_RATIO = 200  # of the sides


@dataclass(frozen=True)
class PatchSizes:
    """How the network cuts a video.

    Attributes:
        patch: Pixels of a patch's side.
        frames: Frames that a patch spans.
        merge: Patches of a token's side.
    """

    patch: int
    frames: int
    merge: int

    @property
    def token(self) -> int:
        """Pixels of a token's side."""
        return self.patch * self.merge


def converses(model: Any) -> bool:
    """Whether a network brings its own way from a clip and a question to inputs, as CogVLM2-Caption does."""
    return callable(getattr(model, "build_conversation_input_ids", None))


def conversation_inputs(model: Any, tokenizer: Any, messages: Sequence[Message]) -> dict[str, Any]:
    """Return what a network that converses is called with: one clip, and all that is said as one question.

    Args:
        model: The network, with code of its repository.
        tokenizer: Its tokenizer.
        messages: The conversation.

    Raises:
        InputError: There is not exactly one clip, or there are images.

    Source: the model card of CogVLM2-Llama3-Caption: template "chat", frames as (c t h w) of whole numbers.
    """
    videos = [video for message in messages for video in message.videos]
    if len(videos) != 1 or any(message.images for message in messages):
        raise InputError("it takes one clip at a time, and no images")
    found = model.build_conversation_input_ids(
        tokenizer=tokenizer,
        query="\n\n".join(message.text for message in messages),
        images=[rearrange(torch.from_numpy(np.array(videos[0].frames)), "t h w c -> c t h w")],
        history=[],
        template_version="chat",
    )
    names = ("input_ids", "token_type_ids", "attention_mask")
    inputs = {name: found[name][None].to(model.device) for name in names}
    return inputs | {"images": [[found["images"][0].to(model.device, model.dtype)]]}


def takes_video(config: Any) -> bool:
    """Whether a network, by its configuration, is of the family."""
    return getattr(config, "model_type", None) in FAMILY


def patches(
    frames: np.ndarray, sizes: PatchSizes, *, mean: Sequence[float], std: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Cut frames into patches in the order of the network's tokens.

    Args:
        frames: uint8 (t h w 3); the last one is repeated until they fill whole patches.
        sizes: How the network cuts them.
        mean: Of the colours, in [0, 1].
        std: Of the colours.

    Returns:
        Patches (n d), float32, and the grid (1 3) of how many there are in time, height and width.

    Raises:
        InputError: The frames are too long and narrow.
    """
    height, width = fitting_size(frames.shape[1], frames.shape[2], sizes.token)
    resized = [np.asarray(Image.fromarray(f).resize((width, height), Image.Resampling.BICUBIC)) for f in frames]
    resized += resized[-1:] * (-len(resized) % sizes.frames)
    pixels = torch.from_numpy(np.stack(resized)).float().div(255)
    pixels = (pixels - torch.tensor(mean)) / torch.tensor(std)
    grid = (len(resized) // sizes.frames, height // sizes.patch, width // sizes.patch)
    cut = rearrange(
        pixels,
        "(t f) (h m ph) (w n pw) c -> (t h w m n) (c f ph pw)",
        f=sizes.frames,
        m=sizes.merge,
        n=sizes.merge,
        ph=sizes.patch,
        pw=sizes.patch,
    )
    return cut, torch.tensor([grid])


def fitting_size(height: int, width: int, unit: int) -> tuple[int, int]:
    """Return the size that a frame is resized to: multiples of a token's side, about its own proportions.

    Raises:
        InputError: It is too long and narrow.
    """
    if max(height, width) > _LONGEST_RATIO * min(height, width):
        raise InputError(f"frames of {width}x{height} are too narrow for the model")
    low, high = _MIN_TOKENS * unit**2, _MAX_TOKENS * unit**2
    fitted = [max(unit, round(side / unit) * unit) for side in (height, width)]
    if fitted[0] * fitted[1] > high:
        scale = math.sqrt(high / (height * width))
        fitted = [max(unit, math.floor(side * scale / unit) * unit) for side in (height, width)]
    elif fitted[0] * fitted[1] < low:
        scale = math.sqrt(low / (height * width))
        fitted = [math.ceil(side * scale / unit) * unit for side in (height, width)]
    return fitted[0], fitted[1]


def video_inputs(text: str, videos: Sequence[Video], *, tokenizer: Any, config: Any, colours: Any) -> dict[str, Any]:
    """Return what the network is called with.

    Args:
        text: The conversation, with one mark for each video.
        videos: Their frames.
        tokenizer: The model's.
        config: The network's configuration.
        colours: Has image_mean and image_std.

    Raises:
        InputError: The template of the model has no place for videos, or a video cannot be used.
    """
    vision = config.vision_config
    sizes = PatchSizes(vision.patch_size, vision.temporal_patch_size, vision.spatial_merge_size)
    parts = text.split(MARK)
    if len(parts) != len(videos) + 1:
        raise InputError("its chat template has no place for a video")
    cuts, grids, seconds, filled = [], [], [], parts[0]
    for video, rest in zip(videos, parts[1:], strict=True):
        cut, grid = patches(video.frames, sizes, mean=colours.image_mean, std=colours.image_std)
        cuts.append(cut)
        grids.append(grid)
        seconds.append(sizes.frames / video.fps)
        filled += MARK * (int(grid.prod()) // sizes.merge**2) + rest
    tokens = tokenizer(filled, return_tensors="pt", add_special_tokens=False)
    found: dict[str, Any] = {
        "input_ids": tokens["input_ids"],
        "attention_mask": tokens["attention_mask"],
        "mm_token_type_ids": 2 * (tokens["input_ids"] == config.video_token_id).int(),
        "pixel_values_videos": torch.cat(cuts),
        "video_grid_thw": torch.cat(grids),
    }
    if config.model_type == "qwen2_5_vl":
        found["second_per_grid_ts"] = torch.tensor(seconds)
    return found
