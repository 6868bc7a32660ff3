import math

import pytest
import torch
from torch import Tensor, nn

# Settings of a tiny transformer, and what each released form adds; SPEC section 9.
BASE = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 4,
    "out_channels": 4,
    "time_embed_dim": 12,
    "text_embed_dim": 20,
    "num_layers": 2,
    "sample_width": 12,
    "sample_height": 8,
    "sample_frames": 9,
    "patch_size": 2,
    "max_text_seq_length": 7,
}
ROTARY = {"use_rotary_positional_embeddings": True}
FORMS = {
    "2b": {},
    "5b": ROTARY,
    "5b-i2v": {**ROTARY, "use_learned_positional_embeddings": True, "in_channels": 8},
    "1.5": {**ROTARY, "patch_size_t": 2, "patch_bias": False},
    "1.5-i2v": {**ROTARY, "patch_size_t": 2, "patch_bias": False, "in_channels": 8, "ofs_embed_dim": 12},
}
VAE = {
    "block_out_channels": [8, 16, 16, 24],
    "latent_channels": 4,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_height": 64,
    "sample_width": 96,
}


def ruled_inputs(*shape: int, shift: float = 0.0) -> Tensor:
    """Inputs by rule: cos(0.73 i + shift)."""
    i = torch.arange(math.prod(shape), dtype=torch.float64)
    return torch.cos(0.73 * i + shift).reshape(shape).float()


def set_ruled_weights(module: nn.Module) -> None:
    """Weights by rule, so that fingerprints need no reference."""
    state = module.state_dict()
    for k, name in enumerate(sorted(state)):
        tensor = state[name]
        i = torch.arange(tensor.numel(), dtype=torch.float64)
        v = torch.sin(0.37 * i + 0.11 * k).reshape(tensor.shape)
        if tensor.ndim > 1:
            v = v * math.sqrt(1.5 / tensor[0].numel())
        elif "norm" in name and name.endswith(".weight"):
            v = 1 + 0.1 * v
        else:
            v = 0.1 * v
        state[name] = v.float()
    module.load_state_dict(state)


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


@pytest.fixture
def ruled():
    return ruled_inputs


@pytest.fixture
def set_ruled():
    return set_ruled_weights


@pytest.fixture(params=list(FORMS))
def form(request):
    return request.param


@pytest.fixture
def transformer_dict(form):
    return {**BASE, **FORMS[form]}


@pytest.fixture
def vae_dict():
    return dict(VAE)
