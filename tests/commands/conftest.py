"""Models in the diffusers layout, made by diffusers itself with random weights, and a way to run the command line."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

WORDS = "a red star moves to the right over green field blue boat sea in of and up down left circle".split()
FORMS = {
    "2b": {},
    "5b": {"use_rotary_positional_embeddings": True},
    "5b-i2v": {"use_rotary_positional_embeddings": True, "use_learned_positional_embeddings": True},
    "1.5": {"use_rotary_positional_embeddings": True, "patch_size_t": 2, "patch_bias": False},
    "1.5-i2v": {"use_rotary_positional_embeddings": True, "patch_size_t": 2, "patch_bias": False, "ofs_embed_dim": 16},
}
TEXT_LENGTH = 12


def build_pipeline(form: str):
    """A tiny pipeline of diffusers: 32x48 pixels, 17 frames, all weights random."""
    import diffusers
    import transformers

    torch.manual_seed(0)
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((f"▁{word}", -3.0) for word in WORDS)]
    vocabulary += [(letter, -8.0) for letter in "abcdefghijklmnopqrstuvwxyz"]
    tokenizer = transformers.T5Tokenizer(vocab=vocabulary, extra_ids=0)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
    config = transformers.T5Config(vocab_size=len(vocabulary), feed_forward_proj="gated-gelu", **sizes)
    text_encoder = transformers.T5EncoderModel(config).eval()
    vae = diffusers.AutoencoderKLCogVideoX(
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        sample_height=32,
        sample_width=48,
        scaling_factor=1.15258426 if form == "2b" else 0.7,
        invert_scale_latents=form.startswith("1.5"),
    ).eval()
    transformer = diffusers.CogVideoXTransformer3DModel(
        num_layers=2,
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=8 if form.endswith("i2v") else 4,
        out_channels=4,
        time_embed_dim=16,
        text_embed_dim=16,
        max_text_seq_length=TEXT_LENGTH,
        sample_height=4,
        sample_width=6,
        sample_frames=17,
        **FORMS[form],
    ).eval()
    with torch.no_grad():  # the default weights are so small that guidance and text would hardly matter
        for parameter in transformer.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.15)
        if transformer.config.use_learned_positional_embeddings:
            transformer.patch_embed.pos_embedding.normal_(std=0.5)
    scheduler = diffusers.CogVideoXDDIMScheduler(
        snr_shift_scale=3.0 if form == "2b" else 1.0,
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=True,
    )
    kind = diffusers.CogVideoXImageToVideoPipeline if form.endswith("i2v") else diffusers.CogVideoXPipeline
    return kind(tokenizer, text_encoder, vae, transformer, scheduler)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give the folder of a tiny model of one form, as diffusers saved it."""
    made: dict[str, Path] = {}

    def folder(form: str = "5b") -> Path:
        if form not in made:
            made[form] = tmp_path_factory.mktemp("models") / f"tiny-{form}"
            build_pipeline(form).save_pretrained(made[form])
        return made[form]

    return folder


@pytest.fixture
def cogvx(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Run the command line in an empty working folder, without a network."""
    from huggingface_hub import constants

    from cogvx.commands import app

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path.parent / "hub"))
    monkeypatch.delenv("COGVX_MODEL", raising=False)

    def run(*arguments: object, **settings: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], **settings)

    return run
