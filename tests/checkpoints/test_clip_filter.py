import json

import pytest
import torch

from cogvx.checkpoints.clip_filter import filter_sha256, load_filter, write_filter
from cogvx.errors import InputError
from cogvx.models.clip_filter import ClipFilter, ClipFilterConfig


@pytest.fixture
def network():
    config = ClipFilterConfig(
        labels=("editing", "text"), scores=("flow",), gaps=(), num_knots=4, feature_size=0, num_components=0,
        thresholds={"editing": 0.4, "text": 0.6}, frames={}, made={"flow": {"version": 1}},
    )  # fmt: skip
    torch.manual_seed(0)
    network = ClipFilter(config)
    for tensor in network.state_dict().values():
        tensor.uniform_()
    return network


def test_a_filter_comes_back_as_it_was(network, tmp_path):
    write_filter(network, tmp_path / "run" / "model")
    loaded = load_filter(tmp_path / "run")
    assert loaded.config == network.config
    scores, features = torch.rand(5, 1), torch.zeros(5, 0)
    assert torch.equal(loaded(scores, features), network(scores, features))


def test_its_hash_changes_with_weights_and_thresholds(network, tmp_path):
    write_filter(network, tmp_path / "a")
    before = filter_sha256(tmp_path / "a")
    table = json.loads((tmp_path / "a" / "config.json").read_text())
    table["thresholds"]["text"] = 0.7
    (tmp_path / "a" / "config.json").write_text(json.dumps(table))
    assert filter_sha256(tmp_path / "a") != before
    network.bias.data.add_(1)
    write_filter(network, tmp_path / "b")
    assert filter_sha256(tmp_path / "b") != before


@pytest.mark.parametrize(
    "change,message",
    [
        (lambda table: table.update(_class_name="Captioner"), "not of a filter"),
        (lambda table: table.update(num_knots=9), "another shape"),
        (lambda table: table.pop("scores"), "other fields"),
    ],
)
def test_a_config_that_does_not_fit_is_named(network, tmp_path, change, message):
    write_filter(network, tmp_path)
    table = json.loads((tmp_path / "config.json").read_text())
    change(table)
    (tmp_path / "config.json").write_text(json.dumps(table))
    with pytest.raises(InputError, match=message):
        load_filter(tmp_path)


def test_a_folder_without_a_filter_names_the_command(tmp_path):
    with pytest.raises(InputError, match="cogvx train filter"):
        load_filter(tmp_path)
