"""Sizes, choices and records of generation; the numbers themselves are compared in tests/commands/test_parity.py."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from cogvx.diffusion.schedule import Schedule
from cogvx.errors import InputError, MissingError, ShapeError, UsageError
from cogvx.generate.generator import Generator, NumbersError
from cogvx.generate.options import GenerateOptions, Runtime, choose_device, choose_dtype, dtype_name
from cogvx.generate.parts import LoadedParts, stream_layers
from cogvx.generate.provenance import UsedFile, dump, make_record, parse
from cogvx.generate.sizes import SizeRules
from cogvx.generate.world import outside_world
from cogvx.models.transformer import ExpertTransformer, TransformerConfig
from cogvx.models.vae import CausalVAE, VAEConfig

VAE = VAEConfig(block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=2)
SMALL = {"num_layers": 1, "num_heads": 2, "head_dim": 16, "time_size": 16, "text_size": 16, "max_text_length": 6}
SMALL |= {"in_channels": 4, "out_channels": 4, "sample_height": 4, "sample_width": 6, "sample_frames": 17}
CPU = Runtime(device=torch.device("cpu"), dtype=torch.float32)
OPTIONS = GenerateOptions(prompt="a", height=32, width=48, num_frames=9, num_steps=2, guidance_scale=3.0)


class Words(nn.Module):
    """A stand-in for the text encoder: each prompt has its own embedding."""

    max_length = 6

    def __init__(self):
        super().__init__()
        self.asked = []

    def num_tokens(self, prompt):
        return len(prompt.split()) + 1

    def encode(self, prompts):
        self.asked.append(list(prompts))
        return torch.stack([torch.randn(6, 16, generator=torch.Generator().manual_seed(len(p))) for p in prompts])


def make_generator(**changes):
    config = TransformerConfig(**(SMALL | {"rotary": True} | changes))
    torch.manual_seed(0)
    modules = {"vae": CausalVAE(VAE).eval(), "transformer": ExpertTransformer(config).eval(), "text_encoder": Words()}
    parts = LoadedParts(**modules, schedule=Schedule())
    return Generator(parts, vae=VAE, transformer=config, runtime=CPU)


class TestSizes:
    def rules(self, **changes):
        return SizeRules.of(VAEConfig(), TransformerConfig(**({"sample_height": 60, "sample_width": 90} | changes)))

    @pytest.mark.parametrize("num_frames", [1, 9, 17, 49, 81, 161])
    def test_legal_frames(self, num_frames):
        self.rules().check(height=480, width=720, num_frames=num_frames)

    @pytest.mark.parametrize(
        ("num_frames", "near"), [(0, "1 or 9"), (2, "1 or 9"), (48, "41 or 49"), (50, "49 or 57"), (13, "9 or 17")]
    )
    def test_illegal_frames_name_the_nearest(self, num_frames, near):
        with pytest.raises(UsageError, match=f"nearest: {near}"):
            self.rules().check(height=480, width=720, num_frames=num_frames)

    def test_every_legal_count_comes_back_from_the_vae(self):
        """As many frames come out as went in: the reason for 8k + 1."""
        vae = make_generator().parts.vae()
        for num_frames in (1, 9, 17):
            with torch.no_grad():
                latents = vae.encode(torch.zeros(1, 3, num_frames, 16, 16)).mean
                assert vae.decode(latents).shape[2] == num_frames

    def test_multiples(self):
        for height, near in ((470, "464 or 480"), (8, "16")):
            with pytest.raises(UsageError, match=f"nearest: {near}$"):
                self.rules().check(height=height, width=720, num_frames=49)

    def test_learned_positions_have_one_size(self):
        with pytest.raises(UsageError, match="--height 480 --width 720"):
            self.rules(learned_positions=True, rotary=True).check(height=512, width=720, num_frames=49)

    def test_sliced_positions_have_a_largest_size(self):
        rules = self.rules(rotary=True, temporal_patch_size=2, sample_height=300, sample_width=300)
        rules.check(height=2400, width=1360, num_frames=81)
        with pytest.raises(UsageError, match="up to 2400; nearest: 2400"):
            rules.check(height=2416, width=1360, num_frames=81)

    @pytest.mark.parametrize(("num_frames", "latents", "padded"), [(81, 21, 1), (161, 41, 1), (9, 3, 1), (1, 1, 1)])
    def test_padding_of_1_5(self, num_frames, latents, padded):
        rules = self.rules(rotary=True, temporal_patch_size=2)
        assert (rules.num_latents(num_frames), rules.num_padded(num_frames)) == (latents, padded)
        assert self.rules().num_padded(num_frames) == 0

    def test_vae_alone(self):
        rules = SizeRules.of(VAEConfig())
        rules.check(height=8, width=24, num_frames=17)
        assert rules.floor_frames(30) == 25 and rules.floor_size(30) == 24


class TestGenerator:
    def test_steps_are_driven_by_the_caller(self):
        generator = make_generator()
        with torch.no_grad():
            steps = list(generator.steps(OPTIONS))
        assert len(steps) == 2 and steps[0].shape == (4, 3, 4, 6)
        seen = []
        made = generator.generate(OPTIONS, report=lambda *progress: seen.append(progress))
        assert seen == [("denoising", 1, 2), ("denoising", 2, 2), ("decoding", 0, 1), ("decoding", 1, 1)]
        assert torch.equal(made.latents, steps[-1])
        assert made.frames.shape == (9, 32, 48, 3) and made.frames.dtype == np.uint8

    def test_noise_is_drawn_first_in_float32(self):
        generator = make_generator()
        wanted = torch.randn(3, 4, 4, 6, generator=torch.Generator().manual_seed(0)).transpose(0, 1)
        seeded = generator.generate(OPTIONS, decode=False)
        given = generator.generate(OPTIONS, noise=wanted, decode=False)
        assert torch.equal(seeded.latents, given.latents) and seeded.frames is None

    def test_the_frame_in_front_is_dropped(self):
        generator = make_generator(temporal_patch_size=2)
        with torch.no_grad():
            *_, last = generator.steps(OPTIONS)
        assert last.shape[1] == 4
        assert torch.equal(generator.generate(OPTIONS, decode=False).latents, last[:, 1:])

    def test_prompts_are_embedded_once_and_one_at_a_time(self):
        generator = make_generator()
        words = generator.parts.text_encoder()
        generator.embed(["a", "bb", "a"])
        generator.generate(OPTIONS, decode=False)
        assert words.asked == [["a"], ["bb"], [""]]
        generator.embed(["seven words are too many for this"])
        assert generator.cut_prompts == {"seven words are too many for this": 8}

    def test_image_and_clip_must_have_the_size(self):
        with_image = make_generator(in_channels=8)
        with pytest.raises(UsageError, match="image-to-video"):
            with_image.generate(OPTIONS)
        with pytest.raises(UsageError, match="takes no image"):
            make_generator().generate(OPTIONS, image=torch.zeros(3, 32, 48))
        with pytest.raises(ShapeError):
            with_image.generate(OPTIONS, image=torch.zeros(3, 16, 48))
        with pytest.raises(ShapeError):
            make_generator().generate(OPTIONS, clip=torch.zeros(3, 17, 32, 48))
        with pytest.raises(InputError, match="shape"):
            make_generator().generate(OPTIONS, noise=torch.zeros(4, 5, 4, 6))

    def test_image_fills_the_first_frame_only(self):
        generator = make_generator(in_channels=8)
        seen = []
        generator.parts.transformer().register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        generator.generate(OPTIONS, image=torch.rand(3, 32, 48), decode=False)
        image_latents = seen[0][:, 4:]
        assert image_latents[:, :, 0].abs().max() > 0 and image_latents[:, :, 1:].abs().max() == 0
        assert torch.equal(image_latents[0], image_latents[1])  # guided and not

    def test_infinite_latents_are_an_error(self):
        generator = make_generator()
        with torch.no_grad():
            generator.parts.transformer().proj_out.bias[0] = float("inf")
        with pytest.raises(NumbersError, match="after step 1"):
            generator.generate(OPTIONS)

    def test_smooth_guidance_differs_from_official(self):
        generator = make_generator()
        made = {}
        for mode in ("off", "official", "smooth"):
            options = GenerateOptions(**{**vars(OPTIONS), "dynamic_guidance": mode})
            made[mode] = generator.generate(options, decode=False).latents
        assert not torch.equal(made["off"], made["official"]) and not torch.equal(made["smooth"], made["official"])


def test_streamed_layers_give_the_same_numbers_and_go_back():
    config = TransformerConfig(**(SMALL | {"num_layers": 3, "rotary": True}))
    torch.manual_seed(0)
    stored = ExpertTransformer(config).to(torch.bfloat16).eval()
    whole = ExpertTransformer(config).eval()
    whole.load_state_dict(stored.state_dict())
    inputs = torch.randn(1, 4, 3, 4, 6), torch.randn(1, 6, 16), torch.tensor([500])
    stream_layers(stored, stored.transformer_blocks, CPU)
    with torch.no_grad():
        assert torch.equal(stored(*inputs), whole(*inputs))
    assert {parameter.dtype for parameter in stored.transformer_blocks.parameters()} == {torch.bfloat16}
    assert stored.proj_out.weight.dtype == torch.float32


class TestChoices:
    def test_device(self):
        assert choose_device("cpu").type == "cpu"
        assert choose_device(None).type in ("cpu", "cuda", "mps")
        with pytest.raises(UsageError):
            choose_device("gpu")
        with pytest.raises(UsageError):
            choose_device("meta")
        with pytest.raises(MissingError):
            choose_device("cuda:99")

    def test_dtype(self):
        cpu, cuda = torch.device("cpu"), torch.device("cuda")
        assert dtype_name(choose_dtype(None, device=cpu, native="bf16")) == "fp32"
        assert dtype_name(choose_dtype("auto", device=cuda, native="fp16")) == "fp16"
        assert dtype_name(choose_dtype("bf16", device=cpu, native="fp16")) == "bf16"


class TestRecord:
    def test_survives_the_comment_tag(self, tmp_path):
        (tmp_path / "style.safetensors").write_bytes(b"lora")
        lora = UsedFile.of(tmp_path / "style.safetensors", weight=0.5)
        settings = {"command": "sample", "model": "tiny", "weights": {"vae": "0" * 64}, "fps": 8.0}
        record = make_record(OPTIONS, CPU, **settings, frames_sha256="1" * 64, loras=[lora])
        text = dump(record)
        assert parse(text, source="x.mp4") == record and "\n" not in text and str(tmp_path) not in text
        assert record["loras"] == [{"name": "style.safetensors", "sha256": lora.sha256, "weight": 0.5}]

    @pytest.mark.parametrize(
        "comment", [None, "", "holiday", "[1]", "{}", json.dumps({"format": "other"}), "[" * 10000]
    )
    def test_foreign_comments(self, comment):
        with pytest.raises(InputError, match=r"x\.mp4 does not say"):
            parse(comment, source="x.mp4")


def test_world_of_the_embedded_model():
    assert outside_world("A red star moves to the right over a green field.") == []
    assert outside_world("a small person in blue walks to the left in the snow, pixel art, the camera zooms in") == []
    assert outside_world("a dragon eats a red pizza; the dragon roars") == ["dragon", "eats", "pizza", "roars"]
