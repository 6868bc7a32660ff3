"""Sheets of clips and bars of packs, looked at pixel by pixel."""

import numpy as np
import pytest
from films import scene

from cogvx.data.buckets import Shape
from cogvx.data.contact_sheet import PackPlan, Tile, draw_packs, draw_tiles, evenly, stack
from cogvx.data.video import resize_exact


def cut(sheet, box):
    return np.asarray(sheet.crop(box))


def test_each_frame_stands_in_its_place():
    tiles = [Tile(scene(i, 3, *size), f"clip {i}") for i, size in enumerate([(48, 64), (96, 64), (48, 96)])]
    sheet, boxes = draw_tiles(tiles, max_height=96)
    assert sheet.mode == "RGB" and [len(each) for each in boxes] == [3, 3, 3]
    for tile, each in zip(tiles, boxes, strict=True):
        for frame, box in zip(tile.frames, each, strict=True):
            assert np.array_equal(cut(sheet, box), frame)
    flat = [box for each in boxes for box in each]
    for i, one in enumerate(flat):
        assert 0 <= one[0] < one[2] <= sheet.width and 0 <= one[1] < one[3] <= sheet.height
        assert all(one[2] <= x[0] or x[2] <= one[0] or one[3] <= x[1] or x[3] <= one[1] for x in flat[:i])


def test_high_frames_become_smaller():
    frames = scene(0, 2, 96, 128)
    sheet, boxes = draw_tiles([Tile(frames, "")], max_height=48)
    assert np.array_equal(cut(sheet, boxes[0][0]), resize_exact(frames[:1], 48, 64)[0])


def test_words_fit_whatever_they_are():
    words = "word " * 300 + "x" * 3000 + "\x1b[31m\n" + "语" * 50
    sheet, boxes = draw_tiles([Tile(scene(0, 1), "title", words, ("rejected for a reason",))] * 2, max_height=48)
    assert sheet.height < 48 + 12 * 15 + 40
    beneath = cut(sheet, (0, boxes[0][0][3] + 1, sheet.width // 2, sheet.height))
    assert (beneath.astype(int)[..., 0] - beneath[..., 1] > 100).any()  # something red
    assert (beneath[:, -8:] == 255).all()  # nothing runs into the margin


def test_bars_are_as_long_as_the_tokens():
    one, two = Shape(9, 48, 64), Shape(17, 48, 64)
    plan = PackPlan("packs", 100, [[(one, 50), (two, 25)], [(two, 100)], []])
    sheet = np.asarray(draw_packs(plan))
    blue, orange, grey = (0, 114, 178), (230, 159, 0), (225, 225, 225)
    rows = {y: sheet[y] for y in range(sheet.shape[0]) if (sheet[y] == grey).all(-1).sum() > 1000}
    assert rows, "the empty pack is grey"
    full = next(row for row in sheet if (row == orange).all(-1).sum() > 1000)
    width = (full == orange).all(-1).sum() + 1
    mixed = next(row for row in sheet if (row == blue).all(-1).sum() > 500)
    assert (mixed == blue).all(-1).sum() / width == pytest.approx(0.50, abs=0.01)
    assert (mixed == orange).all(-1).sum() / width == pytest.approx(0.25, abs=0.01)
    assert (mixed == grey).all(-1).sum() / width == pytest.approx(0.25, abs=0.01)


def test_stacked_and_spread():
    upper, lower = draw_tiles([Tile(scene(0, 1), "")], max_height=48)[0], draw_packs(PackPlan("", 1, []))
    both = stack([upper, lower])
    assert both.size == (max(upper.width, lower.width), upper.height + lower.height)
    assert np.array_equal(np.asarray(both)[: upper.height, : upper.width], np.asarray(upper))
    assert evenly(10, 3) == [0, 4, 9] and evenly(2, 5) == [0, 1] and evenly(5, 1) == [0] and evenly(0, 3) == []
