"""The network of shot boundaries: shapes, and what its comparisons see."""

import pytest
import torch

from cogvx.errors import ShapeError
from cogvx.models.shot_network import FRAME_SIZE, ShotNetwork, _compare, _histograms


def test_two_probabilities_a_frame():
    torch.manual_seed(0)
    network = ShotNetwork().eval()
    assert sum(parameter.numel() for parameter in network.parameters()) == 7_616_258
    frames = torch.randint(256, (2, 12, *FRAME_SIZE, 3), dtype=torch.uint8)
    with torch.inference_mode():
        cut, transition = network(frames)
        alone = network(frames[1:])[0]
    assert cut.shape == transition.shape == (2, 12) and 0 < cut.min() and cut.max() < 1
    assert torch.allclose(cut[1], alone[0], atol=1e-5)
    with pytest.raises(ShapeError):
        network(frames[:, :, :, :40])


def test_histograms_count_colours():
    frames = torch.zeros(1, 2, *FRAME_SIZE, 3, dtype=torch.uint8)
    frames[0, 1, :, :24] = torch.tensor([255, 32, 31], dtype=torch.uint8)
    counts = _histograms(frames)[0]
    assert counts[0].nonzero().flatten().tolist() == [0]
    assert counts[1].nonzero().flatten().tolist() == [0, 7 * 64 + 8]
    assert torch.allclose(counts.norm(dim=-1), torch.ones(2))


def test_each_frame_is_compared_with_fifty_on_each_side():
    vectors = torch.nn.functional.normalize(torch.randn(1, 60, 7, generator=torch.Generator().manual_seed(0)), dim=-1)
    found = _compare(vectors)
    assert found.shape == (1, 60, 101)
    for frame, other in ((0, 0), (5, 55), (59, 10), (30, 0)):
        assert torch.isclose(found[0, frame, other - frame + 50], vectors[0, frame] @ vectors[0, other], atol=1e-6)
    assert (found[0, 0, :50] == 0).all() and (found[0, 59, 51:] == 0).all()
