"""Any CLIP through transformers, its frames pooled as CLIP4Clip does without parameters (meanP)."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cogvx.checkpoints.frame_networks import CLIP, clip_folder, open_frame_network
from cogvx.data.media import Span
from cogvx.data.video import decoded
from cogvx.errors import InputError
from cogvx.files import clean
from cogvx.metrics.text_match import mean_pool

_RATE = 1.0


class ClipMeanPool:
    """A CLIP: a frame a second, at most so many of them, each resized (bicubic, shorter side) and cropped.

    Args:
        source: A folder, or a repository that was downloaded before.
        max_frames: Of a clip; of more, so many at equal distances, the first and the last included.
        max_words: Tokens of a text.
        device: Where it computes.

    Raises:
        MissingError: The repository was not downloaded.
        UsageError: It is neither a folder nor a repository's id.
        InputError: No CLIP can be loaded from it.

    Source: Luo et al., "CLIP4Clip" (arXiv 2104.08860), similarity "meanP". Only its own weights give its numbers.
    """

    def __init__(self, source: str, *, max_frames: int, max_words: int, device: torch.device) -> None:
        import transformers

        self._source, self._device, self._max_frames = clean(source), device, max_frames
        self._network = open_frame_network(f"{CLIP}{source}", device=device)
        folder = clip_folder(source)
        try:
            model = transformers.CLIPTextModelWithProjection.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
            )
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise InputError(f"{self._source}: its texts cannot be read: {clean(reason[0])[:200]}") from error
        self._model = model.to(device).eval().requires_grad_(False)  # type: ignore[arg-type]
        self._max_words = min(max_words, int(model.config.max_position_embeddings))
        # The weights are called so by those who trained CLIP4Clip; any other CLIP gives a number of another name.
        self.metric = "clip4clip_meanp" if "clip4clip" in source.lower() else "clip_meanp"

    def backend(self) -> dict[str, Any]:
        """Return which network it is (see TextVideoNetwork.backend)."""
        return {"name": "clip", "source": self._source, "sha256": self._network.sha256}

    def protocol(self) -> dict[str, Any]:
        """Return how clips and texts are read (see TextVideoNetwork.protocol)."""
        height, width = self._network.size
        return {
            "pooling": "meanP",
            "fps": _RATE,
            "max_frames": self._max_frames,
            "size": f"{height}x{width}",
            "crop": "bicubic to cover, centre",
            "max_words": self._max_words,
        }

    def read(self, path: Path, *, start: float | None = None, end: float | None = None) -> np.ndarray:
        """Return the frames that it looks at (see TextVideoNetwork.read)."""
        with decoded(path, Span(start, end, rate=_RATE)) as (_, frames):
            kept = [_cover(frame, *self._network.size) for frame in frames]
        if len(kept) > self._max_frames:
            kept = [kept[i] for i in np.linspace(0, len(kept) - 1, self._max_frames).round().astype(int)]
        return np.stack(kept)

    def clip(self, frames: np.ndarray) -> Tensor:
        """Return the vector (d) of a clip (see TextVideoNetwork.clip)."""
        return mean_pool(self._network.embed(frames)[None])[0]

    @torch.inference_mode()
    def texts(self, texts: list[str]) -> Tensor:
        """Return the vectors (n d) of texts (see TextVideoNetwork.texts)."""
        parts = []
        for i in range(0, len(texts), 64):
            tokens = self._tokenizer(
                texts[i : i + 64], padding=True, truncation=True, max_length=self._max_words, return_tensors="pt"
            ).to(self._device)
            found = self._model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).text_embeds
            parts.append(torch.nn.functional.normalize(found, dim=1).float().cpu())
        return torch.cat(parts)

    def cut(self, text: str) -> bool:
        """Tell whether a text has more tokens than are read."""
        return len(self._tokenizer(text)["input_ids"]) > self._max_words


def _cover(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a frame, uint8 (h w 3), to cover a size (bicubic), and cut off what sticks out on both sides."""
    h, w, _ = frame.shape
    scale = max(height / h, width / w)
    sides = max(width, round(w * scale)), max(height, round(h * scale))
    image = Image.fromarray(np.ascontiguousarray(frame)).resize(sides, Image.Resampling.BICUBIC)
    left, top = (sides[0] - width) // 2, (sides[1] - height) // 2
    return np.asarray(image.crop((left, top, left + width, top + height)))
