import json
import shutil

import pytest
import torch

from cogvx.checkpoints.diffusers import model_index, open_model
from cogvx.errors import CogvxError, InputError, RefusedError

FORMS = ["2b", "5b", "5b-i2v", "1.5", "1.5-i2v"]


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_that_diffusers_saved(model_folder, form):
    import diffusers

    folder = model_folder(form)
    model = open_model(folder)
    assert model.layout == "diffusers" and set(model.components) == {
        "vae",
        "transformer",
        "text_encoder",
        "tokenizer",
        "scheduler",
    }
    assert model.class_name == ("CogVideoXImageToVideoPipeline" if form.endswith("i2v") else "CogVideoXPipeline")
    assert model.max_text_length == 6
    reference = diffusers.CogVideoXTransformer3DModel.from_pretrained(folder / "transformer").state_dict()
    ours = model.load_transformer().state_dict()
    assert ours.keys() == reference.keys()
    assert all(torch.equal(ours[key], tensor.float()) for key, tensor in reference.items())


def test_vae_and_schedule(model_folder):
    import diffusers

    model = open_model(model_folder("5b"))
    reference = diffusers.AutoencoderKLCogVideoX.from_pretrained(model.components["vae"]).state_dict()
    ours = model.load_vae(torch.bfloat16).state_dict()
    assert ours.keys() == reference.keys()
    assert all(torch.equal(ours[key], tensor.bfloat16()) for key, tensor in reference.items())
    assert model.schedule().alphas_cumprod[-1] == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_text_encoder_is_that_of_transformers(model_folder, dtype):
    from transformers import T5EncoderModel

    model = open_model(model_folder("5b"))
    reference = T5EncoderModel.from_pretrained(model.components["text_encoder"], dtype=dtype)
    ours = model.load_text_encoder(dtype)
    types = {key: tensor.dtype for key, tensor in ours.encoder.state_dict().items()}
    assert types == {key: tensor.dtype for key, tensor in reference.state_dict().items()}
    assert ours.encoder.shared.weight is ours.encoder.encoder.embed_tokens.weight
    with torch.no_grad():
        wanted = reference(ours.tokenize(["a bad cab", ""]))[0]
    assert torch.equal(ours.encode(["a bad cab", ""]), wanted) and wanted.shape == (2, 6, 12)


def test_a_folder_with_some_of_the_parts(model_folder, tmp_path):
    shutil.copytree(model_folder("5b") / "vae", tmp_path / "vae")
    model = open_model(tmp_path)
    model.load_vae()
    with pytest.raises(InputError, match="no transformer in this model"):
        model.load_transformer()
    shared = {"transformer": model_folder("5b") / "transformer"}
    open_model(tmp_path, shared=shared).load_transformer()


def test_an_index_that_names_what_is_not_there(model_folder, tmp_path):
    shutil.copytree(model_folder("5b"), tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "vae")
    with pytest.raises(InputError, match="names a vae"):
        open_model(tmp_path / "model")
    assert "vae" in open_model(tmp_path / "model", shared={"vae": model_folder("5b") / "vae"}).components


@pytest.mark.parametrize(
    ("file", "change", "error", "message"),
    [
        ("model_index.json", {"_class_name": "FluxPipeline"}, InputError, "not a CogVideoX model"),
        ("model_index.json", {"_class_name": ["pipeline", "Mine"]}, RefusedError, "code of its own"),
        ("model_index.json", {"transformer": ["my_code", "Model"]}, RefusedError, "code of its own"),
        ("model_index.json", {"vae": ["diffusers", "AutoencoderKL"]}, InputError, "AutoencoderKL"),
        ("transformer/config.json", {"auto_map": {"AutoModel": "x.Y"}}, RefusedError, "code of its own"),
        ("transformer/config.json", {"_class_name": "WanTransformer3DModel"}, InputError, "WanTransformer3DModel"),
        ("transformer/config.json", {"num_layers": 10**9}, InputError, "out of bounds"),
        ("transformer/config.json", {"num_layers": 3}, InputError, "missing"),
        ("transformer/config.json", {"num_layers": -2}, InputError, "negative"),
        ("transformer/config.json", {"num_attention_heads": "two"}, InputError, "config.json"),
        ("transformer/config.json", {"attention_head_dim": 24}, InputError, "another shape"),
        ("transformer/config.json", {"colour": "red"}, InputError, "colour"),
        ("vae/config.json", {"use_quant_conv": True}, InputError, "use_quant_conv"),
        ("vae/config.json", {"block_out_channels": [8] * 2000}, InputError, "out of bounds"),
        ("vae/config.json", {"latent_channels": None}, InputError, "vae"),
        ("text_encoder/config.json", {"model_type": "llama"}, InputError, "llama"),
        ("text_encoder/config.json", {"num_heads": 10**12}, InputError, "out of bounds"),
        ("tokenizer/tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["x.Y", None]}}, RefusedError, "code"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "linear"}, InputError, "beta_schedule"),
    ],
)
def test_hostile_and_foreign_configs(model_folder, tmp_path, file, change, error, message):
    shutil.copytree(model_folder("5b"), tmp_path / "model")
    path = tmp_path / "model" / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(error, match=message) as caught:
        model = open_model(tmp_path / "model")
        model.load_transformer(), model.load_vae(), model.load_text_encoder(), model.schedule()
    assert "\n" not in str(caught.value)


def test_only_pickles(model_folder, tmp_path):
    shutil.copytree(model_folder("5b"), tmp_path / "model")
    part = tmp_path / "model" / "vae"
    state = {key: stored.read() for key, stored in open_model(tmp_path / "model").weights("vae").items()}
    (part / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(state, part / "diffusion_pytorch_model.bin")
    with pytest.raises(RefusedError, match="--allow-pickle") as caught:
        open_model(tmp_path / "model").load_vae()
    assert caught.value.exit_code == 5
    loaded = open_model(tmp_path / "model", allow_pickle=True).load_vae().state_dict()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in state.items())


def test_broken_tokenizer(model_folder, tmp_path):
    shutil.copytree(model_folder("5b"), tmp_path / "model")
    for path in (tmp_path / "model" / "tokenizer").iterdir():
        if path.name != "tokenizer_config.json":
            path.write_bytes(b"\0\1\2")
    with pytest.raises(InputError, match="no usable T5 tokenizer"):
        open_model(tmp_path / "model").load_tokenizer()


@pytest.mark.parametrize("name", ["nothing", "file.txt", "empty"])
def test_no_model(tmp_path, name):
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CogvxError) as caught:
        open_model(tmp_path / name)
    assert caught.value.exit_code == 3


def test_the_index_keeps_what_it_had():
    old = {
        "_class_name": "CogVideoXPipeline",
        "_cogvx": {"fps": 8},
        "vae": ["diffusers", "AutoencoderKLCogVideoX"],
        "x": 1,
    }
    index = model_index("CogVideoXImageToVideoPipeline", {"vae": None, "transformer": None}, old=old)
    assert index["_class_name"] == "CogVideoXImageToVideoPipeline" and index["_cogvx"] == {"fps": 8}
    assert index["transformer"] == ["diffusers", "CogVideoXTransformer3DModel"]
    assert index["text_encoder"] == [None, None] and "x" not in index
