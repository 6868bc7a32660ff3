"""Networks of transformers with random weights: their doors, and the resizing that VBench does."""

import numpy as np
import pytest
import torch
import transformers

from cogvx.errors import InputError, MissingError, UsageError
from cogvx.evaluation.vbench import networks
from cogvx.evaluation.vbench.xclip import is_xclip, open_xclip, read_labels

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 40, 60, 3), dtype=np.uint8)
SIZES = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def saved(folder, model):
    model.save_pretrained(folder)
    return str(folder)


def test_dino(tmp_path):
    torch.manual_seed(0)
    config = transformers.ViTConfig(**SIZES, image_size=32, patch_size=16)
    door = networks.open_dino(saved(tmp_path / "dino", transformers.ViTModel(config, add_pooling_layer=False)))
    found = door.images(FRAMES)  # 32x48: positions are interpolated
    assert found.shape == (3, 16) and door.texts is None and door.backend["name"] == "dino"
    assert np.allclose(door.images(FRAMES[1:2])[0], found[1], atol=1e-5) and len(door.backend["sha256"]) == 64


def test_actions(tmp_path):
    torch.manual_seed(0)
    config = transformers.VideoMAEConfig(
        **SIZES, image_size=32, patch_size=16, num_frames=4, tubelet_size=2, id2label={0: "riding_a bike", 1: "skiing"}
    )
    door = networks.open_actions(saved(tmp_path / "mae", transformers.VideoMAEForVideoClassification(config)))
    assert (door.name, door.num_frames, door.labels) == ("videomae", 4, ("riding a bike", "skiing"))
    assert door.logits(np.repeat(FRAMES[:1], 4, axis=0)).shape == (2,)


def test_clip_vision_and_words(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    torch.manual_seed(0)
    vocabulary = {"<|endoftext|>": 1, "<|startoftext|>": 0, "style</w>": 2, "ink</w>": 3}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<|endoftext|>"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|endoftext|>", pad_token="<|endoftext|>", model_max_length=8
    ).save_pretrained(tmp_path / "clip")
    text = {
        **SIZES,
        "vocab_size": 4,
        "max_position_embeddings": 8,
        "eos_token_id": 1,
        "bos_token_id": 0,
        "projection_dim": 8,
    }
    config = transformers.CLIPConfig(
        text_config=text,
        vision_config={**SIZES, "image_size": 32, "patch_size": 16, "projection_dim": 8},
        projection_dim=8,
    )
    door = networks.open_clip(saved(tmp_path / "clip", transformers.CLIPModel(config)))
    assert door.images(FRAMES).shape == (3, 8) and door.texts is not None and door.texts("ink").shape == (8,)


def test_xclip_compares_with_names(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    torch.manual_seed(0)
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<e>": 1, "<s>": 0, "skiing": 2}, unk_token="<e>"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<e>", pad_token="<e>", model_max_length=8
    ).save_pretrained(tmp_path / "xclip")
    text = SIZES | {"vocab_size": 3, "max_position_embeddings": 8, "eos_token_id": 1, "bos_token_id": 0}
    vision = SIZES | {"image_size": 32, "patch_size": 16, "num_frames": 4, "mit_hidden_size": 8}
    vision |= {"mit_intermediate_size": 16, "mit_num_hidden_layers": 1, "mit_num_attention_heads": 2}
    config = transformers.XCLIPConfig(
        text_config=text, vision_config=vision, projection_dim=8, prompt_layers=1, prompt_num_attention_heads=2
    )
    folder = saved(tmp_path / "xclip", transformers.XCLIPModel(config))
    assert is_xclip(folder)
    with pytest.raises(UsageError, match="--action-labels"):
        open_xclip(folder, None)
    (tmp_path / "labels.txt").write_text("skiing\nriding a bike\n\njuggling\n")
    door = open_xclip(folder, tmp_path / "labels.txt")
    assert (door.name, door.num_frames, door.labels) == ("xclip", 4, ("skiing", "riding a bike", "juggling"))
    shares = 1 / (1 + np.exp(-door.logits(np.repeat(FRAMES[:1], 4, axis=0))))
    assert shares.shape == (3,) and shares.sum() == pytest.approx(1)
    (tmp_path / "labels.json").write_text('["skiing", "juggling"]')
    assert read_labels(tmp_path / "labels.json") == ("skiing", "juggling")
    for text in ("", "skiing", "[1, 2]", "["):
        (tmp_path / "labels.json").write_text(text)
        with pytest.raises(InputError):
            read_labels(tmp_path / "labels.json")


def test_flow_of_dis():
    pytest.importorskip("cv2")
    texture = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    field = networks.open_flow("dis").flow(texture[:120, :180], texture[:120, 4:184])
    assert field.shape == (120, 180, 2) and np.median(field[..., 0]) == pytest.approx(-4, abs=0.3)


def test_what_is_not_there(tmp_path):
    with pytest.raises(MissingError, match="hf download"):
        networks.open_dino("nobody/nothing-here")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no DINO"):
        networks.open_dino(str(tmp_path / "empty"))
    with pytest.raises((InputError, UsageError)):
        networks.open_objects(str(tmp_path / "empty"))


def test_weights_that_are_lacking_are_not_drawn(tmp_path):
    config = transformers.VideoMAEConfig(**SIZES, image_size=32, patch_size=16, num_frames=4, tubelet_size=2)
    with pytest.raises(InputError, match="lacks weights, such as classifier"):
        networks.open_actions(saved(tmp_path / "headless", transformers.VideoMAEModel(config)))


def test_resizing_and_cropping():
    frames = torch.rand(1, 3, 40, 60) * 255
    small = networks.resize_short(frames, 20, mode="bicubic")
    assert (
        small.shape == (1, 3, 20, 30) and torch.equal(small, small.round()) and 0 <= small.min() <= small.max() <= 255
    )
    assert torch.equal(networks.crop(small, 20), small[..., 5:25])
    grey = networks.normalised(torch.full((1, 3, 2, 2), 255.0), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert torch.equal(grey, torch.ones(1, 3, 2, 2))
