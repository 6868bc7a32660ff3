"""The expert transformer."""

from cogvx.models.transformer.config import TransformerConfig
from cogvx.models.transformer.model import ExpertTransformer

__all__ = ["ExpertTransformer", "TransformerConfig"]
