"""The captioner: what each prediction may see, its formulas, its search, its files."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cogvx.checkpoints.clip_text import has_captioner, load_captioner, write_clip_text
from cogvx.errors import InputError, ShapeError
from cogvx.models.caption_search import beam_captions, greedy_captions
from cogvx.models.captioner import Captioner, CaptionerConfig
from cogvx.models.latent_frames import temporal_consistency
from cogvx.models.words import END, MAX_WORDS, PAD, START, UNKNOWN, Vocabulary, clean_words

WORDS = ("a", "red", "blue", "star", "boat", "moves", "up", "down", "over", "the", "sea")
SIZES = {
    "latent_channels": 4,
    "grid": (4, 6),
    "convolutions": (),
    "hidden_size": 16,
    "embed_size": 8,
    "dropout": 0.5,
    "words": WORDS,
    "sizes": ((32, 48),),
    "num_frames": 9,
    "fps": 8.0,
    "joined_states": True,
}


def captioner(seed=0, **changes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = Captioner(CaptionerConfig(**(SIZES | changes)))
        with torch.no_grad():
            for weight in made.parameters():
                weight.mul_(3)  # so that every word in front of another counts
    return made.requires_grad_(False)


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def random_tokens(b, length, seed=0):
    tokens = torch.randint(4, 4 + len(WORDS), (b, length), generator=torch.Generator().manual_seed(seed))
    tokens[:, 0] = START
    return tokens


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A red star, moving UP.", "a red star moving up"),
        ("It's a mid-sized boat!", "its a mid sized boat"),
        ("Été\u2019s  \n boat_2", "étés boat 2"),
        ("…", ""),
        ("a " * 60, "a " * MAX_WORDS),
    ],
)
def test_words_are_in_lower_case_without_punctuation_and_at_most_fifty(caption, words):
    assert clean_words(caption) == words.split()


def test_a_vocabulary_has_the_most_frequent_words():
    vocabulary = Vocabulary.of(["a red star", "A blue star.", "a boat"], max_words=3)
    assert vocabulary.words == ("a", "star", "blue") and len(vocabulary) == 7
    tokens = vocabulary.batch(["A star", "a red star!"], marks=True)
    assert tokens.tolist() == [[START, 4, 5, END, PAD], [START, 4, UNKNOWN, 5, END]]
    assert vocabulary.decode(tokens[1].tolist()) == "a star"
    for wrong in (("a", "a"), ("A",), ("two words",), ("",)):
        with pytest.raises(ValueError, match="vocabulary"):
            Vocabulary(wrong)


@pytest.mark.parametrize("joined", [True, False])
def test_a_later_word_changes_no_earlier_prediction(joined):
    network = captioner(joined_states=joined)
    clips = network.encode(random(3, 4, 3, 4, 6))
    tokens = random_tokens(3, 9)
    scores = network(clips, tokens)
    for place in range(1, 9):
        changed = tokens.clone()
        changed[:, place] = 4 + (changed[:, place] - 3) % len(WORDS)
        others = network(clips, changed)
        assert torch.equal(others[:, :place], scores[:, :place])
        # Every later prediction does see it, also where it is not the last word.
        assert ((others[:, place:] - scores[:, place:]).abs().amax(dim=2) > 1e-6).all()


@pytest.mark.parametrize("joined", [True, False])
def test_training_and_decoding_compute_the_formulas_of_the_paper(joined):
    network = captioner(joined_states=joined)
    latents, tokens = random(2, 4, 3, 4, 6), random_tokens(2, 7)
    lstm = nn.LSTM(8, 8, batch_first=True, bidirectional=True)
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
        getattr(lstm, name).data.copy_(getattr(network.forward_lstm, name))
        getattr(lstm, f"{name}_reverse").data.copy_(getattr(network.backward_lstm, name))
    clips = network.encode(latents)
    features = latents.permute(0, 2, 1, 3, 4).flatten(2) @ network.frames.dense.weight.T + network.frames.dense.bias
    states = network.clip_lstm(features)[0]
    assert torch.allclose(clips.features, features, atol=1e-5) and torch.allclose(clips.states, states, atol=1e-5)
    scores = network(clips, tokens)
    for length in range(1, 8):
        words = lstm(network.embedding(tokens[:, :length]))[0]
        context = (states @ words.mT).softmax(dim=2) @ words
        joint = torch.cat([context, features, *([states] if joined else [])], dim=2)
        wanted = network.out(F.gelu(network.joint(joint)).mean(dim=1))
        assert torch.allclose(scores[:, length - 1], wanted, atol=1e-4)
        assert torch.allclose(network.next_scores(clips, tokens[:, :length]), wanted, atol=1e-4)


def test_padding_changes_nothing_before_it():
    network = captioner()
    clips, tokens = network.encode(random(2, 4, 3, 4, 6)), random_tokens(2, 6)
    scores = network(clips, tokens)
    padded = torch.full((2, 9), PAD)
    padded[0, :6], padded[1, :3] = tokens[0], tokens[1, :3]
    found = network(clips, padded)
    assert torch.allclose(found[0, :6], scores[0], atol=1e-5) and torch.allclose(found[1, :3], scores[1, :3], atol=1e-5)
    assert found.isfinite().all()


@pytest.mark.parametrize("shape", [(4, 5, 8, 12), (4, 5, 16, 24), (4, 1, 8, 12), (4, 3, 2, 3)])
@pytest.mark.parametrize("convolutions", [(), (6, 5)])
def test_clips_of_any_size(shape, convolutions):
    network = captioner(grid=(8, 12), convolutions=convolutions)
    clips = network.encode(random(2, *shape))
    assert clips.features.shape == clips.states.shape == (2, shape[1], 16)
    assert network(clips, random_tokens(2, 5)).shape == (2, 5, 4 + len(WORDS))


def test_with_a_coarse_grid_what_there_is_counts_wherever_it_is():
    network = captioner(grid=(8, 12), convolutions=(6,), coarse=(2, 3))
    assert network.frames.dense.in_features == 6 * (2 * 3 + 1)
    frame = torch.zeros(4, 1, 8, 12)
    frame[:, 0, 1:3, 2:4] = random(4, 2, 2)
    moved = frame.roll((4, 5), dims=(2, 3))
    network.frames.dense.weight.data[:, : 6 * 2 * 3] = 0  # the greatest values alone
    found = network.frames(torch.stack([frame, moved]))
    assert torch.allclose(found[0], found[1], atol=1e-5)
    network.frames.dense.weight.data[:, : 6 * 2 * 3] = random(16, 6 * 2 * 3)  # the means know the place
    found = network.frames(torch.stack([frame, moved]))
    assert not torch.allclose(found[0], found[1], atol=1e-2)


def test_wrong_shapes_are_named():
    network = captioner()
    with pytest.raises(ShapeError, match="c=4"):
        network.encode(random(2, 3, 3, 4, 6))
    with pytest.raises(ShapeError, match="tokens"):
        network(network.encode(random(2, 4, 3, 4, 6)), torch.zeros(2, dtype=torch.int64))


def test_dropout_is_drawn_for_each_clip_alone():
    network, latents = captioner(), random(3, 4, 2, 4, 6)

    def sources(*seeds):
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    plain, together = network.encode(latents).features, network.encode(latents, sources(1, 2, 3)).features
    alone = network.encode(latents[1:2], sources(2)).features
    assert torch.allclose(together[1:2], alone, atol=1e-6)
    kept = together != 0
    assert 0.2 < kept.float().mean() < 0.8
    assert torch.allclose(together[kept], 2 * plain[kept])
    assert torch.equal(network.encode(latents).features, plain)


def test_temporal_consistency_is_the_mean_squared_step():
    features = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 2.0]], [[1.0, 1.0]] * 3])
    assert temporal_consistency(features).tolist() == [2.5, 0.0]
    assert temporal_consistency(features[:, :1]).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("seed", [2, 3])
def test_a_beam_never_finds_less_than_the_greedy_search(seed):
    network, latents = captioner(seed), random(3, 4, 3, 4, 6, seed=seed)
    clips = network.encode(latents)
    greedy = greedy_captions(network, latents, max_words=6)
    assert beam_captions(network, latents, num_beams=1, max_words=6) == greedy
    better = 0
    for width in (2, 5):
        beam = beam_captions(network, latents, num_beams=width, max_words=6)
        assert beam == beam_captions(network, latents, num_beams=width, max_words=6)
        assert all(one.score >= other.score for one, other in zip(beam, greedy, strict=True))
        better += sum(one.score > other.score + 1e-6 for one, other in zip(beam, greedy, strict=True))
        for i, one in enumerate(beam):
            row = [START, *network.vocabulary.encode(one.text), END]
            own = type(clips)(clips.features[i : i + 1], clips.states[i : i + 1])
            log_probs = network.log_probs(own, torch.tensor([row]))
            assert float(log_probs.sum()) == pytest.approx(one.log_prob, abs=1e-4)
            assert one.num_tokens == len(row) - 1
    assert better


def test_captions_end_after_fifty_words():
    network = captioner()
    network.out.bias[END] = -100.0
    for width in (1, 3):
        found = beam_captions(network, random(2, 4, 2, 4, 6), num_beams=width)
        assert all(len(one.text.split()) == MAX_WORDS for one in found)


def test_a_clip_has_the_same_caption_alone_and_among_others():
    network, latents = captioner(2), random(4, 4, 3, 4, 6)
    together = greedy_captions(network, latents)
    for i, one in enumerate(together):
        assert greedy_captions(network, latents[i : i + 1])[0].text == one.text


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_saving_and_loading(tmp_path, dtype):
    network = captioner(convolutions=(3,))
    folder = write_clip_text(network, tmp_path, dtype=dtype)
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
    assert has_captioner(tmp_path) and not has_captioner(folder)
    again = load_captioner(tmp_path)
    assert again.config == network.config and not again.training
    for name, weight in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight.to(dtype).float())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"_class_name": "DualEncoder"}, "not of a Captioner"),
        ({"depth": 3}, "unknown key 'depth'"),
        ({"fps": None}, "fps cannot be None"),
        ({"hidden_size": 7}, "must be even"),
        ({"hidden_size": 10**9}, "hidden_size cannot be"),
        ({"grid": [4]}, "grid cannot be"),
        ({"words": ["a", "a"]}, "twice"),
        ({"words": ["a"]}, "another shape"),
        ({"joined_states": 1}, "joined_states cannot be 1"),
        ({"dropout": 1.0}, "dropout must be in"),
        ({"sizes": []}, "sizes are empty"),
        ({"coarse": [3, 3]}, "coarse must divide the grid"),
        ({"coarse": [4]}, "coarse must divide the grid"),
        ({"num_frames": 10}, "8k \\+ 1"),
        ({"fps": 0}, "fps above 0"),
    ],
)
def test_damaged_files_are_refused(tmp_path, change, words):
    path = write_clip_text(captioner(), tmp_path) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=words):
        load_captioner(tmp_path)


def test_a_missing_key_is_named(tmp_path):
    path = write_clip_text(captioner(), tmp_path) / "config.json"
    table = json.loads(path.read_text())
    del table["grid"]
    path.write_text(json.dumps(table))
    with pytest.raises(InputError, match="missing key 'grid'"):
        load_captioner(tmp_path)
