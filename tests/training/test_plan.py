"""The plan's numbers beside counted and measured ones."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from cogvx.errors import CogvxError, UsageError
from cogvx.models.captioner import Captioner, CaptionerConfig
from cogvx.models.dual_encoder import DualEncoder
from cogvx.models.transformer import ExpertTransformer, TransformerConfig
from cogvx.presets import PRESETS
from cogvx.training.costs import (
    BLOCK_COPIES,
    FROZEN_COPIES,
    Machine,
    clip_text_activations,
    clip_text_flops,
    transformer_flops,
)
from cogvx.training.networks import read_networks
from cogvx.training.plan import make_plan, num_tokens
from cogvx.training.recipe import CLIP_TEXT
from cogvx.training.recipe_toml import parse_recipe, read_recipe

RECIPES = Path(__file__).parents[2] / "fixtures" / "recipes"
ONE = Machine()
OFFICIAL = [name for name, preset in PRESETS.items() if preset.repo]
VAE = "kind='vae'\n[model.vae]\nblock_out_channels=[16,32,32,32]\nlayers_per_block=1\nnorm_num_groups=4\n"
VAE += "[[stages]]\nsteps=10\nsizes=[[64,96]]\nmax_frames=9\nbatch_size=4\n"
DIT = """
kind = "dit"
[model]
base = "tiny"
[model.transformer]
num_layers = 4
num_attention_heads = 4
text_embed_dim = 192
max_text_seq_length = 64
sample_height = 32
sample_width = 32
use_rotary_positional_embeddings = true
[data]
cache = "cache"
[[stages]]
steps = 10
sizes = [[256, 256]]
max_frames = 17
tokens = 1344
packs = 2
"""
CLIPS = 'kind="{kind}"\n[model]\nbase="tiny"\n[[stages]]\nsteps=4\nsizes=[[64,96]]\nmax_frames=17\nbatch_size=8\n'


def build_on_cpu(config):
    return Captioner(config) if isinstance(config, CaptionerConfig) else DualEncoder(config)


def plan_of(text, *changes, machine=ONE):
    recipe = parse_recipe(text, changes=changes)
    return make_plan(recipe, read_networks(recipe), machine)


@pytest.fixture(autouse=True)
def no_hub(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_checkpoints_are_planned_without_them(name):
    recipe = read_recipe(RECIPES / f"lora-{name}.toml")
    networks = read_networks(recipe)
    plan = make_plan(recipe, networks, Machine(bf16=True, cuda=True))
    assert plan.parameters["transformer"] == PRESETS[name].transformer_parameters
    assert plan.parameters["vae"] == 215_583_907 and plan.parameters["text_encoder"] == 4_762_310_656
    width, layers = (1920, 30) if name == "2b" else (3072, 42)
    assert plan.trained == plan.parameters["lora"] == layers * 4 * 128 * 2 * width
    stage = plan.stages[0]
    assert stage.micro_tokens == (45_106 if name.startswith("1.5") else 17_776) == recipe.stages[0].tokens
    assert stage.clips == 4 and stage.tokens == 4 * stage.micro_tokens
    assert plan.peak_bytes == plan.peak_with_checkpointing < plan.peak_without_checkpointing
    assert plan.peak_bytes < 48e9  # of one large consumer's or one small data centre's card


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_ready_recipe_can_be_planned(path):
    recipe = read_recipe(path)
    if recipe.model.base.startswith("runs/"):
        recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, base="tiny"))
    devices = {"dit": 80 if recipe.run.context > 1 else 8, "i2v": 8, "vae": 8}.get(recipe.kind, 1)
    devices = 1 if path.stem.startswith("storyboard") else devices
    plan = make_plan(recipe, read_networks(recipe), Machine(num_devices=devices, bf16=True, cuda=True))
    assert plan.num_steps == sum(stage.steps for stage in plan.stages)
    assert all(stage.flops > 0 and stage.checkpointed_bytes > 0 for stage in plan.stages)
    if recipe.kind not in CLIP_TEXT:  # too small for checkpointing to matter
        assert all(stage.activation_bytes > stage.checkpointed_bytes for stage in plan.stages)
    assert plan.peak_bytes < 80e9  # a recipe runs on the devices that it names
    json.dumps(plan.to_dict())


@pytest.mark.parametrize("form", ["2b", "5b", "1.5-5b-i2v"])
def test_operations_are_those_that_pytorch_counts(form):
    from cogvx.training.networks import _TRANSFORMERS

    config = TransformerConfig.from_dict(_TRANSFORMERS[form] | {"num_layers": 2})
    frames = 4
    with torch.device("meta"):
        transformer = ExpertTransformer(config)
        latents = torch.zeros(1, config.in_channels, frames, 16, 24)
        text, timestep = torch.zeros(1, 226, 4096), torch.zeros(1)
        ofs = torch.zeros(1) if config.ofs_size else None
    counter = FlopCounterMode(display=False)
    transformer.attention_backend = "sdpa"
    with counter, torch.no_grad():
        transformer(latents, text, timestep, ofs=ofs)
    tokens = 226 + frames // (config.temporal_patch_size or 1) * 8 * 12
    assert transformer_flops(config, tokens) == pytest.approx(counter.get_total_flops(), rel=1e-3)


def test_operations_of_the_official_model_at_its_size():
    assert transformer_flops(TransformerConfig.from_dict({}), 17_776) == pytest.approx(120e12, rel=0.01)


@pytest.mark.parametrize("kind", CLIP_TEXT)
@pytest.mark.parametrize("size", [64, 128])
def test_activations_of_captioner_and_dual_encoder_are_about_those_that_are_kept(kind, size):
    table = kind.replace("-", "_")
    changes = [f"{table}.hidden_size={size}", f"{table}.max_words=100", f"{table}.grid=[4, 6]"]
    network = read_networks(parse_recipe(CLIPS.format(kind=kind), changes=changes)).clip_text
    module = build_on_cpu(network)
    seen, own = {}, {weight.data_ptr() for weight in module.parameters()}

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in own:
            seen[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    latents, tokens = torch.zeros(3, 16, 5, 4, 6), torch.full((3, 51), 5)
    with saved_tensors_hooks(keep, lambda x: x):
        if kind == "captioner":
            module(module.encode(latents), tokens).log_softmax(dim=2)
        else:
            module.encode_clips(latents) @ module.encode_tokens(tokens).T
    total = sum(tensor.untyped_storage().nbytes() for tensor in seen.values())
    assert clip_text_activations(network, 3, 5) == pytest.approx(total, rel=0.25)


@pytest.mark.parametrize("changes", [(), ("captioner.coarse=[4, 6]", "captioner.convolutions=[8]")])
def test_operations_of_the_captioner_are_those_that_pytorch_counts(changes):
    network = read_networks(parse_recipe(CLIPS.format(kind="captioner"), changes=list(changes))).clip_text
    module = build_on_cpu(network)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module(module.encode(torch.zeros(2, 16, 5, 8, 12)), torch.full((2, 51), 5))
    # PyTorch does not count the LSTMs that it runs as a whole: those over frames, and forwards over a caption.
    assert 2 * clip_text_flops(network, 5) == pytest.approx(counter.get_total_flops(), rel=0.05)


@pytest.mark.parametrize("kind", CLIP_TEXT)
def test_a_coarse_grid_that_does_not_divide_the_grid_is_refused(kind):
    changes = [f"{kind.replace('-', '_')}.coarse=[3, 6]"]
    with pytest.raises(UsageError, match="coarse must divide the grid"):
        read_networks(parse_recipe(CLIPS.format(kind=kind), changes=changes))


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_blocks_keep_so_many_copies_of_their_tokens(bf16, frozen):
    copies = FROZEN_COPIES if frozen else BLOCK_COPIES
    few, many = (saved_bytes(height, bf16=bf16, frozen=frozen) for height in (16, 32))
    width, tokens = 128, 3 * 8 * 8  # that the second has more than the first
    assert copies * tokens * width * (2 if bf16 else 4) == pytest.approx(many - few, rel=0.1)


def saved_bytes(height, *, bf16, frozen):
    """Bytes that one block more keeps."""
    totals = []
    for num_layers in (1, 2):
        sizes = {"text_size": 16, "time_size": 16, "max_text_length": 8}
        transformer = ExpertTransformer(TransformerConfig(num_layers=num_layers, num_heads=2, rotary=True, **sizes))
        transformer.requires_grad_(not frozen)
        own = {weight.untyped_storage().data_ptr() for weight in transformer.parameters()}
        seen = {}

        def keep(tensor, own=own, seen=seen):
            if tensor.untyped_storage().data_ptr() not in own:
                seen[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        latents = torch.zeros(1, 16, 3, height, 16, requires_grad=True)
        with saved_tensors_hooks(keep, lambda x: x), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            transformer(latents, torch.zeros(1, 8, 16), torch.zeros(1))
        totals.append(sum(tensor.untyped_storage().nbytes() for tensor in seen.values()))
    return totals[1] - totals[0]


MEASURE = """
import sys
import torch
from cogvx.training.networks import read_networks
from cogvx.training.recipe_toml import parse_recipe
torch.set_num_threads(1)
def read(key):
    return [int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(key)][0]
recipe = parse_recipe(sys.argv[1])
networks = read_networks(recipe)
stage = recipe.stages[0]
def run(module, small):
    if recipe.kind == "vae":
        b, t, h, w = (1, 1, 16, 16) if small else (stage.batch_size, stage.max_frames, *stage.sizes[0])
        video = torch.zeros(b, 3, t, h, w)
        loss = module.decode(module.encode(video).mean).square().mean()
    else:
        t, h, w = (1, 4, 4) if small else (5, stage.sizes[0][0] // 8, stage.sizes[0][1] // 8)
        loss = module(torch.zeros(1, 16, t, h, w), torch.zeros(1, 64, 192), torch.zeros(1)).square().mean()
    loss.backward()
from cogvx.models.transformer import ExpertTransformer
from cogvx.models.vae import CausalVAE
from cogvx.training.optim import EMA
def build():
    module = CausalVAE(networks.vae) if recipe.kind == "vae" else ExpertTransformer(networks.transformer)
    optimizer = torch.optim.AdamW(module.parameters(), foreach=True)
    return module, optimizer, EMA(module, 0.9)
for _ in range(2):  # once so that everything is imported and set up
    if _:
        del module, optimizer, ema
        open("/proc/self/clear_refs", "w").write("5")
        before = read("VmRSS")
    module, optimizer, ema = build()
    run(module, True)
    optimizer.step()
    if _:
        open("/proc/self/clear_refs", "w").write("5")
        run(module, False)
print(read("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measures memory through /proc")
@pytest.mark.parametrize("text", [DIT, VAE], ids=["dit", "vae"])
def test_peak_memory_is_within_a_fifth_of_the_truth(text):
    allocator = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_TOP_PAD_": "0"}
    command = [sys.executable, "-c", MEASURE, text]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **allocator})
    assert plan_of(text).peak_bytes / int(done.stdout) == pytest.approx(1, abs=0.2)


def test_more_devices_share_the_work():
    alone, two, shared = (
        plan_of(DIT, *changes, machine=Machine(num_devices=devices))
        for devices, changes in ((1, []), (2, ["run.shard=true"]), (2, ["run.context=2"]))
    )
    assert two.gradient_bytes == alone.gradient_bytes // 2 and two.optimizer_bytes == alone.optimizer_bytes // 2
    assert (two.data_ranks, two.stages[0].micro_batches) == (2, 1)
    assert (shared.data_ranks, shared.stages[0].micro_batches) == (1, 2)
    assert shared.stages[0].activation_bytes == pytest.approx(alone.stages[0].activation_bytes / 2, rel=0.01)
    assert two.stages[0].flops == alone.stages[0].flops


def test_optimizers_and_running_mean_cost_what_they_keep():
    plain = plan_of(DIT)
    assert plain.optimizer_bytes == 8 * plain.trained and plain.ema_bytes == plain.gradient_bytes == 4 * plain.trained
    assert plan_of(DIT, "optim.name=adamw8bit").optimizer_bytes == 2 * plain.trained
    assert 4 * plain.trained < plan_of(DIT, "optim.name=muon").optimizer_bytes < 5 * plain.trained
    without = plan_of(DIT, "optim.ema=0")
    assert without.ema_bytes == 0 and without.checkpoint_bytes == 12 * plain.trained < plain.checkpoint_bytes


def test_encoders_that_are_not_needed_take_no_memory():
    assert plan_of(DIT, "data.cache=''").weight_bytes > plan_of(DIT).weight_bytes == 4 * plan_of(DIT).trained


def test_image_to_video_has_more_channels():
    plan = plan_of(DIT.replace('"dit"', '"i2v"'))
    assert plan.parameters["transformer"] - plan_of(DIT).parameters["transformer"] == 16 * 4 * 256


def test_the_text_encoder_is_trained_where_asked():
    plan = plan_of(DIT, "model.train_text=true")
    assert plan.trained == plan.parameters["transformer"] + plan.parameters["text_encoder"]


def test_a_discriminator_counts():
    plain, judged = plan_of(VAE), plan_of(VAE, "vae.gan_weight=0.1", "vae.gan_width=16")
    assert judged.trained == plain.trained + judged.parameters["discriminator"]
    assert judged.stages[0].activation_bytes > plain.stages[0].activation_bytes


def test_tokens_of_a_clip_with_patches_over_time():
    recipe = read_recipe(RECIPES / "lora-1.5-5b.toml")
    assert num_tokens(read_networks(recipe), height=768, width=1360, num_frames=161) == 85_680 + 226


@pytest.mark.parametrize(
    ("changes", "devices", "words"),
    [
        ([], 4, "2 packs a step cannot be shared by 4 data ranks; use 4 or 8"),
        (["run.context=2"], 1, "cannot form groups of run.context=2"),
        (["stages.0.tokens=1000"], 1, "does not hold the largest clip (256x256, 17 frames: 1344 tokens)"),
        (["stages.0.sizes=[[512, 512]]", "model.transformer.patch_size_t=2"], 1, "height 512 is not possible"),
        (["model.transformer.num_layers=many"], 1, "model.transformer: num_layers cannot be 'many'"),
        (["model.transformer.num_layers=100000"], 1, "num_layers cannot be 100000"),
        (["model.transformer.layers=3"], 1, "unknown key 'layers'"),
        (["model.transformer={}", "model.base=nothing"], 1, "nothing"),
        (["lora.targets=[to_x]", "kind=lora"], 1, "--set lora.targets=[to_x]: the value is not TOML"),
        (['lora.targets=["to_x"]', "kind=lora"], 1, "no linear map of the transformer is called to_x"),
        (["model.text_encoder.d_model=1"], 1, "vocab_size must be a whole number"),
    ],
)
def test_what_cannot_be_planned(changes, devices, words):
    with pytest.raises(UsageError) as error:
        plan_of(DIT, *changes, machine=Machine(num_devices=devices))
    assert words in str(error.value)


SIZE = st.sampled_from([0, 1, 2, 3, 4, 8, 16, -1, 10**7, 1.5, "x", True, [], [4], [4, 8, 8, 8], None])


@settings(max_examples=15, deadline=None)
@given(
    key=st.sampled_from([field.name for field in dataclasses.fields(TransformerConfig)] + ["num_attention_heads"]),
    vae_key=st.sampled_from(["block_out_channels", "latent_channels", "norm_num_groups", "temporal_compression_ratio"]),
    value=SIZE,
)
def test_any_config_is_taken_or_refused(key, vae_key, value):
    values = {} if value is None else {key: value}
    vae_values = {} if value is None else {vae_key: value}
    for text, table in ((DIT, {"transformer": values}), (VAE, {"vae": vae_values})):
        recipe = parse_recipe(text)
        changed = {part: {**getattr(recipe.model, part), **config} for part, config in table.items()}
        recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, **changed))
        try:
            make_plan(recipe, read_networks(recipe), Machine())
        except CogvxError as error:
            assert error.exit_code == 2
