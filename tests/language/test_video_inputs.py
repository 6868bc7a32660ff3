"""Clips for language models: as a video of the Qwen kind, and as an mp4 in a request."""

import base64
import json

import numpy as np
import pytest
import torch
from tiny_models import build_tokenizer, save_llama, save_qwen_vl

from cogvx.data.video import read_clip
from cogvx.errors import InputError, RefusedError
from cogvx.language.ask import LanguageSpec, Message, Video, open_language_model
from cogvx.language.video_inputs import MARK, PatchSizes, fitting_size, patches

SIZES = PatchSizes(patch=14, frames=2, merge=2)


def moving(t, h=64, w=96, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (t, h, w, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(64, 96), (480, 854), (176, 144), (28, 2000)])
def test_two_equal_frames_are_cut_as_the_library_cuts_an_image(size):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    frame = moving(1, *size)[0]
    edges = {"shortest_edge": 128 * 28 * 28, "longest_edge": 768 * 28 * 28}
    processor = Qwen2VLImageProcessorPil(size=edges)
    wanted = processor(frame, return_tensors="pt")
    found, grid = patches(np.stack([frame, frame]), SIZES, mean=processor.image_mean, std=processor.image_std)
    assert torch.equal(grid, wanted["image_grid_thw"])
    assert torch.allclose(found, wanted["pixel_values"], atol=1e-5)


def test_each_pair_of_frames_has_its_patches_and_the_last_is_repeated():
    frames = moving(3)
    found, grid = patches(frames, SIZES, mean=[0.5] * 3, std=[0.5] * 3)
    assert grid[0, 0] == 2 and len(found) == grid.prod()
    first, _ = patches(frames[:2], SIZES, mean=[0.5] * 3, std=[0.5] * 3)
    last, _ = patches(frames[[2, 2]], SIZES, mean=[0.5] * 3, std=[0.5] * 3)
    assert torch.equal(found, torch.cat([first, last]))


def test_sizes_stay_within_the_limits():
    assert fitting_size(280, 420, 28) == (280, 420)
    for height, width in ((8, 8), (4000, 3000), (100, 1999)):
        fitted = fitting_size(height, width, 28)
        assert fitted[0] % 28 == fitted[1] % 28 == 0
        assert 128 * 28**2 <= fitted[0] * fitted[1] <= 768 * 28**2
    with pytest.raises(InputError, match="narrow"):
        fitting_size(2, 401, 28)


def test_a_model_of_the_kind_sees_a_video(tmp_path):
    spec = LanguageSpec(engine="transformers", model=str(save_qwen_vl(tmp_path / "m")))
    model = open_language_model(spec)

    def say(frames, fps=2.0):
        answer = model.ask([Message("user", "What moves?", videos=(Video(frames, fps),))], max_tokens=8)
        assert answer.outcome in ("success", "truncated"), answer
        return answer

    one = say(moving(4))
    assert one.text == say(moving(4)).text
    assert one.text != say(moving(4, seed=1)).text or one.text != say(moving(4)[::-1]).text
    # Two more frames are one more layer of 15 x 12 tokens.
    height, width = fitting_size(64, 96, 28)
    assert say(moving(6)).prompt_tokens - one.prompt_tokens == height * width // 28**2


def test_models_of_other_kinds_say_that_they_see_none(tmp_path):
    video = Video(moving(2), 2.0)
    model = open_language_model(LanguageSpec(engine="transformers", model=str(save_llama(tmp_path / "m"))))
    answer = model.ask([Message("user", "What moves?", videos=(video,))], max_tokens=4)
    assert answer.outcome == "error" and "sees no images" in answer.error and answer.fatal


def test_a_template_without_a_place_for_videos_is_named(tmp_path):
    folder = save_qwen_vl(tmp_path / "m")
    build_tokenizer("{% for m in messages %}hello{% endfor %}").save_pretrained(folder)
    model = open_language_model(LanguageSpec(engine="transformers", model=str(folder)))
    answer = model.ask([Message("user", f"{MARK} What?", videos=(Video(moving(2), 2.0),))], max_tokens=4)
    assert answer.outcome == "error" and "no place for a video" in answer.error


def test_an_endpoint_gets_an_mp4(mock_openai, tmp_path):
    model = open_language_model(LanguageSpec(model="mock-1"))
    frames = np.repeat(moving(1, 33, 48), 5, axis=0)
    answer = model.ask([Message("user", "What moves?", videos=(Video(frames, 4.0),))], max_tokens=20)
    assert answer.text == "answer to: What moves?"
    (part, text) = mock_openai.chats()[0]["messages"][0]["content"]
    assert part["type"] == "video_url" and text["type"] == "text"
    kind, _, data = part["video_url"]["url"].partition(";base64,")
    clip = read_clip(base64.b64decode(data))
    assert kind == "data:video/mp4" and clip.frames.shape == (5, 32, 48, 3) and clip.fps == 4.0


CONFIG = """
from transformers import PretrainedConfig


class TalkerConfig(PretrainedConfig):
    model_type = "cogvx-talker"
"""
NETWORK = """
import torch
from transformers import GenerationMixin, PreTrainedModel

from .configuration_talker import TalkerConfig


class Talker(PreTrainedModel, GenerationMixin):
    config_class = TalkerConfig

    def __init__(self, config):
        super().__init__(config)
        self.net = torch.nn.Linear(2, 2)
        self.post_init()

    def build_conversation_input_ids(self, tokenizer, *, query, images, history, template_version):
        assert template_version == "chat" and history == [] and images[0].dtype == torch.uint8
        channels, frames = images[0].shape[:2]
        said = f"{channels} channels, {frames} frames: {query}"
        self.answer = [*tokenizer(said)["input_ids"], tokenizer.eos_token_id]
        one = torch.ones(3, dtype=torch.int64)
        return {"input_ids": one, "token_type_ids": one, "attention_mask": one, "images": images}

    def generate(self, *, input_ids, images, token_type_ids, attention_mask, generation_config):
        assert images[0][0].dtype == self.dtype and len(token_type_ids) == len(attention_mask) == 1
        return torch.cat([input_ids, torch.tensor([self.answer])], dim=1)
"""


@pytest.fixture
def talker(tmp_path, monkeypatch):
    """A model with code of its repository that takes clips in its own way, as CogVLM2-Caption does."""
    from safetensors.torch import save_file

    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tmp_path / "talker"
    build_tokenizer(None).save_pretrained(folder)
    (folder / "configuration_talker.py").write_text(CONFIG)
    (folder / "modeling_talker.py").write_text(NETWORK)
    names = {"AutoConfig": "configuration_talker.TalkerConfig", "AutoModelForCausalLM": "modeling_talker.Talker"}
    config = {"model_type": "cogvx-talker", "auto_map": names, "architectures": ["Talker"]}
    (folder / "config.json").write_text(json.dumps(config))
    weights = {"net.weight": torch.zeros(2, 2), "net.bias": torch.zeros(2)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_model_that_converses_gets_a_clip_in_its_own_way(talker):
    spec = LanguageSpec(engine="transformers", model=str(talker), allow_remote_code=True)
    model = open_language_model(spec)
    video = Video(moving(5), 1.0)
    answer = model.ask([Message("system", "Be short."), Message("user", "What?", videos=(video,))], max_tokens=90)
    assert (answer.outcome, answer.text) == ("success", "3 channels, 5 frames: Be short.\n\nWhat?")
    none = model.ask([Message("user", "What?")], max_tokens=9)
    assert none.outcome == "error" and "one clip at a time" in none.error


def test_its_code_does_not_run_unless_that_is_allowed(talker):
    with pytest.raises(RefusedError, match="--allow-remote-code"):
        open_language_model(LanguageSpec(engine="transformers", model=str(talker)))
