"""Presets: TOML that a user may edit."""

import numpy as np
import pytest

from cogvx.errors import CogvxError, InputError, UsageError
from cogvx.language.upsampling.preset import preset_text, read_preset


@pytest.mark.parametrize("name", ["t2v", "i2v"])
def test_a_copy_that_is_edited(tmp_path, name):
    own = read_preset(name)
    assert (own.parameters.temperature, own.parameters.top_p, own.parameters.max_tokens, own.parameters.tries) == (
        *(0.01, 0.7, 250, 3),
    )
    path = tmp_path / "mine.toml"
    path.write_text(preset_text(name).replace("tries = 3", "tries = 1"))
    mine = read_preset(str(path))
    assert mine.name == "mine.toml" and mine.parameters.tries == 1 and mine.system == own.system
    assert mine.sha256 != own.sha256 and mine.settings()["preset_sha256"] == mine.sha256[:16]


def test_the_conversation():
    preset = read_preset("i2v")
    picture = np.zeros((4, 4, 3), np.uint8)
    turns = preset.conversation("a {prompt} {problem} with braces", picture)
    assert [turn.role for turn in turns] == ["system", *["user", "assistant"] * len(preset.examples), "user"]
    assert turns[-1].text.endswith("a {prompt} {problem} with braces") and turns[-1].images == (picture,)
    assert not any(turn.images for turn in turns[:-1])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sistem = 'x'", "did you mean system?"),
        ("system = 3", "system must be str"),
        ("system = 'x'\nask = 'no place'", "{prompt}"),
        ("system = 'x'\nask = '{prompt}'\nrepair = 'x'", "{problem}"),
        ("[parameters]\ntries = 0", "makes no sense"),
        ("[parameters]\ntop_q = 1", "did you mean top_p?"),
        ("[parameters]\ntries = true", "must be int"),
        ("[parameters]\ntemperature = nan", "makes no sense"),
        ("[[examples]]\nprompt = 'x'", "expected prompt and answer"),
        ("format = 'cogvx.upsample/9'", "format"),
        ("not toml", "not TOML"),
    ],
)
def test_files_that_are_no_presets(tmp_path, text, words):
    whole = "system = 'x'\nask = '{prompt}'\nrepair = '{problem}'\n"
    path = tmp_path / "x.toml"
    path.write_text(whole + text if text.startswith("[") else text)
    with pytest.raises(InputError, match=r"x\.toml") as caught:
        read_preset(str(path))
    assert words in str(caught.value)


def test_names_of_no_presets(tmp_path):
    with pytest.raises(UsageError, match="t2v, i2v, small"):
        read_preset("v2v")
    with pytest.raises(InputError, match="cannot read"):
        read_preset(str(tmp_path / "none.toml"))
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(CogvxError, match="UTF-8"):
        read_preset(str(tmp_path / "b.toml"))
