"""A LoRA trained here, in diffusers; and one of diffusers or PEFT, trained on here."""

from types import SimpleNamespace

import pytest
import torch

from cogvx.checkpoints.lora import LoRA, LoRAPair, apply_lora, new_lora, read_lora, save_lora
from cogvx.data.buckets import Shape
from cogvx.data.dataset import Sample
from cogvx.distributed import alone
from cogvx.errors import InputError, UsageError
from cogvx.models.transformer import ExpertTransformer, TransformerConfig
from cogvx.training.dit_task import DiTTask
from cogvx.training.lora import put_in, relative_change, starting_lora, take_out
from cogvx.training.recipe import LoRAOptions, ModelOptions, Recipe, Stage
from cogvx.training.stages import StageData
from cogvx.training.start import find_model

pytest.importorskip("peft")

ROTARY = {"use_rotary_positional_embeddings": True}
FORMS = {
    "2b": {},
    "5b": ROTARY,
    "5b-i2v": {**ROTARY, "use_learned_positional_embeddings": True, "in_channels": 8},
    "1.5": {**ROTARY, "patch_size_t": 2, "patch_bias": False},
    "1.5-i2v": {**ROTARY, "patch_size_t": 2, "patch_bias": False, "ofs_embed_dim": 8, "in_channels": 8},
}
SIZES = {
    "num_layers": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "text_embed_dim": 16,
    "time_embed_dim": 8,
    "in_channels": 4,
    "out_channels": 4,
    "max_text_seq_length": 6,
    "sample_height": 4,
    "sample_width": 8,
    "sample_frames": 9,
}
VAE = {"block_out_channels": [4, 4, 8, 8], "latent_channels": 4, "layers_per_block": 1, "norm_num_groups": 2}
TEXT = {"vocab_size": 1000, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}


def reference_of(form):
    from diffusers import CogVideoXTransformer3DModel

    torch.manual_seed(0)
    transformer = CogVideoXTransformer3DModel(**{**SIZES, **FORMS[form]})
    for tensor in transformer.state_dict().values():
        tensor.normal_(std=0.2)
    return transformer.eval()


def ours(reference):
    model = ExpertTransformer(TransformerConfig.from_dict(dict(reference.config)))
    model.load_state_dict(reference.state_dict())
    return model


def inputs(config):
    generator = torch.Generator().manual_seed(7)
    latents = torch.randn(2, config.in_channels, 4 if config.temporal_patch_size else 3, 4, 8, generator=generator)
    text = torch.randn(2, 6, 16, generator=generator)
    return latents, text, torch.tensor([999, 17]), torch.full((1,), 2.0) if config.ofs_size else None


def run(model):
    latents, text, times, ofs = inputs(model.config)
    with torch.no_grad():
        return model(latents, text, times, ofs=ofs)


def run_reference(reference, config):
    from diffusers import CogVideoXPipeline

    latents, text, times, ofs = inputs(config)
    rope = None
    if config.rotary:
        pipeline = SimpleNamespace(transformer=reference, vae_scale_factor_spatial=1)
        rope = CogVideoXPipeline._prepare_rotary_positional_embeddings(pipeline, 4, 8, latents.shape[2], "cpu")
    extra = {} if ofs is None else {"ofs": ofs}
    with torch.no_grad():
        out = reference(latents.transpose(1, 2), text, times, image_rotary_emb=rope, **extra).sample
    return out.transpose(1, 2)


def a_file(model, path, *, rank=4, alpha=2.0, targets=("to_q", "to_v", "to_out.0")):
    """Write a LoRA that does something."""
    generator = torch.Generator().manual_seed(3)
    lora = new_lora(model, rank=rank, alpha=alpha, generator=generator, targets=targets)
    pairs = {
        name: LoRAPair(pair.down, torch.randn(pair.up.shape, generator=generator), alpha)
        for name, pair in lora.pairs.items()
    }
    return save_lora(path, LoRA(pairs))


class Clips:
    def __len__(self):
        return 2

    def shape(self, index):
        return Shape(9, 32, 64)

    def text(self, prompt):
        return None

    def read(self, index, **choices):
        latents = torch.randn(4, 3, 4, 8, generator=torch.Generator().manual_seed(index))
        return Sample(index, self.shape(index), f"clip {index}", latents=latents, image_latents=latents[:, :1])


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Give the folder of a tiny model of one form."""
    import diffusers

    made = {}

    def folder(form):
        if form not in made:
            made[form] = tmp_path_factory.mktemp("models") / form
            reference_of(form).save_pretrained(made[form] / "transformer")
            scheduler = diffusers.CogVideoXDDIMScheduler(
                snr_shift_scale=1.0, rescale_betas_zero_snr=True, prediction_type="v_prediction",
                timestep_spacing="trailing",
            )  # fmt: skip
            scheduler.save_pretrained(made[form] / "scheduler")
        return made[form]

    return folder


def make_task(folder, options=None):
    parts = {"transformer": str(folder), "scheduler": str(folder), "tokenizer": "tiny"}
    model = ModelOptions(parts=parts, vae=VAE, text_encoder=TEXT)
    stage = Stage(steps=9, sizes=((32, 64),), max_frames=9, tokens=1000)
    recipe = Recipe(kind="lora", model=model, stages=(stage,), lora=options or LoRAOptions(rank=4, alpha=2.0))
    found = find_model(recipe)
    data = StageData(
        [Clips()], None, recipe=recipe, stage=0, vae=found.vae_config, transformer=found.transformer_config
    )
    return DiTTask(recipe, model=found, stages=[data], held_out=[(data, data.items(0)[0][0])], world=alone())


def train(task, num_steps=3):
    (optimizer,) = task.optimizers()
    for group in optimizer.param_groups:
        group["lr"] = 0.05
    for step in range(num_steps):
        task.loss(step, 0).value.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("form", FORMS)
def test_diffusers_applies_what_was_trained_here(folders, form, tmp_path):
    """Every released form: train some steps, export, load in diffusers; the same output, at the trained strength."""
    from diffusers import CogVideoXPipeline

    task = make_task(folders(form))
    before = run(ours(reference_of(form)))
    assert torch.equal(run(task.transformer), before)
    train(task)
    trained = run(task.transformer)
    assert (trained - before).abs().max() > 0.05
    task.export(tmp_path)
    reference = reference_of(form)
    state, metadata = CogVideoXPipeline.lora_state_dict(str(tmp_path), return_lora_metadata=True)
    CogVideoXPipeline.load_lora_into_transformer(state, reference, metadata=metadata)
    assert torch.allclose(run_reference(reference, task.transformer.config), trained, atol=1e-4, rtol=1e-4)
    again = ours(reference_of(form))
    apply_lora(again, read_lora(tmp_path))
    assert torch.allclose(run(again), trained, atol=1e-5, rtol=1e-5)
    lora = read_lora(tmp_path)
    assert lora.alpha_source == "header" and {pair.alpha for pair in lora.pairs.values()} == {2.0}
    assert len(lora.pairs) == 8


def test_only_the_lora_is_trained(folders):
    task = make_task(folders("5b"))
    trained = [name for name, weight in task.parts.named_parameters() if weight.requires_grad]
    assert len(trained) == 16 and all(".lora_" in name for name in trained)
    frozen = {name: w.clone() for name, w in task.parts.named_parameters() if not w.requires_grad}
    train(task, 1)
    assert all(torch.equal(w, dict(task.parts.named_parameters())[name]) for name, w in frozen.items())
    assert all(w.dtype == torch.float32 for w in task.parts.parameters())


def test_a_lora_of_diffusers_is_trained_on(folders, tmp_path):
    """Trained by PEFT with r=8, alpha=4 and written by diffusers: begins at half strength, ends as in diffusers."""
    import peft
    from diffusers import CogVideoXPipeline
    from diffusers.training_utils import _collate_lora_metadata

    reference = reference_of("5b")
    torch.manual_seed(1)
    reference.add_adapter(
        peft.LoraConfig(r=8, lora_alpha=4, init_lora_weights=False, target_modules=["to_q", "to_k", "to_v", "to_out.0"])
    )
    CogVideoXPipeline.save_lora_weights(
        str(tmp_path / "theirs"),
        transformer_lora_layers=peft.get_peft_model_state_dict(reference),
        **_collate_lora_metadata({"transformer": reference}),
    )
    task = make_task(folders("5b"), LoRAOptions(start=str(tmp_path / "theirs")))
    assert torch.allclose(run(task.transformer), run_reference(reference, task.transformer.config), atol=1e-4)
    train(task)
    task.export(tmp_path / "ours")
    lora = read_lora(tmp_path / "ours")
    assert {(pair.rank, pair.alpha) for pair in lora.pairs.values()} == {(8, 4.0)}
    fresh = reference_of("5b")
    state, metadata = CogVideoXPipeline.lora_state_dict(str(tmp_path / "ours"), return_lora_metadata=True)
    CogVideoXPipeline.load_lora_into_transformer(state, fresh, metadata=metadata)
    assert torch.allclose(run(task.transformer), run_reference(fresh, task.transformer.config), atol=1e-4, rtol=1e-4)


def test_ranks_and_alphas_of_a_file_are_kept_part_by_part(tmp_path):
    model = ours(reference_of("5b"))
    pairs = dict(read_lora(a_file(model, tmp_path / "a.safetensors", rank=4, alpha=2.0, targets=("to_q",))).pairs)
    pairs |= read_lora(a_file(model, tmp_path / "b.safetensors", rank=2, alpha=3.0, targets=("to_k", "ff.net.2"))).pairs
    pairs |= read_lora(
        a_file(model, tmp_path / "c.safetensors", rank=3, alpha=1.0, targets=("patch_embed.proj",))
    ).pairs
    file = save_lora(tmp_path / "all.safetensors", LoRA(pairs))
    started = starting_lora(LoRAOptions(start=str(file)), model, seed=0)
    put_in(model, started)
    other = ours(reference_of("5b"))
    apply_lora(other, read_lora(file))
    assert torch.allclose(run(model), run(other), atol=1e-5, rtol=1e-5)
    taken = take_out(model).pairs
    assert {name: (pair.rank, pair.alpha) for name, pair in taken.items()} == {
        name: (pair.rank, pair.alpha) for name, pair in pairs.items()
    }
    assert all(torch.equal(taken[name].up, pair.up) for name, pair in pairs.items())


def test_a_file_that_tells_no_alpha_starts_at_full_strength(tmp_path):
    from safetensors.torch import save_file

    model = ours(reference_of("5b"))
    down, up = torch.randn(4, 32), torch.randn(32, 4)
    stem = "transformer.transformer_blocks.0.attn1.to_q"
    save_file({f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}, tmp_path / "x.safetensors")
    said = []
    lora = starting_lora(LoRAOptions(start=str(tmp_path / "x.safetensors")), model, seed=0, announce=said.append)
    put_in(model, lora)
    assert [pair.scale for pair in take_out(model).pairs.values()] == [1.0] and "does not say its alpha" in said[0]


def test_how_much_a_lora_changes(tmp_path):
    model = ours(reference_of("5b"))
    put_in(model, starting_lora(LoRAOptions(rank=4, alpha=2.0), model, seed=0))
    assert relative_change(model) == 0.0
    other = ours(reference_of("5b"))
    file = a_file(other, tmp_path / "x.safetensors")
    put_in(other, starting_lora(LoRAOptions(start=str(file)), other, seed=0))
    pairs = read_lora(file).pairs
    plain = ours(reference_of("5b"))
    changes = sum(float(pair.delta().square().sum()) for pair in pairs.values())
    weights = sum(float(plain.get_submodule(name).weight.square().sum()) for name in pairs)
    assert relative_change(other) == pytest.approx((changes / weights) ** 0.5, rel=1e-4)


def test_validation_says_what_the_lora_does(folders):
    task = make_task(folders("5b"))
    before = task.validate()
    assert before["lora_change"] == 0.0 and set(before) > {"val_loss", "val_loss_100", "val_loss_900"}
    train(task)
    after = task.validate()
    assert after["lora_change"] > 0 and after["val_loss"] != before["val_loss"]
    assert task.validate() == after


def test_wrong_files_and_targets(folders, tmp_path):
    with pytest.raises(UsageError, match="no layer"):
        make_task(folders("5b"), LoRAOptions(targets=("to_x",)))
    model = ours(reference_of("5b"))
    pairs = {"transformer_blocks.0.attn1.to_q": LoRAPair(torch.zeros(2, 64), torch.zeros(64, 2))}
    file = save_lora(tmp_path / "other.safetensors", LoRA(pairs))
    with pytest.raises(InputError, match="another model"):
        starting_lora(LoRAOptions(start=str(file)), model, seed=0)


def test_a_new_lora_comes_from_the_seed(folders):
    state = torch.get_rng_state()
    first, second = (take_out(make_task(folders("5b")).transformer) for _ in range(2))
    assert all(torch.equal(first.pairs[name].down, pair.down) for name, pair in second.pairs.items())
    assert torch.equal(torch.get_rng_state(), state)
