"""The dual encoder: lengths, batches, its loss, its files."""

import math

import pytest
import torch

from cogvx.checkpoints.clip_text import load_captioner, load_dual_encoder, write_clip_text
from cogvx.errors import InputError
from cogvx.models.dual_encoder import DualEncoder, DualEncoderConfig, contrastive_losses

CONFIG = DualEncoderConfig(
    latent_channels=4,
    grid=(4, 6),
    convolutions=(5,),
    hidden_size=16,
    embed_size=8,
    dropout=0.0,
    words=("a", "red", "star", "boat"),
    sizes=((32, 48),),
    num_frames=9,
    fps=8.0,
    output_size=12,
)


@pytest.fixture
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return DualEncoder(CONFIG).requires_grad_(False)


def test_vectors_have_length_one_and_do_not_depend_on_the_batch(network):
    captions = ["a red star", "A boat.", "unheard words", "", "a red star a red boat"]
    texts = network.encode_captions(captions)
    latents = torch.randn(3, 4, 2, 8, 12, generator=torch.Generator().manual_seed(0))
    clips = network.encode_clips(latents)
    assert texts.shape == (5, 12) and clips.shape == (3, 12)
    assert torch.allclose(torch.cat([texts, clips]).norm(dim=1), torch.ones(8))
    for i, caption in enumerate(captions):
        assert torch.allclose(network.encode_captions([caption])[0], texts[i], atol=1e-6)
    assert torch.equal(network.encode_captions(["RED star!"]), network.encode_captions(["red star"]))
    assert not torch.allclose(network.encode_captions(["star red"]), network.encode_captions(["red star"]), atol=1e-4)
    features = network.clip_features(latents)
    assert torch.allclose(features / features.norm(dim=1, keepdim=True), clips, atol=1e-6)


def test_the_loss_is_the_cross_entropy_of_both_directions():
    vectors = torch.eye(3)
    apart = torch.eye(3, dtype=torch.bool)
    right = contrastive_losses(vectors, vectors, torch.tensor(2.0), same=apart)
    assert right.tolist() == pytest.approx([-2 + math.log(math.exp(2) + 2)] * 3)
    wrong = contrastive_losses(vectors, vectors.roll(1, 0), torch.tensor(2.0), same=apart)
    assert wrong.tolist() == pytest.approx([math.log(math.exp(2) + 2)] * 3)


def test_the_same_caption_is_no_wrong_answer():
    vectors = torch.eye(2)[[0, 0, 1]]
    same = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    losses = contrastive_losses(vectors, vectors, torch.tensor(50.0), same=same)
    assert losses.max() < 1e-6
    assert contrastive_losses(vectors, vectors, torch.tensor(50.0), same=torch.eye(3, dtype=torch.bool)).max() > 0.6


def test_the_temperature_starts_at_seven_hundredths_and_has_a_floor(network):
    assert 1 / float(network.scale) == pytest.approx(0.07)
    network.log_scale.fill_(50.0)
    assert float(network.scale) == 100


def test_saving_and_loading(network, tmp_path):
    write_clip_text(network, tmp_path)
    again = load_dual_encoder(tmp_path)
    assert again.config == network.config
    assert all(torch.equal(again.state_dict()[name], weight) for name, weight in network.state_dict().items())
    with pytest.raises(InputError, match="captioner"):
        load_captioner(tmp_path)
