import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from cogvx.checkpoints.lora import LAYOUTS, LoRA, LoRAPair, read_lora, save_lora
from cogvx.errors import InputError, RefusedError, UsageError

WIDTH, RANK = 32, 4
MODULES = [f"transformer_blocks.{i}.attn1.{name}" for i in range(2) for name in ("to_q", "to_k", "to_v", "to_out.0")]
OTHERS = ["transformer_blocks.1.ff.net.0.proj", "transformer_blocks.0.norm1.linear", "time_embedding.linear_1"]


def make(modules=tuple(MODULES), alpha=None, rank=RANK):
    torch.manual_seed(3)
    pairs = {name: LoRAPair(torch.randn(rank, WIDTH), torch.randn(WIDTH, rank), alpha) for name in modules}
    return LoRA(pairs)


def names(lora, stem, down="lora_A", up="lora_B", flat=False, alpha=None):
    tensors = {}
    for name, pair in lora.pairs.items():
        key = stem + (name.replace(".", "_") if flat else name)
        tensors[f"{key}.{down}.weight"], tensors[f"{key}.{up}.weight"] = pair.down.clone(), pair.up.clone()
        if alpha is not None:
            tensors[f"{key}.alpha"] = torch.tensor(float(alpha))
    return tensors


def same(one, other, tolerance=0.0):
    assert one.pairs.keys() == other.pairs.keys()
    for name, pair in one.pairs.items():
        difference = (pair.delta() - other.pairs[name].delta()).abs().max()
        assert difference <= tolerance, name


FORMATS = {
    "diffusers": lambda lora: names(lora, "transformer."),
    "bare": lambda lora: names(lora, ""),
    "peft": lambda lora: names(lora, "base_model.model."),
    "peft of a pipeline": lambda lora: names(lora, "base_model.model.transformer."),
    "diffsynth": lambda lora: names(lora, "", "lora_A.default", "lora_B.default"),
    "old diffusers": lambda lora: names(lora, "transformer.", "lora.down", "lora.up"),
    "comfyui": lambda lora: names(lora, "diffusion_model."),
    "videox-fun": lambda lora: names(lora, "lora_unet__", "lora_down", "lora_up", flat=True, alpha=RANK),
    "musubi": lambda lora: names(lora, "lora_unet_", "lora_down", "lora_up", flat=True, alpha=RANK),
}


@pytest.mark.parametrize("origin", FORMATS)
def test_every_origin_gives_the_same_lora(tmp_path, origin):
    lora = make([*MODULES, *OTHERS])
    save_file(FORMATS[origin](lora), tmp_path / "x.safetensors")
    got = read_lora(tmp_path / "x.safetensors")
    same(lora, got)
    told = origin in ("videox-fun", "musubi")
    assert got.alpha_source == ("tensors" if told else "absent")
    assert bool(got.warnings) != told


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_sat(tmp_path, suffix):
    lora = make(alpha=1.0)
    tensors = {}
    for name, pair in lora.pairs.items():
        i, kind = name.split(".")[1], name.split("attn1.")[1]
        place = {"to_q": "query_key_value.{}.0", "to_k": "query_key_value.{}.1", "to_v": "query_key_value.{}.2"}
        stem = f"model.diffusion_model.transformer.layers.{i}.attention."
        key = stem + place.get(kind, "dense.{}.0")
        tensors[key.format("matrix_A")], tensors[key.format("matrix_B")] = pair.down, pair.up
        tensors[f"{stem}query_key_value.original.weight"] = torch.zeros(3, 3)
    path = tmp_path / f"x{suffix}"
    if suffix == ".pt":
        torch.save({"module": tensors}, path)
        with pytest.raises(RefusedError, match="--allow-pickle"):
            read_lora(path)
    else:
        save_file(tensors, path)
    got = read_lora(path, allow_pickle=True)
    same(lora, got)
    assert got.format == "sat" and not got.warnings
    assert {pair.scale for pair in got.pairs.values()} == {1 / RANK}


def test_strength_from_tensors(tmp_path):
    lora = make()
    save_file(names(lora, "lora_unet__", "lora_down", "lora_up", flat=True, alpha=2), tmp_path / "x.safetensors")
    assert {pair.scale for pair in read_lora(tmp_path / "x.safetensors").pairs.values()} == {0.5}


@pytest.mark.parametrize(
    ("settings", "scales"),
    [
        ({"r": 4, "lora_alpha": 2}, {0.5}),
        ({"transformer.r": 4, "transformer.lora_alpha": 8}, {2.0}),
        ({"r": 4, "lora_alpha": 4, "use_rslora": True}, {2.0}),
        (
            {"r": 4, "lora_alpha": 4, "alpha_pattern": {"^transformer_blocks.0.attn1.to_q": 1, "to_k": 2}},
            {1.0, 0.25, 0.5},
        ),
        ({"r": 8, "lora_alpha": 4, "rank_pattern": {"to_q": 4, "to_k": 4, "to_v": 4, "to_out.0": 4}}, {1.0}),
    ],
)
@pytest.mark.parametrize("place", ["header", "adapter_config"])
def test_strength_from_settings(tmp_path, settings, scales, place):
    if place == "header":
        save_file(
            names(make(), "transformer."), tmp_path / "x.safetensors", {"lora_adapter_metadata": json.dumps(settings)}
        )
        got = read_lora(tmp_path / "x.safetensors")
    else:
        settings = {key.removeprefix("transformer."): value for key, value in settings.items()}
        save_file(names(make(), "base_model.model."), tmp_path / "adapter_model.safetensors")
        (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
        got = read_lora(tmp_path)
    assert got.alpha_source == place and not got.warnings
    assert {pair.scale for pair in got.pairs.values()} == scales


def test_a_file_that_does_not_say_is_warned_about_with_both_readings(tmp_path):
    save_file(names(make(), "transformer."), tmp_path / "style.safetensors")
    lora = read_lora(tmp_path / "style.safetensors")
    assert {pair.scale for pair in lora.pairs.values()} == {1.0}
    (warning,) = lora.warnings
    assert "strength 1" in warning and "--lora style.safetensors:0.5" in warning
    assert {pair.scale for pair in lora.with_alpha(2.0).pairs.values()} == {0.5}


def spoil(**changes):
    tensors = names(make(MODULES[:1]), "transformer.")
    key = f"transformer.{MODULES[0]}"
    for suffix, tensor in changes.items():
        name = f"{key}.{suffix.replace('__', '.')}"
        if tensor is None:
            del tensors[name]
        else:
            tensors[name] = tensor
    return tensors


DAMAGED = {
    "nothing": ({"weight": torch.zeros(1)}, "no LoRA in it"),
    "half a pair": (spoil(lora_B__weight=None), "only one of its two matrices"),
    "DoRA of peft": (spoil(lora_magnitude_vector__weight=torch.zeros(3)), "DoRA"),
    "DoRA of kohya": (spoil(dora_scale=torch.zeros(3)), "DoRA"),
    "LoKr": ({"lora_unet_x.lokr_w1": torch.zeros(2, 2)}, "LoKr"),
    "LoHa": ({"lora_unet_x.hada_w1_a": torch.zeros(2, 2)}, "LoHa"),
    "biases": (spoil(lora_B__bias=torch.zeros(3)), "biases"),
    "ranks differ": (spoil(lora_A__weight=torch.zeros(3, WIDTH)), "do not fit"),
    "huge rank": (spoil(lora_A__weight=torch.zeros(5000, 1), lora_B__weight=torch.zeros(1, 5000)), "do not fit"),
    "a vector": (spoil(lora_A__weight=torch.zeros(4)), "shape"),
    "whole numbers": (spoil(lora_A__weight=torch.zeros(4, WIDTH, dtype=torch.int64)), "shape"),
    "alpha of NaN": (spoil(alpha=torch.tensor(float("nan"))), "not a number"),
    "alpha of many": (spoil(alpha=torch.zeros(100_000)), "not a number"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_what_is_no_plain_lora(tmp_path, kind):
    tensors, message = DAMAGED[kind]
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match=message) as caught:
        read_lora(tmp_path / "x.safetensors")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    ["nonsense", "[1]", '{"lora_alpha": "x"}', '{"lora_alpha": 1e300, "r": 4}', '{"r": 1000000000000, "lora_alpha": 1}',
     '{"r": 4, "lora_alpha": 4, "use_dora": true}', '{"r": 4, "lora_alpha": NaN}', '{"r": 0, "lora_alpha": 4}'],
)  # fmt: skip
def test_hostile_settings(tmp_path, settings):
    save_file(names(make(), "transformer."), tmp_path / "x.safetensors", {"lora_adapter_metadata": settings})
    with pytest.raises(InputError):
        read_lora(tmp_path / "x.safetensors")


def test_no_pattern_of_a_file_is_run(tmp_path):
    settings = {"r": 4, "lora_alpha": 4, "alpha_pattern": {"(a+)+$": 1, ".*": 9}}
    save_file(
        names(make(), "transformer."), tmp_path / "x.safetensors", {"lora_adapter_metadata": json.dumps(settings)}
    )
    assert {pair.scale for pair in read_lora(tmp_path / "x.safetensors").pairs.values()} == {1.0}


def test_other_tensors_are_reported(tmp_path):
    tensors = names(make(), "transformer.") | {"text_encoder.x.weight": torch.zeros(1)}
    save_file(tensors, tmp_path / "x.safetensors")
    assert any("text_encoder.x.weight" in warning for warning in read_lora(tmp_path / "x.safetensors").warnings)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("alpha", [None, 1.0, 2.0, 6.5])
def test_what_is_written_is_read_at_the_same_strength(tmp_path, layout, alpha):
    lora = make(alpha=alpha)
    file = save_lora(tmp_path / "x.safetensors", lora, layout=layout)
    got = read_lora(file)
    same(lora, got, tolerance=1e-5)
    assert not got.warnings


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(1, 6), st.none() | st.floats(0.1, 50)), min_size=8, max_size=8))
def test_ranks_and_alphas_may_all_differ(tmp_path, sizes):
    pairs = {
        name: LoRAPair(torch.randn(rank, WIDTH), torch.randn(WIDTH, rank), alpha)
        for name, (rank, alpha) in zip(MODULES, sizes, strict=True)
    }
    same(LoRA(pairs), read_lora(save_lora(tmp_path / "x.safetensors", LoRA(pairs))), tolerance=1e-3)


def test_the_usual_file_in_a_folder(tmp_path):
    file = save_lora(tmp_path / "folder", make(alpha=2.0))
    assert file == tmp_path / "folder" / "pytorch_lora_weights.safetensors"
    assert all(key.startswith("transformer.transformer_blocks.") for key in load_file(file))
    same(make(alpha=2.0), read_lora(tmp_path / "folder"))
    with pytest.raises(UsageError, match="--overwrite"):
        save_lora(tmp_path / "folder", make(), overwrite=False)


def test_sat_has_lora_for_attention_only(tmp_path):
    with pytest.raises(UsageError, match=r"ff\.net"):
        save_lora(tmp_path / "x.safetensors", make(OTHERS), layout="sat")


def test_sat_gets_zeros_for_what_a_lora_leaves_alone(tmp_path):
    save_lora(tmp_path / "x.safetensors", make(MODULES[:1], alpha=3.0), layout="sat")
    got = read_lora(tmp_path / "x.safetensors")
    assert set(got.pairs) == {f"transformer_blocks.0.attn1.to_{letter}" for letter in "qkv"}
    assert torch.allclose(
        got.pairs[MODULES[0]].delta(), make(MODULES[:1], alpha=3.0).pairs[MODULES[0]].delta(), atol=1e-5
    )
    assert not got.pairs["transformer_blocks.0.attn1.to_k"].delta().any()


@pytest.mark.parametrize("name", ["nothing", "empty", "x.txt"])
def test_no_file(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(InputError):
        read_lora(tmp_path / name)
