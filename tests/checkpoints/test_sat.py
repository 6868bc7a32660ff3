import pytest
import torch

from cogvx.checkpoints import sat
from cogvx.checkpoints.convert import ConvertOptions, plan_conversion
from cogvx.checkpoints.diffusers import open_model
from cogvx.checkpoints.weights import StoredTensor
from cogvx.errors import InputError, RefusedError
from cogvx.models.transformer.config import TransformerConfig

FORMS = ["2b", "5b", "5b-i2v", "1.5", "1.5-i2v"]


def stored(state):
    return {name: StoredTensor.of(tensor) for name, tensor in state.items()}


def same(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        a, b = tensor.read(), other[name].read()
        assert torch.equal(a, b) and tuple(a.shape) == tensor.shape and a.dtype == tensor.dtype, name


@pytest.mark.parametrize("form", FORMS)
def test_there_and_back(transformer, form):
    reference = transformer(form)
    config = TransformerConfig.from_dict(dict(reference.config))
    weights = stored(reference.state_dict())
    there = sat.transformer_to_sat(weights, config)
    assert all(name.startswith("model.diffusion_model.") for name in there)
    back = sat.transformer_from_sat(there)
    same(weights, back)
    same(there, sat.transformer_to_sat(back, config))


@pytest.mark.parametrize("levels", [2, 4])
def test_the_vae_there_and_back(vae, levels):
    ratio = 2 if levels == 2 else 4
    blocks = {
        "down_block_types": ("CogVideoXDownBlock3D",) * levels,
        "up_block_types": ("CogVideoXUpBlock3D",) * levels,
    }
    module = vae((8, 16, 16, 24)[:levels], temporal_compression_ratio=ratio, layers_per_block=2, **blocks)
    weights = stored(module.state_dict())
    there = sat.vae_to_sat(weights)
    loss = {"loss.discriminator.x": StoredTensor.of(torch.zeros(1))}
    same(weights, sat.vae_from_sat(there | loss))
    # The lowest resolution is the last level in SAT and the first block in diffusers.
    assert "decoder.up.0.block.0.conv1.conv.weight" in there and "encoder.mid.block_2.norm1.weight" in there
    name = f"decoder.up.{levels - 1}.block.0.conv1.conv.weight"
    assert torch.equal(there[name].read(), module.state_dict()["decoder.up_blocks.0.resnets.0.conv1.conv.weight"])
    assert any("nin_shortcut.weight" in name for name in there) and not any("conv_shortcut" in name for name in there)


def test_the_parts_of_the_joined_matrices(transformer):
    reference = transformer("5b")
    config = TransformerConfig.from_dict(dict(reference.config))
    there = sat.transformer_to_sat(stored(reference.state_dict()), config)
    layer = "model.diffusion_model.transformer.layers.1.attention.query_key_value.weight"
    block = reference.transformer_blocks[1]
    wanted = torch.cat([block.attn1.to_q.weight, block.attn1.to_k.weight, block.attn1.to_v.weight])
    assert torch.equal(there[layer].read(), wanted)
    modulation = there["model.diffusion_model.mixins.adaln_layer.adaLN_modulations.1.1.weight"].read().chunk(12)
    one, two = block.norm1.linear.weight.chunk(6), block.norm2.linear.weight.chunk(6)
    for i in range(3):
        assert torch.equal(modulation[i], one[i]) and torch.equal(modulation[3 + i], two[i])
        assert torch.equal(modulation[6 + i], one[3 + i]) and torch.equal(modulation[9 + i], two[3 + i])


def test_the_fixed_table_comes_and_goes(transformer):
    reference = transformer("2b")
    config = TransformerConfig.from_dict(dict(reference.config))
    there = sat.transformer_to_sat(stored(reference.state_dict()), config)
    table = there["model.diffusion_model.mixins.pos_embed.pos_embedding"]
    assert table.shape == (1, 6 + 2 * 2 * 4, 32) and sat.fixed_text_length(table) == 6
    assert torch.allclose(table.read(), reference.patch_embed._get_positional_embeddings(4, 8, 5).float(), atol=1e-6)
    assert not sat.is_fixed_table(StoredTensor.of(torch.zeros(1, 20, 32)))  # a learned one, before training
    assert not sat.is_fixed_table(StoredTensor.of(torch.randn(1, 20, 32)))


def test_what_a_fully_tuned_file_has_besides(transformer):
    reference = transformer("1.5")
    config = TransformerConfig.from_dict(dict(reference.config))
    weights = stored(reference.state_dict())
    there = sat.transformer_to_sat(weights, config)
    one = StoredTensor.of(torch.zeros(1))
    there |= dict.fromkeys(
        [
            "conditioner.embedders.0.transformer.encoder.block.0.layer.0.SelfAttention.q.weight",
            "first_stage_model.encoder.conv_in.conv.weight",
            "model.diffusion_model.transformer.word_embeddings.weight",
            "model.diffusion_model.transformer.position_embeddings.weight",
            "model.diffusion_model.mixins.pos_embed.freqs_cos",
            "model.diffusion_model.mixins.pos_embed.freqs_sin",
        ],
        one,
    )
    same(weights, sat.transformer_from_sat(there))
    with pytest.raises(InputError, match="1 names are not of a SAT transformer: model.diffusion_model.foo.bar"):
        sat.transformer_from_sat(there | {"model.diffusion_model.foo.bar": one})


def test_a_missing_half_is_named(transformer):
    reference = transformer("5b")
    config = TransformerConfig.from_dict(dict(reference.config))
    weights = stored(reference.state_dict())
    del weights["transformer_blocks.0.attn1.to_v.bias"]
    with pytest.raises(InputError, match="to_v.bias"):
        sat.transformer_to_sat(weights, config)


def save_official(folder, reference, vae):
    """Save as the official repositories do: no configs, the text encoder elsewhere."""
    config = TransformerConfig.from_dict(dict(reference.config))
    there = sat.transformer_to_sat(stored(reference.state_dict()), config)
    (folder / "transformer" / "1000").mkdir(parents=True)
    (folder / "vae").mkdir()
    (folder / "transformer" / "latest").write_text("1000\n")
    module = {name: tensor.read() for name, tensor in there.items()}
    torch.save({"module": module, "iteration": 1000}, folder / "transformer" / "1000" / "mp_rank_00_model_states.pt")
    state = {name: tensor.read() for name, tensor in sat.vae_to_sat(stored(vae.state_dict())).items()}
    torch.save({"state_dict": {**state, "loss.x": torch.zeros(1)}}, folder / "vae" / "3d-vae.pt")


@pytest.mark.parametrize("form", ["2b", "5b", "1.5", "1.5-i2v"])
def test_configs_are_seen_from_official_files(tmp_path, transformer, vae, form):
    reference, reference_vae = transformer(form), vae((32, 32, 32, 32), norm_num_groups=32)
    save_official(tmp_path, reference, reference_vae)
    with pytest.raises(RefusedError, match="--allow-pickle"):
        open_model(tmp_path)
    model = open_model(tmp_path, allow_pickle=True)
    assert model.layout == "sat"
    config, wanted = model.transformer_config, TransformerConfig.from_dict(dict(reference.config))
    names = "num_layers num_heads head_dim in_channels out_channels patch_size temporal_patch_size text_size time_size"
    for name in [*names.split(), "ofs_size", "rotary", "learned_positions", "patch_bias"]:
        assert getattr(config, name) == getattr(wanted, name), name
    with_time = form.startswith("1.5")
    sample = (config.sample_height, config.sample_width, config.sample_frames)
    assert sample == ((300, 300, 81) if with_time else (60, 90, 49))
    assert config.max_text_length == (6 if form == "2b" else 226)  # the fixed table tells, nothing else does
    assert model.vae_config.scaling_factor == (1.15258426 if form == "2b" else 0.7)
    assert model.vae_config.invert_scale_latents == with_time
    assert model.configs["scheduler"]["snr_shift_scale"] == (3.0 if form == "2b" else 1.0)
    assert model.class_name == ("CogVideoXImageToVideoPipeline" if form == "1.5-i2v" else "CogVideoXPipeline")
    loaded = model.load_transformer().state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in reference.state_dict().items())
    video = torch.randn(1, 3, 9, 16, 16)
    with torch.no_grad():
        assert torch.equal(model.load_vae().encode(video).mean, reference_vae.encode(video).latent_dist.mean)


def test_a_learned_table_of_another_size_needs_its_config(tmp_path, transformer, vae):
    save_official(tmp_path, transformer("5b-i2v"), vae())
    with pytest.raises(InputError, match=r"config\.json"):
        open_model(tmp_path, allow_pickle=True)


@pytest.mark.parametrize("form", FORMS)
def test_what_cogvx_writes_carries_its_configs(tmp_path, model_folder, form):
    source = open_model(model_folder(form))
    plan_conversion(model_folder(form), ConvertOptions(to="sat")).write(tmp_path / "sat")
    model = open_model(tmp_path / "sat", allow_pickle=True)
    assert model.transformer_config == source.transformer_config and model.vae_config == source.vae_config
    assert model.configs["scheduler"] == source.configs["scheduler"] and model.class_name == source.class_name
    assert model.load_text_encoder().encode(["a"]).equal(source.load_text_encoder().encode(["a"]))
    for part in ("transformer", "vae"):
        same(source.weights(part), model.weights(part))


def test_a_single_file_and_the_transformer_folder(tmp_path, transformer, vae):
    save_official(tmp_path, transformer("5b"), vae((32, 32, 32, 32)))
    for path in (tmp_path / "transformer", tmp_path / "transformer" / "1000" / "mp_rank_00_model_states.pt"):
        model = open_model(path, allow_pickle=True)
        assert set(model.readers) == {"transformer"}
        model.load_transformer()
    model = open_model(tmp_path / "vae" / "3d-vae.pt", allow_pickle=True)
    assert set(model.readers) == {"vae"} and model.vae_config.block_out_channels == (32, 32, 32, 32)


@pytest.mark.parametrize("latest", ["../1000", "", "/etc", "a b", "7", "x" * 300])
def test_hostile_latest(tmp_path, transformer, vae, latest):
    save_official(tmp_path, transformer("5b"), vae())
    (tmp_path / "transformer" / "latest").write_text(latest)
    with pytest.raises(InputError):
        open_model(tmp_path, allow_pickle=True)


def test_weights_for_several_devices(tmp_path, transformer, vae):
    save_official(tmp_path, transformer("5b"), vae())
    (tmp_path / "transformer" / "1000" / "mp_rank_01_model_states.pt").write_bytes(b"")
    with pytest.raises(InputError, match="several devices"):
        open_model(tmp_path, allow_pickle=True)
