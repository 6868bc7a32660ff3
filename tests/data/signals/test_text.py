import sys
import types

import numpy as np
import pytest
from moving_pictures import blurred, pan
from PIL import Image, ImageDraw, ImageFont

from cogvx.data.signals import text as module
from cogvx.data.signals.sample import sample_of
from cogvx.data.signals.text import Line, Text, in_corner, intersection_over_union, stable_tracks
from cogvx.errors import MissingError


def line(left, top, right, bottom, text="word"):
    return Line(np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=float), text)


def write(frames, words, place, size):
    """Write words into frames, and return the frames with the share of them that the words' box covers."""
    font = ImageFont.load_default(size)
    written = []
    for frame in frames:
        image = Image.fromarray(frame)
        draw = ImageDraw.Draw(image)
        draw.text(place, words, fill=(255, 255, 255), font=font, stroke_width=1, stroke_fill=(0, 0, 0))
        left, top, right, bottom = draw.textbbox(place, words, font=font)
        written.append(np.asarray(image))
    return np.stack(written), (right - left) * (bottom - top) / (frames.shape[1] * frames.shape[2])


@pytest.mark.slow
def test_words_of_a_known_area():
    pytest.importorskip("rapidocr")
    frames = blurred(pan(9, 288, 480, 4, coarse=24) // 2, 2)
    written, share = write(frames, "Breaking News", (120, 120), 36)
    signal = Text(stills=2)
    measured = signal.measure(sample_of(written, 8.0))
    assert 0.8 * share < measured.scores["text_area"] < 2 * share  # what is found has a margin around the letters
    assert measured.scores["text_tracks"] == 1
    assert measured.scores["text_corner"] == 0
    assert measured.fields["ocr"][0].replace(" ", "").lower() == "breakingnews"
    bare = signal.measure(sample_of(frames, 8.0))
    assert bare.scores == {"text_area": 0, "text_tracks": 0, "text_corner": 0}
    assert bare.fields == {"ocr": []}


def test_columns_of_lines():
    pages = [[line(0, 0, 200, 100), line(100, 0, 300, 100)], [line(400, 200, 600, 400)]]
    found = Text().columns_of(pages, 500, 1000)
    assert found["text_area"] == pytest.approx(
        (300 * 100 + 200 * 200) / 2 / 500_000, rel=0.03
    )  # an overlap counts once
    assert found["text_tracks"] == found["text_corner"] == 0


def test_a_stable_track_outlasts_a_gap():
    still, moved = line(10, 10, 110, 40), line(60, 10, 160, 40)
    assert len(stable_tracks([[still], [], [still], [still]])) == 1
    assert stable_tracks([[still], [], [], [still]]) == []  # two stills without it end a track
    assert stable_tracks([[still], [moved], [line(110, 10, 210, 40)], [line(160, 10, 260, 40)]]) == []
    assert stable_tracks([[still]]) == []
    two = stable_tracks([[still, line(10, 60, 110, 90)], [line(11, 10, 111, 40), line(10, 60, 110, 90)]])
    assert [len(track.lines) for track in two] == [2, 2]


def test_stable_text_in_a_corner():
    corner, middle = line(5, 5, 45, 15), line(40, 40, 60, 50)
    found = Text().columns_of([[corner, middle], [corner, middle], [middle], [corner]], 100, 100)
    assert found["text_tracks"] == 2
    assert found["text_corner"] == 0.75


@pytest.mark.parametrize(
    ("box", "inside"),
    [
        ((0, 0, 40, 15), True),
        ((60, 85, 99, 99), True),
        ((0, 85, 50, 100), True),
        ((0, 0, 60, 15), False),
        ((20, 80, 80, 90), False),  # a subtitle
        ((0, 10, 40, 25), False),
    ],
)
def test_corners(box, inside):
    assert in_corner(box, 100, 100) == inside


def test_intersection_over_union():
    assert intersection_over_union((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert intersection_over_union((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert intersection_over_union((0, 0, 10, 10), (10, 0, 20, 10)) == 0


class Reader:
    """Stands in for RapidOCR: finds the same lines in every picture."""

    def __init__(self, *found):
        self.boxes = [[[0, 0], [9, 0], [9, 5], [0, 5]] for _ in found]
        self.txts, self.scores = zip(*found, strict=True)

    def __call__(self, picture):
        return self


def test_what_is_kept_of_a_reading(monkeypatch):
    found = [("Grok", 0.9), ("unsure", 0.4), ("2", 0.7), ("7", 0.95), ("…", 0.99), ("a\x1b[31m\tb" + "c" * 500, 0.9)]
    monkeypatch.setattr(module, "_engine", lambda: Reader(*found))
    texts = Text().measure(sample_of(np.zeros((3, 32, 32, 3), np.uint8), 8.0)).fields["ocr"]
    assert texts[:2] == ["Grok", "7"]
    assert texts[2].startswith("a[31m b") and len(texts[2]) == 200
    assert len(texts) == 3


def test_nothing_is_read_twice(monkeypatch):
    calls = []
    monkeypatch.setattr(Text, "read", lambda self, frames: calls.append(1) or [[]])
    sample = sample_of(np.zeros((3, 32, 32, 3), np.uint8), 8.0)
    assert Text().pages(sample) is Text().pages(sample)
    assert len(calls) == 1


def test_without_its_networks(monkeypatch):
    def missing(params):
        raise FileNotFoundError("det.onnx is not there\nlong story")

    module._engine.cache_clear()
    monkeypatch.setitem(sys.modules, "onnxruntime", types.ModuleType("onnxruntime"))
    monkeypatch.setitem(sys.modules, "rapidocr", types.SimpleNamespace(RapidOCR=missing))
    with pytest.raises(MissingError, match=r"cannot be loaded: det\.onnx is not there$"):
        Text().open()


def test_without_the_package(monkeypatch):
    module._engine.cache_clear()
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(MissingError, match=r'rapidocr.*pip install "cogvx\[ocr\]"'):
        Text().open()
