import pytest
import torch

from cogvx.errors import CogvxError, ShapeError, UsageError
from cogvx.models.attention import attend


@pytest.fixture
def qkv():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, 2, length, 16, generator=generator) for length in (5, 7, 7)]


@pytest.mark.parametrize("lengths", [None, torch.tensor([7, 3, 1])])
def test_sdpa_equals_reference(qkv, lengths):
    expected = attend(*qkv, lengths=lengths, backend="reference")
    for backend in ("sdpa", "auto"):
        assert torch.allclose(attend(*qkv, lengths=lengths, backend=backend), expected, atol=1e-6)


@pytest.mark.parametrize("backend", ["sdpa", "reference"])
def test_keys_beyond_the_length_are_not_attended(qkv, backend):
    q, k, v = qkv
    lengths = torch.tensor([4, 4, 4])
    masked = attend(q, k, v, lengths=lengths, backend=backend)
    assert torch.allclose(masked, attend(q, k[:, :, :4], v[:, :, :4], backend=backend), atol=1e-6)


def test_flash_on_the_cpu_says_why_not(qkv):
    with pytest.raises(CogvxError, match="flash"):
        attend(*qkv, backend="flash")


def test_unknown_backend(qkv):
    with pytest.raises(UsageError, match="sdpa"):
        attend(*qkv, backend="warp")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("lengths", [None, torch.tensor([7, 3, 1])])
def test_flash_equals_reference(qkv, lengths):
    pytest.importorskip("flash_attn")
    q, k, v = (x.cuda().half() for x in qkv)
    expected = attend(q.float(), k.float(), v.float(), lengths=lengths, backend="reference")
    assert torch.allclose(attend(q, k, v, lengths=lengths, backend="flash").float(), expected, atol=2e-3)


# Lengths of pieces, then the first and the number of the queries.
SEGMENTS = [((12,), 0, 12), ((5, 4, 3), 0, 12), ((4, 4, 4), 0, 12), ((2, 5, 0, 5), 3, 6), ((1, 3, 3, 3, 2), 5, 7)]


def packed_qkv(first, count):
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(1, 2, 12, 16, generator=generator, requires_grad=True) for _ in range(3))
    return q, k, v, q[:, :, first : first + count]


@pytest.mark.parametrize("segments,first,count", SEGMENTS)
@pytest.mark.parametrize("backend", ["auto", "sdpa", "reference"])
def test_segments_are_attended_each_on_its_own(segments, first, count, backend):
    with torch.enable_grad():
        q, k, v, part = packed_qkv(first, count)
        pieces = zip(*(x.split(segments, dim=2) for x in (q, k, v)), strict=True)
        alone = [attend(*piece, backend="reference") for piece in pieces]
        expected = torch.cat(alone, dim=2)[:, :, first : first + count]
        got = attend(part, k, v, segments=segments, first_query=first, backend=backend)
        weights = torch.cos(torch.arange(got.numel())).reshape(got.shape)
        expected_grads = torch.autograd.grad((expected * weights).sum(), (q, k, v))
        grads = torch.autograd.grad((got * weights).sum(), (q, k, v))
    assert torch.allclose(got, expected, atol=1e-6)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(grads, expected_grads, strict=True))


def test_segments_must_fit(qkv):
    q, k, v, _ = packed_qkv(0, 12)
    with pytest.raises(ShapeError, match="11 tokens"):
        attend(q, k, v, segments=(5, 6))
    with pytest.raises(ShapeError, match=r"1\.\.\.13"):
        attend(q, k, v, segments=(5, 7), first_query=1)
    with pytest.raises(ShapeError, match="batch of 3"):
        attend(*qkv, segments=(3, 4))
    with pytest.raises(UsageError, match="not both"):
        attend(q, k, v, segments=(5, 7), lengths=torch.tensor([12]))
    with pytest.raises(CogvxError, match="flash"):
        attend(q, k, v, segments=(5, 7), backend="flash")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("segments,first,count", SEGMENTS)
@pytest.mark.parametrize("backend", ["flash", "sdpa"])
def test_segments_on_a_gpu_equal_the_reference(segments, first, count, backend):
    if backend == "flash":
        pytest.importorskip("flash_attn")
    _, k, v, q = (x.detach() for x in packed_qkv(first, count))
    expected = attend(q, k, v, segments=segments, first_query=first, backend="reference")
    q, k, v = (x.cuda().half() for x in (q, k, v))
    got = attend(q, k, v, segments=segments, first_query=first, backend=backend)
    assert torch.allclose(got.float().cpu(), expected, atol=2e-3)
