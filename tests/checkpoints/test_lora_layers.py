import pytest
import torch
from safetensors.torch import save_file

from cogvx.checkpoints.lora import (
    LoRA,
    LoRALayer,
    LoRAPair,
    apply_lora,
    collect_lora,
    match_lora,
    merge_into,
    merge_lora,
    new_lora,
    read_lora,
    remove_lora,
    save_lora,
)
from cogvx.checkpoints.weights import StoredTensor
from cogvx.errors import InputError, UsageError
from cogvx.models.transformer.config import TransformerConfig
from cogvx.models.transformer.model import ExpertTransformer

TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "patch_embed.proj", "proj_out")


def ours(reference):
    model = ExpertTransformer(TransformerConfig.from_dict(dict(reference.config)))
    model.load_state_dict(reference.state_dict())
    return model.eval()


def some_lora(model, rank=4, alpha=2.0, seed=0, targets=TARGETS):
    generator = torch.Generator().manual_seed(seed)
    lora = new_lora(model, rank=rank, alpha=alpha, generator=generator, targets=targets)
    pairs = {
        name: LoRAPair(pair.down, torch.randn(pair.up.shape, generator=generator), pair.alpha)
        for name, pair in lora.pairs.items()
    }
    return LoRA(pairs)


def run(model):
    generator = torch.Generator().manual_seed(7)
    latents = torch.randn(2, model.config.in_channels, 2, 4, 8, generator=generator)
    text = torch.randn(2, 6, 12, generator=generator)
    ofs = torch.full((1,), 2.0) if model.config.ofs_size else None
    with torch.no_grad():
        return model(latents, text, torch.tensor([999, 17]), ofs=ofs)


def run_reference(reference, config):
    from diffusers import CogVideoXPipeline

    generator = torch.Generator().manual_seed(7)
    latents = torch.randn(2, config.in_channels, 2, 4, 8, generator=generator)
    text = torch.randn(2, 6, 12, generator=generator)
    rope = None
    if config.rotary:
        from types import SimpleNamespace

        pipeline = SimpleNamespace(transformer=reference, vae_scale_factor_spatial=1)
        rope = CogVideoXPipeline._prepare_rotary_positional_embeddings(pipeline, 4, 8, 2, "cpu")
    extra = {"ofs": torch.full((1,), 2.0)} if config.ofs_size else {}
    with torch.no_grad():
        out = reference(latents.transpose(1, 2), text, torch.tensor([999, 17]), image_rotary_emb=rope, **extra).sample
    return out.transpose(1, 2)


@pytest.mark.parametrize("form", ["2b", "1.5-i2v"])
def test_merged_equals_beside(transformer, form):
    plain = ours(transformer(form))
    merged, beside = ours(transformer(form)), ours(transformer(form))
    lora = some_lora(plain)
    assert merge_lora(merged, lora, 0.7) == [] and apply_lora(beside, lora, 0.7) == []
    assert torch.allclose(run(merged), run(beside), atol=1e-5, rtol=1e-5)
    assert (run(merged) - run(plain)).abs().max() > 0.1
    remove_lora(beside)
    assert torch.equal(run(beside), run(plain))


def test_several_add_up_in_any_order(transformer):
    one, two = some_lora(ours(transformer("5b"))), some_lora(ours(transformer("5b")), rank=2, seed=1)
    merged, beside, reverse = (ours(transformer("5b")) for _ in range(3))
    merge_lora(merged, one, 0.5), merge_lora(merged, two, -1.0)
    apply_lora(beside, one, 0.5), apply_lora(beside, two, -1.0)
    apply_lora(reverse, two, -1.0), apply_lora(reverse, one, 0.5)
    assert torch.allclose(run(merged), run(beside), atol=1e-5, rtol=1e-5)
    assert torch.allclose(run(reverse), run(beside), atol=1e-5, rtol=1e-5)


def test_stored_weights_take_a_lora_as_they_are_read(transformer):
    model = ours(transformer("5b"))
    lora = some_lora(model)
    weights = {name: StoredTensor.of(tensor.clone()) for name, tensor in model.state_dict().items()}
    merged, warnings = merge_into(weights, lora, 0.5)
    merge_lora(model, lora, 0.5)
    assert warnings == []
    assert all(torch.equal(merged[name].read(), tensor) for name, tensor in model.state_dict().items())


def test_half_precision_is_rounded_once(transformer):
    model = ours(transformer("5b")).to(torch.bfloat16)
    name = "transformer_blocks.0.attn1.to_q"
    before = model.get_submodule(name).weight.float()
    lora = some_lora(model, targets=("to_q",))
    merge_lora(model, lora)
    assert torch.equal(model.get_submodule(name).weight, (before + lora.pairs[name].delta()).bfloat16())


def test_what_fits_nothing(transformer):
    model = ours(transformer("5b"))
    pair = LoRAPair(torch.zeros(2, 32), torch.zeros(32, 2))
    with pytest.raises(InputError, match=r"it has: blocks.0.self_attn.q"):
        apply_lora(model, LoRA({"blocks.0.self_attn.q": pair}))
    some = LoRA({"transformer_blocks.0.attn1.to_q": pair, "blocks.0.x": pair})
    (warning,) = apply_lora(model, some)
    assert "1 of 2" in warning and "blocks.0.x" in warning
    with pytest.raises(InputError, match="made for another model"):
        merge_lora(model, LoRA({"transformer_blocks.0.attn1.to_q": LoRAPair(torch.zeros(2, 64), torch.zeros(64, 2))}))
    with pytest.raises(InputError):  # a norm's weight is no matrix
        merge_lora(model, LoRA({"norm_final": pair}))


def test_names_with_underscores_are_looked_up_in_the_model():
    pair = LoRAPair(torch.zeros(2, 3), torch.zeros(4, 2))
    found, _ = match_lora(LoRA({"some_new_layer_0": pair}), {"some_new.layer.0": (4, 3)})
    assert list(found) == ["some_new.layer.0"]


def test_only_the_lora_is_trained(transformer, tmp_path):
    model = ours(transformer("5b"))
    lora = new_lora(model, rank=4, alpha=2.0, generator=torch.Generator().manual_seed(0))
    before = run(model)
    apply_lora(model, lora, trainable=True)
    assert torch.equal(run(model), before)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert len(trained) == 2 * 4 * 2 and all(".downs." in name or ".ups." in name for name in trained)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    latents, text = torch.randn(1, 4, 2, 4, 8), torch.randn(1, 6, 12)
    model(latents, text, torch.tensor([500])).square().mean().backward()
    optimizer.step()
    after = run(model)
    assert not torch.equal(after, before)
    file = save_lora(tmp_path / "x.safetensors", collect_lora(model))
    again = ours(transformer("5b"))
    apply_lora(again, read_lora(file))
    assert torch.allclose(run(again), after, atol=1e-6)


def test_errors_of_training_helpers(transformer):
    model = ours(transformer("5b"))
    generator = torch.Generator()
    with pytest.raises(UsageError):
        new_lora(model, rank=0, alpha=1.0, generator=generator)
    with pytest.raises(UsageError):
        new_lora(model, rank=2, alpha=1.0, generator=generator, targets=("to_x",))
    with pytest.raises(UsageError):
        collect_lora(model)


def test_the_layer_keeps_the_type_of_its_base():
    layer = LoRALayer(torch.nn.Linear(3, 4).bfloat16())
    layer.add(LoRAPair(torch.randn(2, 3), torch.randn(4, 2)), 1.0, trainable=True)
    assert layer(torch.randn(5, 3).bfloat16()).dtype == torch.bfloat16
    assert layer.downs[0].dtype == torch.float32 and layer.weight.dtype == torch.bfloat16


# Against diffusers and PEFT


@pytest.mark.parametrize("form", ["2b", "5b", "1.5-i2v"])
@pytest.mark.parametrize("alpha", [4.0, 2.0, 16.0])
def test_diffusers_applies_what_cogvx_saves_at_the_same_strength(transformer, tmp_path, form, alpha):
    from diffusers import CogVideoXPipeline

    reference, model = transformer(form), ours(transformer(form))
    lora = some_lora(model, rank=4, alpha=alpha, targets=("to_q", "to_out.0", "ff.net.2"))
    save_lora(tmp_path / "lora", lora)
    state, metadata = CogVideoXPipeline.lora_state_dict(str(tmp_path / "lora"), return_lora_metadata=True)
    CogVideoXPipeline.load_lora_into_transformer(state, reference, metadata=metadata)
    apply_lora(model, read_lora(tmp_path / "lora"))
    assert torch.allclose(run(model), run_reference(reference, model.config), atol=1e-5, rtol=1e-5)


def test_different_ranks_and_alphas_in_diffusers(transformer, tmp_path):
    from diffusers import CogVideoXPipeline

    reference, model = transformer("5b"), ours(transformer("5b"))
    pairs = dict(some_lora(model, rank=4, alpha=2.0, targets=("to_q",)).pairs)
    pairs |= some_lora(model, rank=8, alpha=3.0, targets=("to_k",), seed=5).pairs
    save_lora(tmp_path / "lora", LoRA(pairs))
    state, metadata = CogVideoXPipeline.lora_state_dict(str(tmp_path / "lora"), return_lora_metadata=True)
    CogVideoXPipeline.load_lora_into_transformer(state, reference, metadata=metadata)
    merge_lora(model, read_lora(tmp_path / "lora"))
    assert torch.allclose(run(model), run_reference(reference, model.config), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("told", [True, False])
def test_cogvx_applies_what_diffusers_saves(transformer, tmp_path, told):
    """Trained by PEFT with r=8, alpha=4: half the strength that a file without metadata gets from diffusers."""
    import peft
    from diffusers import CogVideoXPipeline
    from diffusers.training_utils import _collate_lora_metadata

    reference, model = transformer("5b"), ours(transformer("5b"))
    torch.manual_seed(1)
    reference.add_adapter(
        peft.LoraConfig(r=8, lora_alpha=4, init_lora_weights=False, target_modules=["to_q", "to_k", "to_v", "to_out.0"])
    )
    state = peft.get_peft_model_state_dict(reference)
    extra = _collate_lora_metadata({"transformer": reference}) if told else {}
    CogVideoXPipeline.save_lora_weights(str(tmp_path), transformer_lora_layers=state, **extra)
    lora = read_lora(tmp_path)
    assert lora.alpha_source == ("header" if told else "absent") and len(lora.pairs) == 8
    apply_lora(model, lora, 1.0 if told else 0.5)
    assert torch.allclose(run(model), run_reference(reference, model.config), atol=1e-5, rtol=1e-5)


def test_cogvx_applies_what_peft_saves(transformer, tmp_path):
    import peft

    reference, model = transformer("5b"), ours(transformer("5b"))
    torch.manual_seed(1)
    config = peft.LoraConfig(
        r=8, lora_alpha=4, init_lora_weights=False, target_modules=["to_q", "to_v"], use_rslora=True
    )
    wrapped = peft.get_peft_model(reference, config)
    wrapped.save_pretrained(tmp_path)
    lora = read_lora(tmp_path)
    assert lora.alpha_source == "adapter_config"
    apply_lora(model, lora)
    assert torch.allclose(run(model), run_reference(reference, model.config), atol=1e-5, rtol=1e-5)


def test_a_file_of_an_old_trainer_in_diffusers(transformer, tmp_path):
    """Without metadata, diffusers and cogvx both take alpha = rank."""
    from diffusers import CogVideoXPipeline

    reference, model = transformer("5b"), ours(transformer("5b"))
    lora = some_lora(model, rank=4, alpha=None, targets=("to_q", "to_v"))
    tensors = {}
    for name, pair in lora.pairs.items():
        tensors[f"transformer.{name}.lora_A.weight"] = pair.down
        tensors[f"transformer.{name}.lora_B.weight"] = pair.up
    save_file(tensors, tmp_path / "pytorch_lora_weights.safetensors")
    state = CogVideoXPipeline.lora_state_dict(str(tmp_path))
    CogVideoXPipeline.load_lora_into_transformer(state, reference)
    apply_lora(model, read_lora(tmp_path))
    assert torch.allclose(run(model), run_reference(reference, model.config), atol=1e-5, rtol=1e-5)
