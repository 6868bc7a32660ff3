"""Prompts to the embeddings that the transformer attends to."""

from typing import Any

import torch
from torch import Tensor, nn


class TextEncoder(nn.Module):
    """A T5 encoder with its tokenizer.

    Every prompt is padded to the same length, and the padding is attended: the official models were trained so.
    """

    def __init__(self, tokenizer: Any, encoder: nn.Module, max_length: int) -> None:
        """Wrap a tokenizer and an encoder of the transformers library.

        Args:
            tokenizer: A T5 tokenizer.
            encoder: A T5EncoderModel.
            max_length: Tokens a prompt, padding included.
        """
        super().__init__()
        self.tokenizer = tokenizer
        self.encoder = encoder
        self.max_length = max_length

    def tokenize(self, prompts: list[str]) -> Tensor:
        """Return token ids (b l), cut or padded to max_length."""
        batch = self.tokenizer(
            prompts,
            padding="max_length",
            max_length=self.max_length,
            truncation=True,
            add_special_tokens=True,
            return_tensors="pt",
        )
        return batch.input_ids

    def num_tokens(self, prompt: str) -> int:
        """Return how many tokens a prompt has before it is cut to max_length."""
        return len(self.tokenizer(prompt, add_special_tokens=True).input_ids)

    def forward(self, ids: Tensor) -> Tensor:
        """Embed token ids (b l): (b l d)."""
        return self.encoder(ids)[0]

    @torch.no_grad()
    def encode(self, prompts: list[str]) -> Tensor:
        """Embed prompts: (b l d), in the encoder's type and on its device."""
        device = next(self.encoder.parameters()).device
        return self(self.tokenize(prompts).to(device))
