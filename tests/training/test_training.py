"""The loops learn, and go on exactly where they were stopped."""

import numpy as np
import pytest
import torch
from transformers import T5Config, T5EncoderModel

from cogvx.diffusion.schedule import Schedule
from cogvx.errors import InputError
from cogvx.files import save_safetensors
from cogvx.models.text_encoder import TextEncoder
from cogvx.models.transformer import ExpertTransformer, TransformerConfig
from cogvx.models.vae import CausalVAE, VAEConfig
from cogvx.training.dit import DiTRecipe, Encoded, train_dit
from cogvx.training.start import init_transformer
from cogvx.training.state import load_state
from cogvx.training.vae import VAERecipe, train_vae


def make_vae():
    torch.manual_seed(0)
    return CausalVAE(
        VAEConfig(block_out_channels=(4, 4, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=2)
    )


@pytest.fixture
def clips():
    rows = np.linspace(0, 255, 16).astype(np.uint8)
    clip = np.broadcast_to(rows[None, :, None, None], (9, 16, 16, 3))
    return np.stack([clip, 255 - clip])


def run_vae(clips, path, *stops):
    records = []
    for stop in stops:
        recipe = VAERecipe(
            num_steps=12, plan=((0.5, 1, 2), (1.0, 9, 1)), autocast=False, log_every=3, save_every=stop, warmup=2
        )
        vae = make_vae()
        if stop < recipe.num_steps:
            with pytest.raises(KeyboardInterrupt):
                train_vae(vae, clips, recipe, state=path, log=interrupt_at(stop))
        else:
            train_vae(vae, clips, recipe, state=path, log=records.append)
    return vae, records


def interrupt_at(step):
    def log(record):
        if record["step"] > step:
            raise KeyboardInterrupt

    return log


def test_the_vae_learns(clips, tmp_path):
    records = []
    recipe = VAERecipe(num_steps=60, plan=((1.0, 1, 2),), autocast=False, log_every=10, lr=1e-2, warmup=5)
    train_vae(make_vae(), clips, recipe, state=tmp_path / "vae.safetensors", log=records.append)
    assert records[-1]["psnr"] > records[0]["psnr"] + 3


def test_the_vae_resumes_exactly(clips, tmp_path):
    whole, _ = run_vae(clips, tmp_path / "a.safetensors", 12)
    resumed, _ = run_vae(clips, tmp_path / "b.safetensors", 6, 12)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def dit_parts():
    torch.manual_seed(0)
    config = TransformerConfig(
        num_layers=2,
        num_heads=2,
        head_dim=16,
        in_channels=4,
        out_channels=4,
        text_size=16,
        time_size=16,
        max_text_length=6,
        sample_height=4,
        sample_width=4,
        sample_frames=9,
        rotary=True,
    )
    transformer = ExpertTransformer(config)
    init_transformer(transformer, generator=torch.Generator().manual_seed(0))
    t5 = T5EncoderModel(
        T5Config(vocab_size=12, d_model=16, d_kv=8, num_heads=2, d_ff=16, num_layers=1, dropout_rate=0.0)
    )
    return transformer, TextEncoder(None, t5, 6)


def run_dit(path, *stops, images=False, num_steps=12):
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 4, 3, 4, 4, generator=generator).expand(8, -1, -1, -1, -1).contiguous()
    ids = torch.randint(3, 12, (2, 8, 6), generator=generator)
    data = Encoded(latents, ids[0], ids[1], torch.ones(6, dtype=torch.long), latents[:, :, 0] if images else None)
    records = []
    for stop in stops:
        recipe = DiTRecipe(
            num_steps=num_steps, batch_size=8, lr=1e-2, autocast=False, log_every=3, save_every=stop, warmup=2
        )
        transformer, text = dit_parts()
        if images:
            wide = torch.zeros(32, 8, 2, 2)
            wide[:, :4] = transformer.patch_embed.proj.weight.detach()
            transformer.patch_embed.proj.weight = torch.nn.Parameter(wide)
            object.__setattr__(transformer.config, "in_channels", 8)
        log = records.append if stop == num_steps else interrupt_at(stop)
        try:
            ema = train_dit(transformer, text, Schedule(), data, recipe, train_text=not images, state=path, log=log)
        except KeyboardInterrupt:
            continue
    return ema, transformer, records


@pytest.mark.parametrize("images", [False, True])
def test_the_transformer_resumes_exactly(tmp_path, images):
    mean, transformer, _ = run_dit(tmp_path / "a.safetensors", 12, images=images)
    again, resumed, _ = run_dit(tmp_path / "b.safetensors", 6, 12, images=images)
    for a, b in zip(transformer.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    assert all(torch.equal(mean.weights[key], again.weights[key]) for key in mean.weights)


def test_the_transformer_learns_one_clip(tmp_path):
    _, _, records = run_dit(tmp_path / "a.safetensors", 90, num_steps=90)
    assert records[-1]["loss"] < 0.8 * records[0]["loss"]


def test_the_first_velocity_is_zero():
    transformer, text = dit_parts()
    velocity = transformer(torch.randn(1, 4, 3, 4, 4), text(torch.ones(1, 6, dtype=torch.long)), torch.tensor([5]))
    assert not velocity.any()


def test_another_file_is_no_state(tmp_path):
    save_safetensors({"x": torch.zeros(1)}, tmp_path / "x.safetensors", {"format": "other"})
    with pytest.raises(InputError, match="not a training state"):
        load_state(tmp_path / "x.safetensors", {}, [], ema=None)
