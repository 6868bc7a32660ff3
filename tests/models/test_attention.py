import pytest
import torch

from cogvx.errors import CogvxError, UsageError
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
