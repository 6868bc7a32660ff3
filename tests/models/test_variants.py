"""The paper's ablations: what they mix, what they learn, how large they are."""

import json
from dataclasses import replace

import pytest
import torch

from cogvx.errors import InputError, UsageError
from cogvx.models.transformer import ExpertTransformer, TransformerConfig
from cogvx.models.transformer.counting import count_parameters, match_parameters
from cogvx.models.transformer.layout import layout_of
from cogvx.models.transformer.packed import forward_packed
from cogvx.models.transformer.variants import SpatialAttention, TemporalAttention

BASE = TransformerConfig(
    num_layers=3, num_heads=2, head_dim=16, in_channels=4, out_channels=4, text_size=20, time_size=12,
    max_text_length=7, sample_height=8, sample_width=12, sample_frames=9, rotary=True,
)  # fmt: skip
VARIANTS = {
    "sincos": {"rotary": False},
    "interpolated": {"positions": "interpolate"},
    "separated": {"attention": "separated"},
    "no expert": {"modulation": "shared"},
    "mmdit": {"streams": "separate"},
    "all": {"attention": "separated", "modulation": "shared", "streams": "separate", "temporal_patch_size": 2},
}
OWN = {"positions", "attention", "modulation", "streams"}


@pytest.fixture(params=list(VARIANTS))
def config(request):
    return replace(BASE, **VARIANTS[request.param])


def filled(config):
    transformer = ExpertTransformer(config)
    generator = torch.Generator().manual_seed(5)
    for parameter in transformer.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    return transformer


def inputs(config, *sizes):
    generator = torch.Generator().manual_seed(6)
    clips = [torch.randn(config.in_channels, *size, generator=generator) for size in sizes]
    return clips, [torch.randn(7, 20, generator=generator) for _ in sizes], torch.tensor([900, 30])[: len(sizes)]


def test_gradients_reach_every_parameter(config):
    transformer = filled(config)
    clips, text, timesteps = inputs(config, (4, 8, 12))
    with torch.enable_grad():
        velocity = transformer(clips[0][None], text[0][None], timesteps)
        assert velocity.shape == (1, 4, 4, 8, 12)
        (velocity * torch.cos(torch.arange(velocity.numel())).reshape(velocity.shape)).sum().backward()
    still = {name for name, parameter in transformer.named_parameters() if not parameter.grad.any()}
    # After the last block the text is dropped, so what only changes the text there learns nothing.
    dropped = "transformer_blocks.2.text."
    kept = ("attn1.to_k", "attn1.to_v", "attn1.norm_k")
    allowed = {name for name in still if name.startswith(dropped) and not any(part in name for part in kept)}
    assert still - allowed == set()


def test_packed_equals_one_by_one(config):
    transformer = filled(config)
    packed = inputs(config, (4, 8, 12), (2, 6, 4))
    for clip, text, time, got in zip(*packed, forward_packed(transformer, *packed), strict=True):
        assert torch.allclose(got, transformer(clip[None], text[None], time[None])[0], atol=1e-5)


def test_config_round_trip(config):
    assert TransformerConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_official_files_stay_official():
    assert OWN.isdisjoint(BASE.to_dict())
    assert set(replace(BASE, **VARIANTS["all"]).to_dict()) & OWN == {"attention", "modulation", "streams"}


@pytest.mark.parametrize(
    "wrong", [{"attention": "2d"}, {"streams": None}, {"positions": "interpolate"}, {"modulation": ""}]
)
def test_unknown_variants_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        TransformerConfig.from_dict(wrong)


@pytest.fixture
def clip():
    """Queries, keys and values of one clip of 2 text tokens and 3x2x2 video tokens, and its layout."""
    transformer = ExpertTransformer(BASE)
    grid = (3, 2, 2)
    rope = transformer.rope(grid, torch.device("cpu"))
    return torch.randn(1, 14, 32, generator=torch.Generator().manual_seed(7)), layout_of([2], [grid], [rope], "auto")


def seen_by(attention, tokens, layout):
    """Return whether each token (row) changes when another one (column) does."""
    before = attention(tokens, layout)
    rows = []
    for i in range(tokens.shape[1]):
        changed = tokens.clone()
        changed[:, i] = changed[:, i].flip(-1) * 3
        rows.append((attention(changed, layout) - before).abs().amax(dim=(0, 2)) > 1e-6)
    return torch.stack(rows, dim=1)


def test_separated_attention_mixes_only_its_axes(clip):
    frame = torch.arange(12) // 4
    place = torch.arange(12) % 4
    expected_space = torch.zeros(14, 14, dtype=torch.bool)
    expected_space[:, :2] = True  # everyone sees the text
    expected_space[2:, 2:] = frame[:, None] == frame[None]
    expected_time = torch.zeros(14, 14, dtype=torch.bool)
    expected_time[:2, :2] = True
    expected_time[2:, 2:] = place[:, None] == place[None]
    assert torch.equal(seen_by(SpatialAttention(BASE), *clip), expected_space)
    assert torch.equal(seen_by(TemporalAttention(BASE), *clip), expected_time)


def test_space_and_time_alternate():
    blocks = ExpertTransformer(replace(BASE, attention="separated")).transformer_blocks
    assert [type(block.attn1) for block in blocks] == [SpatialAttention, TemporalAttention, SpatialAttention]


def test_without_experts_text_and_video_are_modulated_alike():
    block = ExpertTransformer(replace(BASE, modulation="shared")).transformer_blocks[0]
    modulation = block.norm1.modulation(torch.randn(1, 12))
    assert [tuple(x.shape) for x in modulation] == [(1, 32)] * 6
    assert all(torch.equal(a, b) for a, b in zip(modulation[:3], modulation[3:], strict=True))


def test_counts():
    assert count_parameters(BASE) == sum(parameter.numel() for parameter in ExpertTransformer(BASE).parameters())
    assert count_parameters(replace(BASE, attention="separated")) == count_parameters(BASE)
    assert count_parameters(replace(BASE, modulation="shared")) < count_parameters(BASE)
    assert count_parameters(replace(BASE, streams="separate")) > count_parameters(BASE)


@pytest.mark.parametrize(
    "vary,share", [("num_layers", 0.2), ("num_heads", 0.3), ("head_dim", 0.4), ("time_size", 0.02)]
)
def test_match_parameters(vary, share):
    target = count_parameters(replace(BASE, num_layers=6, num_heads=4))
    matched = match_parameters(replace(BASE, modulation="shared", num_layers=6, num_heads=4), target, vary=vary)
    assert abs(count_parameters(matched) - target) <= share * target
    for step in (-1, 1):
        other = replace(matched, **{vary: getattr(matched, vary) + step * (8 if vary == "head_dim" else 1)})
        assert abs(count_parameters(other) - target) >= abs(count_parameters(matched) - target)


def test_too_small_a_target():
    with pytest.raises(UsageError, match="num_layers"):
        match_parameters(BASE, 10)
