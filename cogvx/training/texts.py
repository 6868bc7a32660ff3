"""Captions to the embeddings that the transformer is trained on."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from cogvx.models.text_encoder import TextEncoder

Dropped = Literal["empty", "zero"]
_KEPT_BYTES = 512 * 2**20  # of embeddings: some 270 of the released models, all captions of a small one


class Texts:
    """Embeds captions, with a text encoder that is trained along or with a frozen one.

    A frozen encoder is loaded when it is first needed: a run whose captions were all embedded ahead may never need it.
    """

    def __init__(
        self,
        load: Callable[[], TextEncoder],
        *,
        trained: bool,
        dropped: Dropped,
        size: tuple[int, int],
        empty: Tensor | None = None,
    ) -> None:
        """Take a text encoder.

        Args:
            load: Returns it, on its device.
            trained: Whether gradients are wanted.
            dropped: What stands for a caption that is left out: the embedding of the empty prompt, as in diffusers, or
                zeros, as in the official training code.
            size: Tokens and width of an embedding.
            empty: The embedding (l d) of the empty prompt, if it was made ahead.
        """
        self._load = load
        self._loaded: TextEncoder | None = None
        self._trained = trained
        self._dropped = dropped
        self._size = size
        self._empty = empty
        self._kept: OrderedDict[str, Tensor] = OrderedDict()

    @property
    def encoder(self) -> TextEncoder:
        """The text encoder."""
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def embed(self, captions: Sequence[str | None], ready: Sequence[Tensor | None], device: torch.device) -> Tensor:
        """Return the embeddings (n l d) of captions.

        Args:
            captions: One each; None is a caption that was left out.
            ready: Embeddings (l d) that were made ahead, or None; an encoder that is trained does not use them.
            device: Where they go.
        """
        if not self._trained:
            found = [self._frozen(caption, text) for caption, text in zip(captions, ready, strict=True)]
            return torch.stack([text.to(device, torch.float32) for text in found])
        ids = self.encoder.tokenize([caption or "" for caption in captions]).to(device)
        embeds: Tensor = self.encoder(ids)
        if self._dropped == "zero":
            kept = torch.tensor([caption is not None for caption in captions], device=device)
            embeds = embeds * kept[:, None, None].to(embeds.dtype)
        return embeds

    def _frozen(self, caption: str | None, ready: Tensor | None) -> Tensor:
        if caption is None and self._dropped == "zero":
            return torch.zeros(self._size)
        if caption is not None and ready is not None:
            return ready
        prompt = caption or ""
        if not prompt and self._empty is not None:
            return self._empty
        if prompt not in self._kept:
            # One at a time: the same numbers whatever is trained beside it.
            self._kept[prompt] = self.encoder.encode([prompt])[0].cpu()
            if len(self._kept) * self._kept[prompt].nbytes > _KEPT_BYTES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(prompt)
        return self._kept[prompt]
