"""The file of questions: cogvx's own, edited ones, and broken ones."""

import numpy as np
import pytest

from cogvx.captioning.questions import DEFAULT, read_questions
from cogvx.errors import InputError

FORMAT = 'format = "cogvx.caption/1"\n'


def test_the_own_file_asks_everything():
    questions = read_questions()
    frames = "0.0 s: {short} a dog\n2.0 s: a cat"
    *_, last = questions.summary.messages(frames=frames, short="pets", max_words=100)
    assert frames in last.text and "pets" in last.text and "at most 100 words" in last.text
    roles = [message.role for message in questions.words.messages(frames="x")]
    assert roles == ["system", *["user", "assistant"] * 3, "user"]
    image = np.zeros((2, 2, 3), dtype=np.uint8)
    (system, asked) = questions.frame.messages(images=(image,))
    assert (system.role, asked.role) == ("system", "user") and asked.images == (image,)
    assert "{" not in questions.video.messages(times="At 0.0 s. ")[-1].text


def test_an_edited_file_replaces_what_it_has(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(FORMAT + '[frame]\nask = "What is it?"\nmax_tokens = 5\ntemperature = 0.5\n')
    mine, own = read_questions(path), read_questions()
    assert (mine.frame.ask, mine.frame.max_tokens, mine.frame.temperature) == ("What is it?", 5, 0.5)
    assert mine.frame.messages()[0].role == "user"
    assert mine.summary == own.summary and mine.digest("summary") == own.digest("summary")
    assert mine.digest("frame") != own.digest("frame")
    path.write_text(DEFAULT.read_text())
    assert read_questions(path) == own


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "format"),
        ('format = "cogvx.caption/2"', "format"),
        (FORMAT + "[frame", "not TOML"),
        (FORMAT + "[frames]\n", "unknown key 'frames'; did you mean frame"),
        (FORMAT + '[frame]\nask = "x"\nmax_tokens = 5\nsystm = "y"\n', "unknown key 'systm'; did you mean system"),
        (FORMAT + '[frame]\nask = "x"\n', "max_tokens is missing"),
        (FORMAT + "[frame]\nask = 3\nmax_tokens = 5\n", "frame.ask must be str, got int"),
        (FORMAT + '[frame]\nask = "x"\nmax_tokens = 0\n', "max_tokens must be"),
        (FORMAT + '[summary]\nask = "x"\nmax_tokens = 5\n', "{frames} is missing"),
        (FORMAT + '[frame]\nask = "x"\nmax_tokens = 5\n[[frame.examples]]\nask = "y"\n', "example 1"),
        (FORMAT + "frame = 3\n", "must be a table"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, words):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_questions(path)
    assert words in str(error.value) and "mine.toml" in str(error.value)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        read_questions(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not UTF-8"):
        read_questions(tmp_path / "bytes.toml")
