import json

import numpy as np
import pytest
import torch
import transformers
from moving_pictures import pan, texture
from PIL import Image
from safetensors.torch import save_file

from cogvx.curation.aesthetic import Aesthetic, covering, read_head
from cogvx.data.signals.sample import sample_of
from cogvx.errors import InputError, MissingError

WIDTH = 12


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A tiny CLIP with random weights, saved as the real one is."""
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config={**small, "vocab_size": 40, "max_position_embeddings": 8},
        vision_config={**small, "image_size": 32, "patch_size": 8, "projection_dim": WIDTH},
        projection_dim=WIDTH,
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    numbers = {"image_mean": [0.4, 0.45, 0.5], "image_std": [0.3, 0.25, 0.2]}
    (folder / "preprocessor_config.json").write_text(json.dumps(numbers))
    return folder


def save_head(path, sizes=(WIDTH, 8, 4, 1), prefix="layers.", numbers=(0, 2, 4, 6)):
    torch.manual_seed(1)
    tensors = {}
    for number, wide, narrow in zip(numbers, sizes[:-1], sizes[1:], strict=False):
        tensors[f"{prefix}{number}.weight"] = torch.randn(narrow, wide)
        tensors[f"{prefix}{number}.bias"] = torch.randn(narrow)
    save_file(tensors, path)
    return tensors


def expected(clip, tensors, frames):
    """What the network and the head, applied by hand, say of frames that have CLIP's size."""
    model = transformers.CLIPModel.from_pretrained(clip).eval()
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    pixels = (pixels - torch.tensor([0.4, 0.45, 0.5]).view(3, 1, 1)) / torch.tensor([0.3, 0.25, 0.2]).view(3, 1, 1)
    with torch.no_grad():
        values = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
        values = values / values.norm(dim=1, keepdim=True)
        for index in range(0, len(tensors), 2):
            weight, bias = list(tensors.values())[index : index + 2]
            values = values @ weight.T + bias
    return values[:, 0].numpy()


def test_scores_are_those_of_the_network_and_the_head(clip, tmp_path):
    tensors = save_head(tmp_path / "head.safetensors")
    frames = np.stack([texture(32, 32, seed) for seed in range(3)])
    signal = Aesthetic(str(clip), str(tmp_path / "head.safetensors"))
    signal.open()
    wanted = expected(clip, tensors, frames)
    found = signal.measure(sample_of(frames, 8.0)).scores
    assert found == pytest.approx({"aesthetic": wanted.mean(), "aesthetic_min": wanted.min()}, rel=1e-4)
    assert np.ptp(wanted) > 1e-3


def test_the_plain_linear_head(clip, tmp_path):
    torch.manual_seed(2)
    tensors = {"weight": torch.randn(1, WIDTH), "bias": torch.randn(1)}
    save_file(tensors, tmp_path / "linear.safetensors")
    frames = np.stack([texture(32, 32, seed) for seed in range(2)])
    found = Aesthetic(str(clip), str(tmp_path / "linear.safetensors"))(frames, 8.0)
    assert found["aesthetic"] == pytest.approx(expected(clip, tensors, frames).mean(), rel=1e-4)


def test_what_it_was_made_with(clip, tmp_path):
    for name, sizes in (("a", (WIDTH, 1)), ("b", (WIDTH, 3, 1))):
        save_head(tmp_path / f"{name}.safetensors", sizes)
    made = [Aesthetic(str(clip), str(tmp_path / f"{name}.safetensors")).made() for name in "ab"]
    assert made[0]["head_sha256"] != made[1]["head_sha256"]
    assert made[0]["clip_sha256"] == made[1]["clip_sha256"]
    assert not any(str(tmp_path) in str(value) or str(clip) in str(value) for value in made[0].values())


def test_layers_come_in_the_order_of_their_numbers(tmp_path):
    save_head(tmp_path / "head.safetensors", (9, 7, 5, 3, 1), prefix="mlp.layers.", numbers=(0, 2, 4, 10))
    assert [weight.shape for weight, _ in read_head(tmp_path / "head.safetensors")] == [(7, 9), (5, 7), (3, 5), (1, 3)]


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"layers.0.weight": torch.zeros(1, 4)},
        {"layers.0.weight": torch.zeros(2, 4), "layers.0.bias": torch.zeros(2)},
        {"layers.0.weight": torch.zeros(1, 4), "layers.0.bias": torch.zeros(2)},
        {"other": torch.zeros(3)},
    ],
)
def test_other_files_are_refused(tmp_path, tensors):
    save_file(tensors, tmp_path / "head.safetensors")
    with pytest.raises(InputError, match=r"head\.safetensors"):
        read_head(tmp_path / "head.safetensors")


def test_no_safetensors(tmp_path):
    (tmp_path / "head.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(InputError, match="not a safetensors file"):
        read_head(tmp_path / "head.safetensors")


def test_a_head_for_another_network(clip, tmp_path):
    save_head(tmp_path / "head.safetensors", (768, 1))
    with pytest.raises(InputError, match="it takes 768 features"):
        Aesthetic(str(clip), str(tmp_path / "head.safetensors")).open()


def test_missing_weights_say_how_to_get_them(clip, tmp_path):
    with pytest.raises(MissingError, match="hf download ttj/sac-logos-ava1-l14-linearMSE"):
        Aesthetic(str(clip), str(tmp_path / "nowhere.safetensors")).open()


def test_frames_are_shown_as_clip_shows_them():
    frames = pan(1, 48, 96, 0)
    shown = covering(frames, 32, 32)[0]
    resized = Image.fromarray(frames[0]).resize((64, 32), Image.Resampling.BICUBIC)
    assert np.array_equal(shown, np.asarray(resized)[:, 16:48])
    processor = transformers.CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, do_normalize=False, do_rescale=False
    )
    theirs = np.asarray(processor(Image.fromarray(frames[0]))["pixel_values"][0])
    assert np.abs(shown.transpose(2, 0, 1) - theirs.astype(int)).mean() < 1
