import numpy as np
import pytest
import torch

from cogvx.errors import InputError
from cogvx.training.filter_split import held_out, spread


def labelled(num_sources=40, seed=0):
    """Sources of one to nine clips, two labels of which one is rare and one is often unknown."""
    rng = np.random.default_rng(seed)
    sources = [f"film-{i}.mp4" for i in range(num_sources) for _ in range(rng.integers(1, 10))]
    truth = torch.tensor(rng.random((len(sources), 2)) < [0.15, 0.5], dtype=torch.float64)
    truth[torch.tensor(rng.random(len(sources)) < 0.3), 1] = torch.nan
    return sources, truth


@pytest.mark.parametrize("seed", range(5))
def test_no_source_is_on_both_sides(seed):
    sources, truth = labelled(seed=seed)
    test = held_out(sources, [None] * len(sources), truth, ratio=0.1, seed=seed)
    assert not {s for s, held in zip(sources, test, strict=True) if held} & {
        s for s, held in zip(sources, test, strict=True) if not held
    }
    assert 0.07 <= test.mean() <= 0.13
    share = truth[:, 0].mean()
    assert abs(float(truth[torch.tensor(test), 0].mean()) - float(share)) < 0.08


def test_parts_are_even_in_clips_and_labels():
    sources, truth = labelled()
    parts = spread(sources, truth, num_parts=5, seed=0)
    assert len({(s, p) for s, p in zip(sources, parts, strict=True)}) == len(set(sources))
    counts = np.bincount(parts)
    rare = [int(torch.nansum(truth[torch.tensor(parts == i), 0])) for i in range(5)]
    assert counts.max() <= 1.2 * counts.min()
    assert max(rare) - min(rare) <= 2


def test_the_same_sources_give_the_same_parts_in_any_order():
    sources, truth = labelled()
    order = np.random.default_rng(1).permutation(len(sources))
    parts = spread(sources, truth, num_parts=4, seed=3)
    mixed = spread([sources[i] for i in order], truth[order], num_parts=4, seed=3)
    assert (parts[order] == mixed).all()


def test_splits_that_entries_name_are_taken():
    sources = ["a", "a", "b", "c", "c"]
    splits = ["train", None, "test", "validation", "validation"]
    test = held_out(sources, splits, torch.zeros(5, 1), ratio=0.1, seed=0)
    assert test.tolist() == [False, False, True, True, True]


def test_a_source_in_both_splits_is_named():
    with pytest.raises(InputError, match=r"clips of a\.mp4 are both in the test split and outside it"):
        held_out(["a.mp4", "a.mp4", "b"], ["test", None, None], torch.zeros(3, 1), ratio=0.1, seed=0)
    with pytest.raises(InputError, match="none is left to train on"):
        held_out(["a", "b"], ["test", "test"], torch.zeros(2, 1), ratio=0.1, seed=0)


def test_too_few_sources_are_an_error():
    with pytest.raises(InputError, match="come from 1 source; at least 3 are needed"):
        held_out(["a"] * 9, [None] * 9, torch.zeros(9, 1), ratio=0.1, seed=0)


def test_one_huge_source_is_not_the_test():
    sources = ["huge"] * 50 + [f"s{i}" for i in range(50)]
    test = held_out(sources, [None] * 100, torch.zeros(100, 1), ratio=0.1, seed=0)
    assert not test[:50].any() and 3 <= test.sum() <= 15
