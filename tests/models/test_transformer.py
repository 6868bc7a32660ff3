import json
from pathlib import Path

import pytest
import torch

from cogvx.errors import InputError, ShapeError, UsageError
from cogvx.models.transformer import ExpertTransformer, TransformerConfig

FINGERPRINTS = {
    "2b": (
        -0.0144071,
        3.1334765,
        [1.938537, -0.731829, -3.184436, -3.295876],
        [0.626502, -2.005435, -4.961921, -4.662133],
    ),
    "5b": (
        0.0070055,
        3.5072196,
        [2.096688, -0.972829, -3.978691, -3.822596],
        [0.756625, -2.40318, -5.233911, -5.263227],
    ),
    "5b-i2v": (
        0.0203907,
        1.2971759,
        [0.788042, 0.904216, -0.158709, 1.051789],
        [-1.905472, -2.053738, -2.276437, -1.297107],
    ),
    "1.5": (
        0.1813135,
        2.3078605,
        [1.395485, 3.226115, 2.088096, 3.465218],
        [-0.757079, -2.146177, 0.195296, -2.087948],
    ),
    "1.5-i2v": (
        0.0701132,
        1.1644995,
        [0.309282, 1.074462, 0.56865, 1.009552],
        [-0.54936, -1.862002, -0.286829, -1.024454],
    ),
}
RELEASED = {
    "2b": (dict(num_layers=30, num_heads=30), 1_693_783_872, 736),
    "5b": (dict(num_layers=42, num_heads=48, rotary=True), 5_570_283_072, 1024),
    "5b-i2v": (
        dict(num_layers=42, num_heads=48, rotary=True, learned_positions=True, in_channels=32),
        5_570_479_680,
        1025,
    ),
    "1.5": (dict(num_layers=42, num_heads=48, rotary=True, temporal_patch_size=2), 5_570_676_352, 1024),
    "1.5-i2v": (
        dict(num_layers=42, num_heads=48, rotary=True, temporal_patch_size=2, in_channels=32, ofs_size=512),
        5_571_594_880,
        1028,
    ),
}


@pytest.fixture
def inputs(form, ruled):
    frames = 6 if form.startswith("1.5") else 3
    latents = ruled(2, frames, 8 if form.endswith("i2v") else 4, 8, 12).transpose(1, 2)
    return latents, ruled(2, 7, 20, shift=1.0), torch.tensor([999, 17])


@pytest.fixture
def transformer(transformer_dict, set_ruled):
    transformer = ExpertTransformer(TransformerConfig.from_dict(transformer_dict)).eval()
    set_ruled(transformer)
    return transformer


def test_forward_has_the_fingerprint(form, transformer, inputs):
    ofs = torch.tensor([2.0]) if form == "1.5-i2v" else None
    flat = transformer(*inputs, ofs=ofs).transpose(1, 2).flatten().double()
    mean, std, first, last = FINGERPRINTS[form]
    assert flat.mean().item() == pytest.approx(mean, abs=1e-5)
    assert flat.std(correction=0).item() == pytest.approx(std, abs=1e-4)
    assert flat[:4].tolist() == pytest.approx(first, abs=3e-5)
    assert flat[-4:].tolist() == pytest.approx(last, abs=3e-5)


def test_forward_equals_diffusers(form, transformer, transformer_dict, inputs):
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.CogVideoXTransformer3DModel(**transformer_dict).eval()
    theirs.load_state_dict(transformer.state_dict())
    latents, text, timestep = inputs
    ofs = torch.tensor([2.0]) if form == "1.5-i2v" else None
    rope = transformer.rope(transformer.grid(latents), latents.device)
    expected = theirs(latents.transpose(1, 2), text, timestep, ofs=ofs, image_rotary_emb=rope, return_dict=False)[0]
    assert (transformer(latents, text, timestep, ofs=ofs).transpose(1, 2) - expected).abs().max() <= 1e-5


def test_the_released_sizes(form):
    sizes, parameters, tensors = RELEASED[form]
    with torch.device("meta"):
        transformer = ExpertTransformer(TransformerConfig(**sizes))
    assert sum(p.numel() for p in transformer.parameters()) == parameters
    assert len(transformer.state_dict()) == tensors


def test_config_round_trip(transformer_dict):
    config = TransformerConfig.from_dict(transformer_dict)
    assert TransformerConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("extra", [{"activation_fn": "relu"}, {"colour": 1}, {"attention_head_dim": 12}])
def test_config_refuses_what_it_cannot_do(extra):
    with pytest.raises(InputError, match=next(iter(extra))):
        TransformerConfig.from_dict(extra)


def test_wrong_widths_are_named(transformer, inputs):
    latents, text, timestep = inputs
    with pytest.raises(ShapeError, match="text_embeds"):
        transformer(latents, text[..., :5], timestep)
    with pytest.raises(ShapeError, match="latents"):
        transformer(latents[:, :2], text, timestep)


def test_learned_positions_are_for_one_size(form, transformer, inputs):
    latents, text, timestep = inputs
    if form == "5b-i2v":
        with pytest.raises(UsageError, match="8x12"):
            transformer(latents[..., :8], text, timestep)
    else:
        assert transformer(latents[..., :8], text, timestep).shape[-1] == 8


@pytest.mark.parametrize("backend", ["sdpa", "reference"])
def test_backends_give_the_same_velocity(transformer, inputs, backend):
    expected = transformer(*inputs)
    transformer.attention_backend = backend
    assert torch.allclose(transformer(*inputs), expected, atol=1e-4)


def test_model_reads_in_one_screen():
    import cogvx.models.transformer.model as module

    assert len(Path(module.__file__).read_text().splitlines()) < 120
