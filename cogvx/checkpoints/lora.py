"""LoRA: files of every origin, read to one form; applied to a transformer; written in the diffusers layout."""

from cogvx.checkpoints.lora_formats import find_lora, is_lora, parse_lora, read_lora
from cogvx.checkpoints.lora_layers import (
    OFFICIAL_TARGETS,
    LoRALayer,
    apply_lora,
    collect_lora,
    match_lora,
    merge_into,
    merge_lora,
    new_lora,
    remove_lora,
)
from cogvx.checkpoints.lora_saving import FILE_NAME, LAYOUTS, lora_tensors, save_lora
from cogvx.checkpoints.lora_types import LoRA, LoRAPair

__all__ = [
    "FILE_NAME",
    "LAYOUTS",
    "OFFICIAL_TARGETS",
    "LoRA",
    "LoRALayer",
    "LoRAPair",
    "apply_lora",
    "collect_lora",
    "find_lora",
    "is_lora",
    "lora_tensors",
    "match_lora",
    "merge_into",
    "merge_lora",
    "new_lora",
    "parse_lora",
    "read_lora",
    "remove_lora",
    "save_lora",
]
