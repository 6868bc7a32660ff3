import sys
import types

import numpy as np
import pytest
from moving_pictures import pan, resized

from cogvx.data.signals import flow as module
from cogvx.data.signals.flow import Flow
from cogvx.data.signals.sample import sample_of
from cogvx.errors import MissingError

pytest.importorskip("cv2")


def scores(frames, fps, **parameters):
    return Flow(**parameters).measure(sample_of(frames, fps)).scores


@pytest.mark.parametrize("step", [0, 1, 3, 8])
def test_a_known_shift(step):
    found = scores(pan(6, 256, 320, step), 8.0)
    assert found["flow"] == pytest.approx(step, rel=0.03, abs=0.05)
    assert found["flow_top5"] == pytest.approx(step, rel=0.1, abs=0.1)
    assert found["flow_top5"] >= found["flow"]


def test_the_rate_of_the_clip_does_not_matter():
    frames = pan(17, 256, 320, 2)  # at 16 fps: 4 pixels in an eighth of a second
    everything, half, third = scores(frames, 16.0), scores(frames[::2], 8.0), scores(frames[::4], 4.0)
    assert everything["flow"] == pytest.approx(4, rel=0.03)
    assert half["flow"] == pytest.approx(4, rel=0.03)
    assert third["flow"] == pytest.approx(4, rel=0.03)


def test_the_size_of_the_clip_does_not_matter():
    frames = pan(5, 256, 320, 4)
    for small in (resized(frames, 128, 160), resized(frames, 384, 480)):
        assert scores(small, 8.0)["flow"] == pytest.approx(4, rel=0.05)


def test_only_so_many_pairs_are_looked_at(monkeypatch):
    pairs = []
    fixed = np.full((64, 64, 2), 3.0, dtype=np.float32)
    monkeypatch.setattr(module, "dis_flow", lambda preset: lambda first, second: pairs.append(1) or fixed)
    found = scores(np.zeros((40, 64, 64, 3), np.uint8), 8.0, max_pairs=10)
    assert len(pairs) == 10
    length = 3 * 2**0.5 * 4  # 64 pixels stand for 256
    assert found == pytest.approx({"flow": length, "flow_top5": length})


def test_one_frame_has_no_flow():
    assert scores(pan(1, 64, 64, 1), 8.0) == {}
    assert Flow()(pan(1, 64, 64, 1), 8.0) == {}


def test_what_it_was_made_with():
    assert Flow().made() == {
        "version": 1,
        "sampling": 1,
        "engine": "dis",
        "preset": "medium",
        "rate": 8.0,
        "max_pairs": 48,
    }
    assert "preset" not in Flow(engine="raft").made()


def test_without_opencv(monkeypatch):
    module.dis_flow.cache_clear()
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingError, match=r'cv2.*pip install "cogvx\[data\]"'):
        Flow().open()


class FakeRaft:
    """Takes what raft_large takes, in -1…1 and multiples of eight, and says that all has moved 5 to the right."""

    def eval(self):
        return self

    def __call__(self, first, second):
        import torch

        assert first.shape == second.shape and first.shape[2] % 8 == first.shape[3] % 8 == 0
        assert first.shape[2] >= 128 and -1 <= first.min() and first.max() <= 1
        flow = torch.zeros(1, 2, *first.shape[2:])
        flow[:, 0] = 5
        return [flow * 0, flow]


def test_raft(monkeypatch):
    models = types.ModuleType("torchvision.models.optical_flow")
    models.Raft_Large_Weights = types.SimpleNamespace(C_T_V1="things")
    models.raft_large = lambda weights, progress: FakeRaft() if weights == "things" else None
    for name in ("torchvision", "torchvision.models"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "torchvision.models.optical_flow", models)
    module._raft.cache_clear()
    found = scores(pan(3, 100, 130, 1), 8.0, engine="raft")
    assert found["flow"] == pytest.approx(5 * 256 / 100)
    module._raft.cache_clear()


def test_without_torchvision(monkeypatch):
    module._raft.cache_clear()
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(MissingError, match=r'torchvision.*pip install "cogvx\[metrics\]"'):
        Flow(engine="raft").open()
