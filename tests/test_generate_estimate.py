"""The plan's numbers beside measured ones."""

import os
from pathlib import Path

import pytest
import torch

from cogvx.generate.estimate import choose_memory, count_parameters, decode_bytes, estimate, needs_tiles
from cogvx.generate.options import GenerateOptions, Runtime
from cogvx.models.transformer import TransformerConfig
from cogvx.models.vae import VAEConfig

T5_XXL = {"vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
T5_XXL |= {"feed_forward_proj": "gated-gelu"}
V5B = {"num_layers": 42, "num_attention_heads": 48, "use_rotary_positional_embeddings": True}


def clip(height, width, num_frames, **changes):
    return GenerateOptions(prompt="", height=height, width=width, num_frames=num_frames, **changes)


def test_parameters_are_counted_without_loading():
    counts = count_parameters({"transformer": V5B, "vae": {}, "text_encoder": T5_XXL})
    assert counts == {"transformer": 5_570_283_072, "vae": 215_583_907, "text_encoder": 4_762_310_656}


def test_tokens_of_the_official_sizes():
    vae, cpu = VAEConfig(), Runtime(device=torch.device("cpu"), dtype=torch.bfloat16)
    config = TransformerConfig.from_dict(V5B)
    assert estimate(clip(480, 720, 49), cpu, parameters={}, vae=vae, transformer=config).tokens == 17_776
    newer = TransformerConfig.from_dict(V5B | {"patch_size_t": 2})
    for frames, tokens in ((81, 44_880 + 226), (161, 85_680 + 226)):
        assert estimate(clip(768, 1360, frames), cpu, parameters={}, vae=vae, transformer=newer).tokens == tokens


def test_memory_modes_need_less_and_less():
    vae, config = VAEConfig(), TransformerConfig.from_dict(V5B)
    parameters = {"transformer": 5_570_283_072, "vae": 215_583_907, "text_encoder": 4_762_310_656}
    options = clip(480, 720, 49, tiled=True)
    peaks = []
    for mode in ("none", "model", "layer"):
        run = Runtime(device=torch.device("cpu"), dtype=torch.bfloat16, memory=mode)
        peaks.append(estimate(options, run, parameters=parameters, vae=vae, transformer=config).peak_bytes)
    assert peaks == sorted(peaks, reverse=True) and len(set(peaks)) == 3


def test_memory_is_chosen_by_what_is_free(monkeypatch):
    from cogvx.generate import estimate as module

    vae, config = VAEConfig(), TransformerConfig.from_dict(V5B)
    parameters = {"transformer": 5_570_283_072, "vae": 215_583_907, "text_encoder": 4_762_310_656}
    run = Runtime(device=torch.device("cpu"), dtype=torch.bfloat16)
    for gigabytes, mode in ((80, "none"), (24, "model"), (8, "layer")):
        monkeypatch.setattr(module, "free_memory", lambda device, size=gigabytes: int(size * 1e9))
        settings = {"parameters": parameters, "vae": vae, "transformer": config}
        assert choose_memory(clip(480, 720, 49, tiled=True), run, **settings) == mode


def test_tiles_are_for_large_frames_only():
    assert needs_tiles(clip(480, 720, 49), vae=VAEConfig())
    assert not needs_tiles(clip(240, 352, 49), vae=VAEConfig())  # no larger than a tile
    small = VAEConfig(block_out_channels=(32, 64, 128, 128), sample_height=96, sample_width=144)
    assert not needs_tiles(clip(96, 144, 17), vae=small)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measures memory through /proc")
def test_estimate_of_decoding_covers_the_truth():
    """In a process whose allocator keeps nothing that was freed; the estimate leaves room for one that does."""
    import subprocess
    import sys

    code = """
import torch
from cogvx.models.vae import CausalVAE, VAEConfig
torch.set_num_threads(1)
def read(key):
    return [int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(key)][0]
vae = CausalVAE(VAEConfig(block_out_channels=(16, 32, 32, 32), latent_channels=4, layers_per_block=1,
                          norm_num_groups=4))
latents = torch.randn(1, 4, 3, 16, 24)
with torch.no_grad():
    vae.decode(latents[..., :2, :2])
    open("/proc/self/clear_refs", "w").write("5")
    before = read("VmRSS")
    vae.decode(latents)
print(read("VmHWM") - before)
"""
    allocator = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **allocator}
    )
    vae = VAEConfig(block_out_channels=(16, 32, 32, 32), latent_channels=4, layers_per_block=1, norm_num_groups=4)
    assert 1 < decode_bytes(clip(128, 192, 9), 4, vae=vae) / int(done.stdout) < 1.75
