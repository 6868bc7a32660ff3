"""How long captions may be, counted exactly or about."""

import json
from pathlib import Path

import pytest

from cogvx.captioning.length import Limit, cut_tokens, cut_words, estimate_tokens
from cogvx.errors import InputError, RefusedError

T5 = Path(__file__).parents[3] / "shared" / "t5-tokenizer"
LONG = "A red car drives along the coast road while the sun sets behind it. " * 12 + "It stops."


def test_a_long_caption_is_cut_at_the_end_of_a_sentence():
    count = Limit().counter()
    text, was_cut = cut_tokens(LONG, Limit(100), count)
    assert was_cut and text.endswith("behind it.") and LONG.startswith(text)
    assert count(text) <= 100 < count(text + " A red car drives along the coast road while the sun sets behind it.")
    assert cut_tokens(LONG, Limit(0), count) == (LONG, False)
    assert cut_tokens("Short.", Limit(226), count) == ("Short.", False)
    assert cut_words("One two three. Four five.", 4) == ("One two three.", True)


@pytest.mark.skipif(not T5.is_dir(), reason="needs the T5 tokenizer")
def test_the_estimate_is_near_and_rather_high():
    exact = Limit(226, T5).counter()
    texts = [LONG, "Extraordinarily sophisticated architectural photography.", "Two men walk."]
    for text in texts:
        assert 0.95 * exact(text) - 1 <= estimate_tokens(text) <= 1.6 * exact(text) + 2
    assert exact("a cat") == 4  # "▁", "a", "▁cat", and the end


def test_a_tokenizer_of_a_folder_counts(tmp_path):
    from tiny_models import build_tokenizer

    build_tokenizer().save_pretrained(tmp_path)
    limit = Limit(10, tmp_path)
    assert limit.counter()("seven m") == 7
    assert limit.settings()["counted_by"] != Limit(10).settings()["counted_by"] == "estimate"
    assert Limit(0, tmp_path).settings() == {"max_tokens": 0}
    assert cut_tokens("Four. Five more.", limit, limit.counter()) == ("Four.", True)


def test_folders_that_hold_no_tokenizer(tmp_path):
    with pytest.raises(InputError, match="no T5 tokenizer"):
        Limit(10, tmp_path).settings()
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="no usable tokenizer"):
        Limit(10, tmp_path).counter()
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": "x.Y"}}))
    with pytest.raises(RefusedError, match="code of its own"):
        Limit(10, tmp_path).counter()
