"""What is a prompt and what is not."""

import pytest

from cogvx.language.upsampling.checks import shortened, tidy, why_unfit
from cogvx.language.upsampling.preset import PRESETS, Limits, read_preset

GOOD = (
    "A small red boat with a patched white sail crosses a calm blue bay in the morning light. It leans in the wind and "
    "leaves a line of foam behind it, while gulls circle above the mast and the hills on the far shore lie in a haze."
)


def test_a_good_prompt_and_the_examples_pass():
    assert why_unfit(GOOD, Limits()) is None
    for name in PRESETS:
        preset = read_preset(name)
        assert preset.examples
        for _, answer in preset.examples:
            assert answer == tidy(answer) and why_unfit(answer, preset.checks) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("I'm sorry, but I can't help with that. " + GOOD, "refuses"),
        ("As an AI language model I watch no clips. " + GOOD, "refuses"),
        ("Sure! " + GOOD, "talks about the task"),
        ("Here is the description you asked for. " + GOOD, "talks about the task"),
        ("Caption: " + GOOD, "talks about the task"),
        ("# Boat\n" + GOOD, "markup"),
        ("**Boat** " + GOOD, "markup"),
        ("- " + GOOD, "markup"),
        (GOOD + "\n1. more", "markup"),
        (GOOD + "\n\n" + GOOD, "several paragraphs"),
        ('"' + GOOD, "quote"),
        ("一只小红船在清晨的阳光下穿过平静的蓝色海湾，它在风中倾斜，身后留下一行泡沫。" * 3, "English letters"),
        ("boat red sail white bay blue morning light gulls hills haze foam " * 3, "English sentences"),
        (
            "Ein kleines rotes Boot mit einem geflickten weissen Segel kreuzt im Morgenlicht eine ruhige blaue Bucht. "
            * 2,
            "English sentences",
        ),
        ("The boat moves to the left and to the right. " * 8, "over and over"),
        ("A boat on the sea.", "too short: 5 words, and 22"),
        (
            GOOD + " " + " ".join(f"the {chr(97 + number // 9)}{chr(97 + number % 9)} sail" for number in range(70)),
            "too long",
        ),
    ],
)
def test_what_is_no_prompt(text, words):
    found = why_unfit(tidy(text), Limits())
    assert found is not None and words in found


def test_tokens_are_counted_where_they_can_be():
    assert "too long: 999 tokens, and at most 220" in why_unfit(GOOD, Limits(), count_tokens=lambda text: 999)
    assert "too short: 3 tokens" in why_unfit(GOOD, Limits(), count_tokens=lambda text: 3)
    assert why_unfit("A boat on the sea.", Limits(), count_tokens=lambda text: 30) is None


def test_what_is_too_long_ends_with_a_whole_sentence():
    long = " ".join([GOOD, *(f"Behind the {name} hill there is a {name} house in the light." for name in "abcdefghij")])
    short = shortened(long, Limits(max_words=100))
    assert long.startswith(short) and short.endswith(".") and 80 < len(short.split()) <= 100
    assert shortened(GOOD, Limits()) == GOOD and shortened(GOOD + " And th", Limits(), cut_off=True) == GOOD
    assert shortened(GOOD, Limits(), cut_off=True) == GOOD and shortened("no end", Limits(), cut_off=True) == ""
    assert shortened(f"{GOOD} It goes on. It goes on.", Limits()) == f"{GOOD} It goes on."
    assert shortened("one sentence of " + "many " * 300, Limits()) == ""


def test_words_that_are_not_refusals():
    for start in ("A sorry-looking dog", "A man who cannot swim", "A great: blue whale", "Sure-footed goats"):
        assert why_unfit(f"{start} in the light. {GOOD}", Limits()) is None


def test_tidying():
    assert tidy(f'  "{GOOD}"\n') == tidy(f"“{GOOD}”") == GOOD
    assert tidy(GOOD.replace(". ", ".\n")) == GOOD
    assert tidy('"Go" says the sign; "Stop" says another') == '"Go" says the sign; "Stop" says another'
