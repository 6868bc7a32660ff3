from dataclasses import replace

import numpy as np
import pytest
import torch

from cogvx.errors import InputError
from cogvx.training.filter import LabelledClips, train_filter
from cogvx.training.filter_recipe import FilterData, FilterFit, FilterRecipe

FAST = FilterFit(num_folds=3, score_ridge=(1e-3, 1e-2), frame_ridge=(1e-3, 1e-1, 1e6), num_components=8)
RECIPE = FilterRecipe(fit=FAST, data=FilterData(test_ratio=0.25))


def planted(n=480, seed=0, noise=0.1):
    """Clips whose labels are: a high score; one neither low nor high; a direction of frame features; chance."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, 4))
    hidden = rng.normal(size=(n, 2))
    features = (hidden @ rng.normal(size=(2, 40)) + 0.3 * rng.normal(size=(n, 40))).astype(np.float32)
    truth = np.stack(
        [
            scores[:, 0] + noise * rng.normal(size=n) > 0.4,
            np.abs(scores[:, 1] + noise * rng.normal(size=n)) < 0.6,
            hidden[:, 0] + noise * rng.normal(size=n) > 0,
            rng.random(n) < 0.3,
        ],
        axis=1,
    ).astype(np.float64)
    scores[rng.random(n) < 0.1, 3] = np.nan
    return LabelledClips(
        ids=tuple(f"c{i}" for i in range(n)),
        sources=tuple(f"film-{i % 30}" for i in range(n)),
        splits=(None,) * n,
        labels=("editing", "static", "text", "lecture"),
        truth=torch.tensor(truth),
        score_names=("a", "b", "c", "d"),
        scores=torch.tensor(scores),
        features=torch.tensor(features),
        frames={"network": "means", "sha256": "0" * 64, "num_frames": 3},
    )


@pytest.fixture(scope="module")
def trained():
    return train_filter(planted(), RECIPE)


def test_planted_faults_are_recognised_on_held_out_clips(trained):
    for label in ("editing", "static", "text"):
        assert trained.tests[label]["accuracy"] >= 0.88, label
        assert trained.tests[label]["auc"] >= 0.95, label
        assert trained.cross[label]["accuracy"] >= 0.88, label


def test_chance_is_not_recognised(trained):
    row = trained.cross["lecture"]
    assert 0.35 < row["auc"] < 0.65
    assert abs(row["accuracy"] - row["majority"]) < 0.05


def test_probabilities_are_calibrated():
    clips = planted(n=1200, noise=0.8)
    trained = train_filter(clips, RECIPE)
    fresh = planted(n=3000, noise=0.8, seed=5)
    # The frame features of another seed have other directions, so this asks about scores alone.
    chances = trained.network(fresh.scores.float(), torch.zeros(3000, 40))
    for i, label in ((0, "editing"), (1, "static")):
        assert trained.tests[label]["calibration_error"] < 0.12
        found = chances[:, trained.network.config.labels.index(label)]
        for low in (0.0, 0.2, 0.4, 0.6, 0.8):
            inside = (found >= low) & (found < low + 0.2)
            if int(inside.sum()) > 100:
                assert abs(float(found[inside].mean()) - float(fresh.truth[inside, i].mean())) < 0.1, (label, low)


def test_the_held_out_clips_share_no_source_with_the_others(trained):
    sides = {}
    for record in trained.predictions:
        sides.setdefault(record["source"], set()).add(record["test"])
    assert all(len(found) == 1 for found in sides.values())
    assert trained.tests["editing"]["n"] == sum(record["test"] for record in trained.predictions)


def test_the_truth_of_held_out_clips_changes_nothing(trained):
    clips = planted()
    test = torch.tensor([record["test"] for record in trained.predictions])
    swapped = clips.truth.clone()
    swapped[test] = 1 - swapped[test]
    splits = tuple("test" if held else None for held in test.tolist())
    first = train_filter(replace(clips, splits=splits), RECIPE)
    second = train_filter(replace(clips, splits=splits, truth=swapped), RECIPE)
    for name, tensor in first.network.state_dict().items():
        assert torch.equal(tensor, second.network.state_dict()[name]), name
    assert first.network.config == second.network.config


def test_the_same_clips_give_the_same_filter(trained):
    again = train_filter(planted(), RECIPE)
    for name, tensor in trained.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name]), name
    assert again.predictions == trained.predictions


def test_unknown_labels_are_left_out_of_training_and_table():
    clips = planted()
    truth = clips.truth.clone()
    truth[::3, 0] = torch.nan
    trained = train_filter(replace(clips, truth=truth), RECIPE)
    known = int((~truth[:, 0].isnan()).sum())
    assert trained.tests["editing"]["n"] + trained.cross["editing"]["n"] == known
    assert trained.cross["editing"]["accuracy"] >= 0.85


def test_every_fit_is_reported():
    records = []
    train_filter(planted(n=90), RECIPE, write=records.append)
    assert [record["step"] for record in records] == list(range(1, 4 * 6 + 1))
    assert {record["label"] for record in records} == {"editing", "static", "text", "lecture"}


@pytest.mark.parametrize("part", ["scores", "features"])
def test_either_kind_alone_is_enough(part):
    clips = planted(n=120)
    if part == "scores":
        clips = replace(clips, features=torch.zeros(120, 0))
    else:
        clips = replace(clips, scores=torch.zeros(120, 0, dtype=torch.float64), score_names=())
    trained = train_filter(clips, RECIPE)
    assert trained.cross["editing" if part == "scores" else "text"]["accuracy"] > 0.85


def test_rare_labels_are_left_out_with_the_reason():
    clips = planted(n=120)
    truth = clips.truth.clone()
    truth[:, 3] = 0
    truth[:2, 3] = 1
    trained = train_filter(replace(clips, truth=truth), RECIPE)
    assert "5 of each are needed" in trained.left_out["lecture"]
    asked = replace(RECIPE, data=replace(RECIPE.data, labels=("lecture",)))
    with pytest.raises(InputError, match="the label lecture cannot be learnt"):
        train_filter(replace(clips, truth=truth), asked)
    unknown = replace(RECIPE, data=replace(RECIPE.data, labels=("blur",)))
    with pytest.raises(InputError, match="no clip has the label blur"):
        train_filter(clips, unknown)


def test_a_label_of_one_source_cannot_be_learnt():
    clips = planted(n=240)
    truth = torch.zeros_like(clips.truth)
    truth[::30, 0] = 1
    with pytest.raises(InputError, match="come from one source"):
        train_filter(replace(clips, truth=truth), replace(RECIPE, data=FilterData(min_clips=2)))
