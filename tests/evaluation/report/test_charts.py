"""The data of charts: the right points on the right axes, what is left out, and both drawings of them."""

import math
import re

import pytest

from cogvx.errors import MissingError
from cogvx.evaluation.report import build_report, make_run
from cogvx.evaluation.report.charts import Axis, legend
from cogvx.evaluation.report.families import Column
from cogvx.evaluation.report.png import write_png
from cogvx.evaluation.report.scales import scale_of, tick_text
from cogvx.evaluation.report.svg import segments, svg

SCORES = {"human_action": 0.9, "scene": 0.5, "dynamic_degree": 0.7, "multiple_objects": 0.6}


def chart(report, name):
    return next(chart for _, chart in report.charts if chart.name == name)


def run(name="run", **curves):
    return make_run(name, curves, smooth=lambda values: [sum(values) / len(values)] * len(values))


def test_the_papers_figure_has_the_papers_numbers_and_the_comparable_ones(vbench):
    scores = SCORES | {"appearance_style@other": 0.2}
    radar = chart(build_report([vbench("ours", scores), vbench("half", {"scene": 0.4}, coverage=0.5)]), "radar-paper")
    titles = [axis.column.title for axis in radar.axes]
    assert titles[:3] == ["Human Action", "Scene", "Dynamic Degree"] and len(titles) == 7
    found = {polygon.name: polygon.values for polygon in radar.polygons}
    assert found["ours"] == [90.0, 50.0, 70.0, 60.0, None, None, None]
    assert found["CogVideoX-2B (paper)"] == [96.6, 55.35, 66.39, 57.68, 24.37, 57.7, 3.09]
    assert found["T2V-Turbo (paper)"][5:] == [None, None]
    assert "half" not in found and len(found) == 11
    assert "half: nothing comparable on any axis" in radar.notes
    assert "ours: no comparable Appearance Style, no comparable Dynamic Quality, no comparable GPT4o-MTScore" in (
        radar.notes
    )
    # The best number that is shown stands at the rim, the lowest at the inner ring.
    degree = radar.axes[2]
    assert (degree.low, degree.high) == (18.89, 70.0)
    assert degree.place(70.0) == 1.0 and degree.place(18.89) == pytest.approx(0.25)
    assert [entry.name for entry in legend(radar)] == [
        "ours", "CogVideoX-5B (paper)", "CogVideoX-2B (paper)", "the paper's other systems",
    ]  # fmt: skip


def test_no_line_leads_over_an_axis_without_a_number(vbench):
    radar = chart(build_report([vbench("ours", SCORES)]), "radar-paper")
    own = next(polygon for polygon in radar.polygons if polygon.name == "ours")
    assert segments(own) == [(0, 1), (1, 2), (2, 3)]
    whole = next(polygon for polygon in radar.polygons if polygon.name.startswith("CogVideoX-5B"))
    assert len(segments(whole)) == 7


def test_own_systems_are_shown_on_absolute_scales(vbench, source):
    other = source("ours", metric="mtscore@judge", value=3.0, protocol={"frames": 8})
    report = build_report([vbench("ours", SCORES), vbench("theirs", {"scene": 0.25}), other])
    radar = chart(report, "radar-generation")
    assert [(axis.column.key, axis.low, axis.high) for axis in radar.axes][-1] == ("mtscore@judge", 1.0, 5.0)
    places = [axis.place(value) for axis, value in zip(radar.axes, radar.polygons[0].values, strict=True)]
    assert places == pytest.approx([0.9, 0.5, 0.7, 0.6, 0.5])
    assert radar.polygons[1].values == [None, 25.0, None, None, None]
    assert any(note.startswith("theirs: no Human Action") for note in radar.notes)


def test_axes_whose_protocols_differ_are_left_out_visibly(vbench, source):
    def score(system, frames):
        about = {name: {"metric": name, "coverage": 1.0} for name in SCORES}
        protocol = {"dimensions": {name: {"frames": frames if name == "scene" else 1} for name in SCORES}}
        return source(system, metric="vbench", value=SCORES, protocol=protocol, more={"dimensions": about})

    radar = chart(build_report([score("a", 8), score("b", 16)], rank=False), "radar-generation")
    assert [axis.column.key for axis in radar.axes] == ["human_action", "dynamic_degree", "multiple_objects"]
    assert radar.notes == ["left out, protocols differ: Scene"]


def test_two_axes_make_no_radar(vbench):
    names = [chart.name for _, chart in build_report([vbench("a", {"scene": 0.4, "color": 0.2})]).charts]
    assert names == ["radar-paper"]


def test_an_axis_never_leaves_the_chart():
    axis = Axis(Column("x", "X"), 0.0, 1.0)
    assert [axis.place(value) for value in (-3.0, 0.25, 9.0)] == [0.0, 0.25, 1.0]
    assert Axis(Column("x", "X"), 2.0, 2.0).place(2.0) == 1.0


def test_a_run_has_its_curves_and_stands_beside_table_9():
    times = {f"val_loss_{t}": ([0, 10], [1.0 + t / 1000, t / 1000]) for t in (100, 300, 500, 700, 900)}
    loss = ([1, 2, 3], [3.0, math.nan, 1.0])
    report = build_report([], [run(loss=loss, val_loss=([0, 10], [2.0, 0.5]), lr=([1], [0.1]), **times)])
    training = chart(report, "loss")
    assert [(line.name, line.points) for line in training.lines] == [
        ("", ([1, 3], [3.0, 1.0])),
        ("run", ([1, 3], [2.0, 2.0])),
    ]
    assert training.notes == ["run: 1 numbers are not finite, and not drawn"]
    held_out = chart(report, "held-out")
    assert [line.name for line in held_out.lines] == ["t = 100", "t = 300", "t = 500", "t = 700", "t = 900", "mean"]
    assert held_out.lines[0].points == ([0, 10], [1.1, 0.1]) and held_out.lines[5].points == ([0, 10], [2.0, 0.5])
    last = chart(report, "held-out-times")
    assert last.lines[0].points == ([100, 300, 500, 700, 900], [0.1, 0.3, 0.5, 0.7, 0.9])
    assert last.lines[2].name == "with explicit uniform sampling (paper)"
    assert last.lines[2].points == ([100, 300, 500, 700, 900], [0.216, 0.126, 0.116, 0.129, 0.157])
    (table,) = report.tables
    assert [row.cells["500"].text for row in table.rows] == ["0.500"] and table.papers[0].label == "Table 9"
    assert table.rows[0].cells["500"].number.detail == "step 10" and table.rows[0].cells["500"].mark == "≠"


def test_runs_are_beside_each_other_and_never_ranked():
    runs = [run(name, loss=([1], [1.0]), val_loss_100=([step], [0.1])) for name, step in (("a", 5), ("b", 9))]
    report = build_report([], runs)
    assert [line.name for line in chart(report, "loss").lines] == ["", "a", "", "b"]
    assert [row.cells["100"].rank for row in report.tables[0].rows] == [None, None]
    assert {"held-out-1", "held-out-2"} <= {one.name for _, one in report.charts}


def test_a_vaes_run_has_what_it_holds_out():
    report = build_report([], [run(loss=([1], [1.0]), val_psnr=([5, 9], [20.0, 21.0]))])
    assert [chart.name for _, chart in report.charts] == ["loss", "held-out"] and report.tables == []
    assert chart(report, "held-out").lines[0].points == ([5, 9], [20.0, 21.0])


def test_long_runs_are_thinned_to_the_end():
    steps = list(range(100_001))
    points = chart(build_report([], [run(loss=(steps, [1.0] * len(steps)))]), "loss").lines[0].points
    assert len(points[0]) <= 1502 and points[0][0] == 0 and points[0][-1] == 100_000


def test_the_drawing_has_the_points(vbench):
    report = build_report([vbench("ours", {"human_action": 0.968, "scene": 0.4, "color": 0.1})])
    text = svg(chart(report, "radar-paper"))
    titles = re.findall(r"<title>(.*?)</title>", text)
    assert "ours: Human Action 96.80" in titles and "ours: Scene 40.00" in titles
    # The best Human Action stands at the top of its axis, 145 above the centre.
    assert '<circle cx="340.0" cy="90.0" r="4"><title>ours: Human Action 96.80</title>' in text
    line = svg(chart(build_report([], [run(loss=([0, 100], [1.0, 2.0]))]), "loss"))
    assert re.search(r"<title>run: 100, 1\.5</title>", line)


def test_scales_show_everything():
    scale = scale_of([0.0, 10.0])
    assert scale.place(0.0) > 0 and scale.place(10.0) < 1 and scale.ticks() == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    logarithmic = scale_of([0.01, 1.0], log=True)
    assert logarithmic.place(0.1) == pytest.approx(0.5) and 0.1 in logarithmic.ticks()
    assert len(scale_of([3.0]).ticks()) >= 2 and len(scale_of([0.9, 1.0], log=True).ticks()) >= 1
    assert tick_text(20_000) == "20k" and tick_text(0.05) == "0.05"


def test_charts_are_written_as_png(vbench, tmp_path):
    pytest.importorskip("matplotlib")
    from PIL import Image

    report = build_report([vbench("$a_{1}$ _x", SCORES)], [run(loss=([0, 100], [1.0, 2.0]))])
    for _, one in report.charts:
        write_png(one, tmp_path / f"{one.name}.png")
        with Image.open(tmp_path / f"{one.name}.png") as picture:
            assert picture.format == "PNG" and len(set(picture.convert("L").resize((64, 64)).tobytes())) > 3
    assert len(list(tmp_path.iterdir())) == 3


def test_without_matplotlib_the_error_says_what_to_do(vbench, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingError, match=r"cogvx\[plot\].*--no-png"):
        write_png(chart(build_report([vbench("a", SCORES)]), "radar-paper"), tmp_path / "x.png")
