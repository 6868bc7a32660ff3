"""Tiny models with random weights, made and saved by diffusers itself."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

ROTARY = {"use_rotary_positional_embeddings": True}
FORMS = {
    "2b": {},
    "5b": ROTARY,
    "5b-i2v": {**ROTARY, "use_learned_positional_embeddings": True, "in_channels": 8},
    "1.5": {**ROTARY, "patch_size_t": 2, "patch_bias": False},
    "1.5-i2v": {**ROTARY, "patch_size_t": 2, "patch_bias": False, "ofs_embed_dim": 8, "in_channels": 8},
}


def make_transformer(form: str):
    """Two layers, two heads of 16; every weight random, the learned table too."""
    from diffusers import CogVideoXTransformer3DModel

    torch.manual_seed(0)
    sizes = {
        "num_layers": 2,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "text_embed_dim": 12,
        "time_embed_dim": 8,
    }
    sample = {"max_text_seq_length": 6, "sample_height": 4, "sample_width": 8, "sample_frames": 5}
    transformer = CogVideoXTransformer3DModel(**{"in_channels": 4, "out_channels": 4, **sizes, **sample, **FORMS[form]})
    for tensor in transformer.state_dict().values():
        tensor.normal_(std=0.2)
    return transformer.eval()


def make_vae(channels: tuple[int, ...] = (8, 8, 8, 8), **settings: object):
    from diffusers import AutoencoderKLCogVideoX

    torch.manual_seed(1)
    sizes = {"norm_num_groups": 4, "latent_channels": 4, "layers_per_block": 1, **settings}
    return AutoencoderKLCogVideoX(block_out_channels=channels, sample_height=32, sample_width=64, **sizes).eval()


def make_text_encoder():
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(2)
    sizes = {"vocab_size": 20, "d_model": 12, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    return T5EncoderModel(T5Config(**sizes, feed_forward_proj="gated-gelu")).eval()


def make_tokenizer():
    from transformers import T5Tokenizer

    words = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        ("▁", -2.0),
        *((letter, -3.0) for letter in "abcdefghijklmnop"),
    ]
    return T5Tokenizer(vocab=words, extra_ids=0)


def save_pipeline(folder: Path, form: str) -> None:
    import diffusers

    kind = diffusers.CogVideoXImageToVideoPipeline if form.endswith("i2v") else diffusers.CogVideoXPipeline
    scheduler = diffusers.CogVideoXDDIMScheduler(
        snr_shift_scale=3.0 if form == "2b" else 1.0,
        rescale_betas_zero_snr=True,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
    )
    parts = {"vae": make_vae(), "transformer": make_transformer(form), "scheduler": scheduler}
    kind(tokenizer=make_tokenizer(), text_encoder=make_text_encoder(), **parts).save_pretrained(folder)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give the folder of a tiny model of one form. Tests read it and never write to it."""
    made: dict[str, Path] = {}

    def folder(form: str = "5b") -> Path:
        if form not in made:
            made[form] = tmp_path_factory.mktemp("models") / form
            save_pipeline(made[form], form)
        return made[form]

    return folder


@pytest.fixture(scope="session")
def transformer() -> Callable[[str], torch.nn.Module]:
    """Give a reference transformer of one form."""
    return make_transformer


@pytest.fixture(scope="session")
def vae() -> Callable[..., torch.nn.Module]:
    """Give a reference VAE."""
    return make_vae


@pytest.fixture
def canary(tmp_path: Path) -> tuple[object, Path]:
    """An object that makes a file when it is unpickled, and that file."""
    target = tmp_path / "canary"

    class Evil:
        def __reduce__(self):
            return open, (str(target), "w")

    return Evil(), target
