"""A packed sequence gives what its clips give one by one, on one rank and on several."""

from dataclasses import replace

import pytest
import torch

from cogvx import distributed
from cogvx.errors import ShapeError, UsageError
from cogvx.models.transformer import ExpertTransformer, TransformerConfig
from cogvx.models.transformer.packed import forward_packed

# Latents of three clips, t h w; a form with learned positions has one height and width only.
SIZES = [(4, 8, 12), (2, 4, 10), (2, 6, 6)]
LEARNED_SIZES = [(3, 8, 12), (1, 8, 12), (2, 8, 12)]
ROTARY = dict(
    num_layers=2, num_heads=2, head_dim=16, in_channels=4, out_channels=4, text_size=20, time_size=12,
    max_text_length=7, sample_height=8, sample_width=12, sample_frames=9, rotary=True,
)  # fmt: skip


def fill(transformer):
    """Give a module weights that depend on nothing, large enough for every part to matter."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in [*transformer.named_parameters(), *transformer.named_buffers()]:
        noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        width = parameter[0].numel() if parameter.ndim > 1 else 25
        parameter.data = noise * width**-0.5 + (1 if "norm" in name and name.endswith("weight") else 0)
    return transformer


def inputs_of(config, sizes, *, texts=(7, 7, 7)):
    generator = torch.Generator().manual_seed(4)
    clips = [torch.randn(config.in_channels, *size, generator=generator) for size in sizes]
    text = [torch.randn(length, config.text_size, generator=generator) for length in texts[: len(sizes)]]
    return clips, text, torch.tensor([999, 17, 500])[: len(sizes)]


def loss_of(velocities):
    """Weigh every value differently, so that a swapped token shows."""
    return sum(
        (velocity * torch.cos(torch.arange(velocity.numel()) + i).reshape(velocity.shape)).sum()
        for i, velocity in enumerate(velocities)
    )


def grads_of(transformer, loss):
    transformer.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in transformer.named_parameters()}


def one_by_one(transformer, clips, text, timesteps, *, ofs=None, **options):
    return [
        transformer(clip[None], own[None], time[None], ofs=None if ofs is None else ofs[i : i + 1], **options)[0]
        for i, (clip, own, time) in enumerate(zip(clips, text, timesteps, strict=True))
    ]


def assert_close(got, expected, tolerance=1e-5):
    """Each tensor equal to a part of its largest value."""
    for a, b in zip(got, expected, strict=True):
        assert (a - b).abs().max().item() <= tolerance * max(1.0, b.abs().max().item())


def assert_grads_close(got, expected, tolerance=1e-5):
    """All gradients together equal to a part of their length; each one, which may cancel out, to ten times it."""
    a, b = (torch.cat([grad.flatten() for grad in grads.values()]) for grads in (got, expected))
    assert (a - b).norm() <= tolerance * b.norm()
    assert_close(got.values(), expected.values(), 10 * tolerance)


@pytest.fixture
def transformer(transformer_dict):
    return fill(ExpertTransformer(TransformerConfig.from_dict(transformer_dict)))


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_packed_equals_one_by_one(form, transformer, backend):
    config = transformer.config
    transformer.attention_backend = backend
    inputs = inputs_of(config, LEARNED_SIZES if config.learned_positions else SIZES)
    ofs = torch.tensor([2.0, 0.5, 1.0]) if config.ofs_size else None
    with torch.enable_grad():
        expected = one_by_one(transformer, *inputs, ofs=ofs)
        expected_grads = grads_of(transformer, loss_of(expected))
        got = forward_packed(transformer, *inputs, ofs=ofs)
        grads = grads_of(transformer, loss_of(got))
    assert_close(got, expected)
    assert_grads_close(grads, expected_grads)
    if ofs is not None:
        shared = forward_packed(transformer, *inputs, ofs=torch.tensor([2.0]))
        assert_close(shared, one_by_one(transformer, *inputs, ofs=torch.full((3,), 2.0)))


def test_what_differs_is_rounding():
    """In float64 the two ways agree as far as float64 goes."""
    transformer = fill(ExpertTransformer(TransformerConfig(**{**ROTARY, "rotary": False})).double())
    clips, text, timesteps = inputs_of(transformer.config, SIZES)
    inputs = [clip.double() for clip in clips], [own.double() for own in text], timesteps
    with torch.enable_grad():
        expected = grads_of(transformer, loss_of(one_by_one(transformer, *inputs)))
        grads = grads_of(transformer, loss_of(forward_packed(transformer, *inputs)))
    assert_grads_close(grads, expected, 1e-13)


@pytest.mark.parametrize("positions", ["fit", "extrapolate", "interpolate"])
def test_each_choice_of_positions(positions):
    transformer = fill(ExpertTransformer(TransformerConfig(**ROTARY)))
    # Clips below, at and above the model's own size, and texts of different lengths.
    inputs = inputs_of(transformer.config, [(3, 4, 6), (3, 8, 12), (2, 12, 14)], texts=(7, 3, 5))
    got = forward_packed(transformer, *inputs, positions=positions)
    assert_close(got, one_by_one(transformer, *inputs, positions=positions))
    chosen = fill(ExpertTransformer(replace(transformer.config, positions=positions)))
    assert_close(forward_packed(chosen, *inputs), got)
    other = forward_packed(transformer, *inputs, positions="fit" if positions != "fit" else "interpolate")
    assert torch.allclose(got[1], other[1], atol=1e-5)  # at its own size the choice does not matter
    assert not torch.allclose(got[2], other[2], atol=1e-3)


def test_clips_do_not_see_each_other():
    transformer = fill(ExpertTransformer(TransformerConfig(**ROTARY)))
    clips, text, timesteps = inputs_of(transformer.config, SIZES)
    before = forward_packed(transformer, clips, text, timesteps)
    changed = [clips[0], clips[1] + 1, clips[2]], [text[0], text[1] - 1, text[2]], torch.tensor([999, 700, 500])
    after = forward_packed(transformer, *changed)
    assert torch.equal(before[0], after[0]) and torch.equal(before[2], after[2])
    assert not torch.allclose(before[1], after[1], atol=1e-2)


def test_clips_of_one_size_are_a_batch():
    transformer = fill(ExpertTransformer(TransformerConfig(**ROTARY)))
    clips, text, timesteps = inputs_of(transformer.config, [(3, 8, 12)] * 3)
    batch = transformer(torch.stack(clips), torch.stack(text), timesteps)
    assert torch.equal(torch.stack(forward_packed(transformer, clips, text, timesteps)), batch)


def test_checkpointing_changes_nothing(transformer):
    inputs = inputs_of(transformer.config, LEARNED_SIZES if transformer.config.learned_positions else SIZES)
    ofs = torch.tensor([2.0]) if transformer.config.ofs_size else None
    with torch.enable_grad():
        expected = grads_of(transformer, loss_of(forward_packed(transformer, *inputs, ofs=ofs)))
        transformer.activation_checkpointing = True
        grads = grads_of(transformer, loss_of(forward_packed(transformer, *inputs, ofs=ofs)))
    assert all(torch.equal(grads[name], expected[name]) for name in expected)


def test_compiled_blocks_give_the_same():
    transformer = fill(ExpertTransformer(TransformerConfig(**ROTARY)))
    clips, text, timesteps = inputs_of(transformer.config, SIZES)
    batch = clips[0][None], text[0][None], timesteps[:1]
    expected = transformer(*batch), *forward_packed(transformer, clips, text, timesteps)
    for block in transformer.transformer_blocks:
        block.compile(backend="eager", fullgraph=True)
    with torch.enable_grad():
        assert_close((transformer(*batch), *forward_packed(transformer, clips, text, timesteps)), expected)


def test_wrong_packs_are_named():
    transformer = fill(ExpertTransformer(TransformerConfig(**ROTARY)))
    clips, text, timesteps = inputs_of(transformer.config, SIZES)
    with pytest.raises(ShapeError, match="3 clips, 2 texts"):
        forward_packed(transformer, clips, text[:2], timesteps)
    with pytest.raises(ShapeError, match=r"clips\[1\]"):
        forward_packed(transformer, [clips[0], clips[1][:, :, :3], clips[2]], text, timesteps)
    with pytest.raises(ShapeError, match=r"text_embeds\[2\]"):
        forward_packed(transformer, clips, [*text[:2], text[2][:, :5]], timesteps)
    plain = ExpertTransformer(replace(transformer.config, rotary=False))
    with pytest.raises(UsageError, match="interpolate"):
        forward_packed(plain, clips, text, timesteps, positions="interpolate")


# What the ranks run.


def share(world, config, sizes, checkpointing):
    """Return loss and gradients of a pack, as this rank sees them."""
    transformer = fill(ExpertTransformer(config))
    transformer.activation_checkpointing = checkpointing
    inputs = inputs_of(config, sizes)
    velocities = forward_packed(transformer, *inputs, world=world)
    loss = loss_of(velocities) / world.context_size
    return [velocity.detach() for velocity in velocities], float(loss.detach()), grads_of(transformer, loss)


# Three clips; one that both ranks have a part of; a first rank with text and little else.
@pytest.mark.parametrize("sizes,checkpointing", [(SIZES, False), (SIZES[:1], False), (SIZES, True)])
@pytest.mark.parametrize("config", [ROTARY, {**ROTARY, "rotary": False, "streams": "separate"}], ids=["5b", "mmdit"])
def test_two_ranks_share_a_sequence(ranks, config, sizes, checkpointing):
    config = TransformerConfig(**config)
    with torch.enable_grad():
        velocities, loss, grads = share(distributed.alone(), config, sizes, checkpointing)
    shares = ranks(2, share, config, sizes, checkpointing, context=2)
    for theirs, _, _ in shares:
        assert_close(theirs, velocities)
    assert sum(value for _, value, _ in shares) == pytest.approx(loss, rel=1e-5, abs=1e-5)
    assert_grads_close({name: sum(theirs[name] for _, _, theirs in shares) for name in grads}, grads)


def test_too_few_tokens_to_share():
    transformer = fill(ExpertTransformer(TransformerConfig(**ROTARY)))
    world = replace(distributed.alone(), context_size=1000)
    with pytest.raises(UsageError, match="tokens cannot be shared"):
        forward_packed(transformer, *inputs_of(transformer.config, SIZES), world=world)


def test_all_parameters_have_gradients_on_every_rank(ranks):
    """Sharding reduces gradients of all ranks together, so none may be missing on one of them."""
    config = TransformerConfig(**ROTARY)
    names = {name for name, _ in ExpertTransformer(config).named_parameters()}
    # A first rank that has the text of a single small clip and nothing of its video.
    for _, _, grads in ranks(2, share, config, [(1, 2, 2)], False, context=2):
        assert set(grads) == names
