"""Similarities of clips and texts: pooling, ranks and what they come to."""

import pytest
import torch

from cogvx.errors import ShapeError
from cogvx.metrics.text_match import centred, find_both_ways, mean_pool, ranks, retrieval, similarities


def test_mean_pool_is_the_mean_of_directions():
    frames = torch.tensor([[[3.0, 0.0], [0.0, 0.5]], [[2.0, 0.0], [0.0, 9.0]]])
    root = 0.5**0.5
    torch.testing.assert_close(mean_pool(frames)[0], torch.tensor([root, root]))
    masked = mean_pool(frames, torch.tensor([[True, True], [True, False]]))
    torch.testing.assert_close(masked, torch.tensor([[root, root], [1.0, 0.0]]))
    with pytest.raises(ShapeError, match="without frames"):
        mean_pool(frames, torch.zeros(2, 2, dtype=torch.bool))


def test_similarities_are_cosines():
    found = similarities(torch.tensor([[2.0, 0.0], [1.0, 1.0]]), torch.tensor([[5.0, 0.0], [0.0, -1.0]]))
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.0], [0.5**0.5, -(0.5**0.5)]], dtype=torch.float64))


def test_planted_ranks():
    scores = torch.tensor([[0.9, 0.1, 0.2], [0.9, 0.5, 0.7], [0.1, 0.2, 0.3]])
    assert ranks(scores).tolist() == [1, 3, 1]
    assert ranks(scores.T).tolist() == [2, 1, 2]
    same = torch.tensor([[False, False, False], [True, False, False], [False, False, False]])
    assert ranks(scores, same=same).tolist() == [1, 2, 1]


def test_scores_that_tell_nothing_rank_last():
    assert ranks(torch.ones(4, 4)).tolist() == [4] * 4


def test_what_ranks_come_to():
    found = retrieval(torch.tensor([1, 2, 6, 11]))
    assert (found.median_rank, found.mean_rank) == (4.0, 5.0)
    assert (found.recall_1, found.recall_5, found.recall_10) == (0.25, 0.5, 0.75)
    with pytest.raises(ShapeError):
        retrieval(torch.zeros(0))


def test_centring_takes_out_what_is_of_a_row_or_column_alone():
    matrix = torch.randn(7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    shifted = matrix + torch.arange(7.0)[:, None] - 3 * torch.arange(7.0)
    torch.testing.assert_close(centred(shifted), centred(matrix))
    assert centred(matrix).mean(dim=0).abs().max() < 1e-12
    # A clip that is near every text hides the others until its mean is taken out.
    hub = torch.eye(5, dtype=torch.float64) + torch.tensor([0.0, 0, 0, 0, 4])
    assert ranks(hub).tolist() == [2, 2, 2, 2, 1]
    assert ranks(centred(hub)).tolist() == [1] * 5


def test_pairs_in_another_order_are_as_easy():
    vectors = torch.randn(30, 8, generator=torch.Generator().manual_seed(1))
    noisy = vectors + 0.8 * torch.randn(30, 8, generator=torch.Generator().manual_seed(2))
    order, texts = torch.randperm(30), [str(i) for i in range(30)]
    first = find_both_ways(similarities(vectors, noisy), texts)
    assert find_both_ways(similarities(vectors[order], noisy[order]), texts) == first
    assert first["text_to_video"].recall_5 > 0.5


def test_equal_captions_are_never_wrong_for_each_other():
    found = find_both_ways(torch.ones(3, 3), ["a", "a", "b"])
    assert found["text_to_video"].mean_rank == pytest.approx((2 + 2 + 3) / 3)
