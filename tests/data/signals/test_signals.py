"""All signals, on all the clips that are hardly any."""

import importlib.util
import math
import pickle

import numpy as np
import pytest
from moving_pictures import pan

from cogvx.data.signals.registry import NAMES, names_of, signals_of
from cogvx.data.signals.sample import sample_of
from cogvx.data.signals.signal import finite, need, spread
from cogvx.data.signals.text import Text
from cogvx.errors import MissingError, UsageError

SIGNALS = [
    *(signal for signal in signals_of(NAMES) if not isinstance(signal, Text)),
    *signals_of(["flow"], flow_engine="mv"),
    *signals_of(["watermark"]),
]
CLIPS = {
    "one frame": pan(1, 48, 64, 0),
    "one pixel": np.full((3, 1, 1, 3), 9, np.uint8),
    "two by two": pan(4, 2, 2, 1),
    "black": np.zeros((5, 48, 64, 3), np.uint8),
    "white": np.full((5, 48, 64, 3), 255, np.uint8),
    "odd": pan(5, 33, 47, 1),
    "a line": pan(3, 1, 300, 1),
    "a strip": pan(3, 200, 6, 1),
    "noise": np.random.default_rng(0).integers(0, 256, (5, 40, 56, 3), dtype=np.uint8),
    "flicker": np.repeat(np.arange(6) % 2 * 255, 48 * 64 * 3).reshape(6, 48, 64, 3).astype(np.uint8),
}


@pytest.fixture(autouse=True)
def needs():
    pytest.importorskip("cv2")


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: f"{signal.name}-{signal.columns[0]}")
def test_every_number_is_finite(signal, clip, monkeypatch):
    if signal.name == "quality":
        if importlib.util.find_spec("brisque") is None:
            pytest.skip("needs the package brisque")
    monkeypatch.setattr(Text, "read", lambda self, frames: [[] for _ in frames])
    found = signal.measure(sample_of(CLIPS[clip], 8.0))
    assert all(math.isfinite(value) for value in found.scores.values())
    assert set(found.scores) <= set(signal.columns)
    assert set(found.fields) <= set(signal.fields)


@pytest.mark.slow
@pytest.mark.parametrize("clip", ["one pixel", "black", "odd", "a line"])
def test_reading_too(clip):
    pytest.importorskip("rapidocr")
    found = Text(stills=1).measure(sample_of(CLIPS[clip], 8.0))
    assert all(math.isfinite(value) for value in found.scores.values())


def test_signals_can_be_sent_to_workers():
    for signal in SIGNALS:
        assert pickle.loads(pickle.dumps(signal)) == signal
    columns = [column for signal in signals_of(NAMES) for column in signal.columns]
    assert len(set(columns)) == len(columns)


def test_names():
    assert names_of("text, FLOW") == ("flow", "text")
    assert names_of("all") == NAMES
    for wrong in ("", ",", "flow,colour"):
        with pytest.raises(UsageError, match="there are flow, continuity"):
            names_of(wrong)


def test_what_signals_share():
    by_name = {signal.name: signal for signal in signals_of(["text", "watermark"])}
    assert by_name["watermark"].text == by_name["text"]
    assert signals_of(["watermark"])[0].text is None
    assert [signal.name for signal in signals_of(["duplicates"])] == ["phash"]
    assert signals_of(["flow"], flow_engine="mv")[0].columns == ("flow_mv", "flow_mv_patch")


def test_small_things():
    assert finite({"a": 1 / 3, "b": math.nan, "c": math.inf, "d": np.float32(2)}) == {"a": 0.333333, "d": 2.0}
    assert spread(3, 5) == [0, 1, 2]
    assert spread(100, 4) == [12, 37, 62, 87]
    assert need("json", extra="x", what="y").__name__ == "json"
    with pytest.raises(MissingError, match=r'y needs the package nowhere: pip install "cogvx\[x\]"'):
        need("nowhere.at.all", extra="x", what="y")
