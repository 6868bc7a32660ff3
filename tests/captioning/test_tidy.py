"""Answers to captions: what goes, what stays, and where a long one is cut."""

import pytest

from cogvx.captioning.tidy import cut, sentences, tidy


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        ("The video shows a dog.", "A dog."),
        ("The video captures the moment when it rains.", "The moment when it rains."),
        ("This clip features two men, arguing.", "Two men, arguing."),
        ("The scene depicts that a man walks.", "A man walks."),
        ("In this short video, we see a man. He runs.", "A man. He runs."),
        ("As the clip begins, a man enters.", "A man enters."),
        ("The video opens with a shot of the sea.", "A shot of the sea."),
        ("The footage is a close-up of a leaf.", "A close-up of a leaf."),
        ("It is a short clip of a boat.", "A boat."),
        ("a video of a cat on a mat", "A cat on a mat"),
        ("Sure! Here is a detailed caption of the clip:\n\nA red car drives.", "A red car drives."),
        ("Here's the summary: rain falls on a roof.", "Rain falls on a roof."),
        ("Caption: the caption reads well", "The caption reads well"),
        ("**Summary:** a *red* car, `fast`.", "A red car, fast."),
        ("### Rain\n- It rains.\n- It pours.\n---\n1. It stops.", "Rain It rains. It pours. It stops."),
        ("```text\nA cat.\n```", "A cat."),
        ("See [the cat](https://example.org) there.", "See the cat there."),
        ('"A man walks his dog."', "A man walks his dog."),
        ("\u201cThe video shows a dog.\u201d", "A dog."),
        ("A cat sits. A dog runs. a cat sits!", "A cat sits. A dog runs."),
        ("A man, a cart, a cart, and a cart, a dog.", "A man, a cart, a dog."),
        ("A cat\nsits \t on\u2028it.\x1b[31m", "A cat sits on it.[31m"),
        ("", ""),
    ],
)
def test_what_is_no_caption_goes(answer, caption):
    assert tidy(answer) == caption
    assert tidy(caption) == caption


@pytest.mark.parametrize(
    "caption",
    [
        "A man holds a video camera; the video shows on its screen.",
        "The videographer walks.",
        "The film noir look is kept.",
        "The picture is hung on a wall.",
        "There is a dog in a shop.",
        "Here are two people: a man and a boy.",
        'A sign says "STOP" in red.',
        "A snake_case_name and 2*3*4, 3.5 meters away.",
        "The video begins.",
        "一只猫坐在桌上。它很高兴。",
    ],
)
def test_captions_stay(caption):
    assert tidy(caption) == caption


def test_sentences_end_with_their_marks():
    assert sentences('It is 3.5 m. "Go!" he says… Then? 好。对！') == [
        "It is 3.5 m.",
        '"Go!"',
        "he says…",
        "Then?",
        "好。",
        "对！",
    ]


@pytest.mark.parametrize(
    ("most", "kept", "was_cut"),
    [
        (9, "A cat sits. A dog runs far. It rains.", False),
        (8, "A cat sits. A dog runs far.", True),
        (6, "A cat sits.", True),
        (2, "A cat.", True),
        (0, "", True),
    ],
)
def test_a_long_text_is_cut_at_a_sentence(most, kept, was_cut):
    text = "A cat sits. A dog runs far. It rains."
    assert cut(text, lambda part: len(part.split()) <= most) == (kept, was_cut)


def test_a_long_sentence_is_cut_at_a_word():
    assert cut("A red car, a boat, a star.", lambda part: len(part) <= 20) == ("A red car, a boat.", True)
