from dataclasses import replace

import numpy as np
import pytest
import torch

from cogvx.checkpoints.clip_filter import write_filter
from cogvx.checkpoints.frame_networks import FrameNetwork
from cogvx.curation.label_filter import FilterLabels, scores_of
from cogvx.data.stages import Item
from cogvx.data.video import write_clip
from cogvx.errors import InputError
from cogvx.models.clip_filter import ClipFilter, ClipFilterConfig

CONFIG = ClipFilterConfig(
    labels=("editing", "text"), scores=("flow", "area"), gaps=("area",), num_knots=3, feature_size=0, num_components=0,
    thresholds={"editing": 0.5, "text": 0.5}, frames={}, made={"flow": {"version": 1}},
)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    network = ClipFilter(CONFIG).requires_grad_(False)
    network.knots.copy_(torch.tensor([[0.0, 5, 10], [0, 0.5, 1]]))
    network.weight[1, 6] = 2.0  # text: the rank of the area, as deviations of a normal distribution
    network.bias.copy_(torch.tensor([0.0, -4.0]))
    write_filter(network, tmp_path / "filter")
    return tmp_path / "filter"


def item(**scores):
    entry = {"video": "a.mp4", "scores": scores, "made": {"flow": {"version": 1}}}
    return Item(id="a.mp4", entry=entry, path=None, place="m.jsonl:1")


def test_a_clip_gets_the_probabilities_of_the_filter(folder):
    stage = FilterLabels(folder)
    (entry,) = stage.process(item(flow=5.0, area=1.0))
    assert entry["labels"]["editing"] == 0.5
    assert entry["labels"]["text"] == pytest.approx(1 / (1 + np.exp(4 - 2 * 2.5758)), abs=1e-4)
    assert not stage.wanted(entry)
    assert entry["made"]["labels.text"]["labeller"] == "filter"


def test_another_filter_labels_anew(folder, tmp_path):
    (entry,) = FilterLabels(folder).process(item(flow=5.0, area=1.0))
    network = ClipFilter(CONFIG)
    write_filter(network, tmp_path / "other")
    assert FilterLabels(tmp_path / "other").wanted(entry)


def test_some_labels_only(folder):
    stage = FilterLabels(folder, labels=("text",))
    assert list(stage.process(item(flow=5.0, area=0.5))[0]["labels"]) == ["text"]
    assert stage.columns() == ("labels.text", "made.labels.text")
    with pytest.raises(InputError, match="does not know the label blur; it has editing, text"):
        FilterLabels(folder, labels=("blur",)).columns()


def test_a_score_may_be_missing_if_the_training_knew_that():
    found = scores_of(item(flow=5.0).entry, CONFIG)
    assert found[0] == 5 and found[1].isnan()


def test_a_score_that_the_filter_needs_is_named(folder):
    entry = {"video": "a.mp4", "scores": {"area": 0.1}}
    with pytest.raises(InputError, match=r"needs scores that the entry has not \(flow\): run `cogvx data score` first"):
        scores_of(entry, CONFIG)
    with pytest.raises(InputError, match="needs scores"):
        scores_of({"video": "a.mp4"}, CONFIG)


def test_a_score_that_was_looked_for_and_does_not_exist_is_no_fault():
    entry = {"image": "a.png", "scores": {"area": 0.1}, "made": {"flow": {"version": 1}}}
    assert scores_of(entry, CONFIG)[0].isnan()


def test_a_score_that_was_made_in_another_way_is_refused():
    entry = {"video": "a.mp4", "scores": {"flow": 1.0, "area": 0.1}, "made": {"flow": {"version": 2}}}
    with pytest.raises(InputError, match="the score flow was made in another way"):
        scores_of(entry, CONFIG)


def means(name, device, sha256="0" * 64):
    return FrameNetwork(name, sha256, (8, 8), 3, lambda frames: frames.float().mean(dim=(1, 2)))


def test_frames_are_looked_at_by_the_network_of_the_training(tmp_path, monkeypatch):
    monkeypatch.setattr("cogvx.curation.label_filter.open_frame_network", means)
    frames = {"network": "means", "sha256": "0" * 64, "num_frames": 2}
    config = replace(CONFIG, scores=(), gaps=(), num_knots=0, made={}, feature_size=12, num_components=1, frames=frames)
    network = ClipFilter(config).requires_grad_(False)
    network.components[:3] = 1 / 300  # the mean brightness, from 0 to 2.55
    network.weight[0, 0], network.bias[0] = 10.0, -10.0
    write_filter(network, tmp_path / "filter")
    clip = np.zeros((8, 8, 8, 3), np.uint8)
    clip[4:] = 200
    write_clip(tmp_path / "a.mkv", clip, 8.0)
    stage = FilterLabels(tmp_path / "filter", cache=tmp_path / "cache")
    for span, mean in (({}, 100), ({"end": 0.5}, 0), ({"start": 0.5}, 200)):
        found = stage.process(Item("a", {"video": "a.mkv", **span}, tmp_path / "a.mkv", "m.jsonl:1"))[0]["labels"]
        assert found["editing"] == pytest.approx(1 / (1 + np.exp(10 - mean / 10)), abs=0.02), span
    assert len(list((tmp_path / "cache").glob("??/*"))) == 3


def test_other_weights_of_the_network_are_refused(tmp_path, monkeypatch):
    frames = {"network": "means", "sha256": "1" * 64, "num_frames": 2}
    write_filter(ClipFilter(replace(CONFIG, feature_size=12, num_components=1, frames=frames)), tmp_path / "filter")
    monkeypatch.setattr("cogvx.curation.label_filter.open_frame_network", means)
    with pytest.raises(InputError, match="trained with other weights of means"):
        FilterLabels(tmp_path / "filter").open()
