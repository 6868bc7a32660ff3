import pytest
import torch

from cogvx.errors import InputError
from cogvx.models.clip_filter import ClipFilter, ClipFilterConfig, pool_frames, quantiles, score_columns

FRAMES = {"network": "means", "sha256": "0" * 64, "num_frames": 3}


def config(**changes):
    fields = {
        **{"labels": ("text",), "scores": ("flow", "area"), "gaps": ("flow",), "num_knots": 5},
        **{"feature_size": 8, "num_components": 3, "thresholds": {"text": 0.5}, "frames": FRAMES, "made": {}},
    }
    return ClipFilterConfig(**{**fields, **changes})


def test_frames_are_pooled_into_mean_deviation_change_and_maximum():
    pooled = pool_frames(torch.tensor([[0.0, 1.0], [2.0, 1.0], [1.0, 4.0]]))
    deviation = torch.tensor([[0.0, 2.0, 1.0], [1.0, 1.0, 4.0]]).std(dim=1, correction=0)
    assert torch.allclose(pooled, torch.tensor([1.0, 2.0, *deviation, 1.5, 1.5, 2.0, 4.0]))


def test_the_order_of_frames_counts_in_their_change_alone():
    frames = torch.arange(12.0).reshape(6, 2)
    mixed = pool_frames(frames[[0, 4, 1, 5, 2, 3]])
    ordered = pool_frames(frames)
    assert torch.allclose(mixed[:4], ordered[:4]) and torch.allclose(mixed[6:], ordered[6:])
    assert (mixed[4:6] > ordered[4:6]).all()


def test_one_frame_neither_deviates_nor_changes():
    assert torch.equal(pool_frames(torch.tensor([[3.0, 4.0]])), torch.tensor([3.0, 4.0, 0, 0, 0, 0, 3.0, 4.0]))


def ranks(scores, knots):
    """The rank of each score that its first column stands for."""
    return torch.special.ndtr(score_columns(scores, knots)[:, 0])


def test_a_score_counts_by_its_rank_whatever_its_unit():
    scores = torch.randn(200, 1, generator=torch.Generator().manual_seed(0)).double()
    found = ranks(scores, quantiles(scores, 33))
    same = ranks(scores.exp() * 1000, quantiles(scores.exp() * 1000, 33))
    assert (found.sort().values - torch.linspace(0, 1, 200)).abs().max() < 0.02
    assert (found[scores[:, 0].argsort()].diff() >= 0).all()
    assert (found - same).abs().max() < 0.02


def test_outliers_have_the_rank_of_the_ends():
    knots = quantiles(torch.arange(11.0)[:, None].double(), 5)
    found = ranks(torch.tensor([[-1e9], [5.0], [1e9]]).double(), knots)
    assert torch.allclose(found, torch.tensor([0.005, 0.5, 0.995]).double())


def test_a_score_that_many_clips_share_lies_in_the_middle_of_them():
    scores = torch.tensor([0.0] * 80 + [1.0] * 20).double()[:, None]
    low, high = ranks(torch.tensor([[0.0], [1.0]]).double(), quantiles(scores, 33))
    assert low == pytest.approx(0.4, abs=0.03) and high == pytest.approx(0.9, abs=0.03)


def test_a_column_bends_at_five_ranks():
    knots = quantiles(torch.linspace(0, 1, 101)[:, None].double(), 101)
    columns = score_columns(torch.linspace(0, 1, 101)[:, None].double(), knots)
    above = [int((column > 1e-4).sum()) for column in columns[:, 1:].T]
    assert above == [90, 75, 50, 25, 10]


def test_a_missing_score_counts_as_the_average_and_says_so():
    network = ClipFilter(config())
    network.knots.copy_(torch.linspace(0, 1, 5).expand(2, 5))
    network.centre.uniform_(generator=torch.Generator().manual_seed(0))
    design = network.design(torch.tensor([[float("nan"), 0.3], [0.6, 0.3]]), torch.zeros(2, 8))
    assert design.shape == (2, network.config.design_size)
    assert design.isfinite().all()
    assert torch.equal(design[0, :6], torch.zeros(6)) and design[0, 12] == 1
    assert design[1, :6].abs().max() > 0 and design[1, 12] == 0


def test_a_config_survives_json_and_refuses_nonsense():
    table = config().to_dict()
    assert ClipFilterConfig.from_dict(table) == config()
    for change, message in (
        ({"extra": 1}, "other fields"),
        ({"labels": [1]}, "labels must be a list of names"),
        ({"num_components": 9}, "do not fit"),
        ({"thresholds": {}}, "a threshold for each"),
        ({"gaps": ["blur"]}, "some of the scores"),
        ({"version": 2}, "version 2"),
        ({"num_knots": 1}, "at least 2"),
        ({"frames": {**FRAMES, "num_frames": "3"}}, "which network saw them"),
    ):
        with pytest.raises(InputError, match=message):
            ClipFilterConfig.from_dict({**table, **change})
