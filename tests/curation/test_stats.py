"""Numbers of a manifest against NumPy's, and histograms."""

import math

import numpy as np
import pytest

from cogvx.curation.histograms import histogram, write_histograms
from cogvx.curation.stats import OTHER, QUANTILES, Column, ManifestStats
from cogvx.errors import UsageError


def entries():
    generator = np.random.default_rng(0)
    for i in range(200):
        entry = {"video": f"{i % 190}.mp4", "duration": float(generator.uniform(1, 9)), "scores": {}}
        entry["caption"] = "word " * int(generator.integers(1, 9))
        if i % 4:
            entry["scores"]["flow"] = float(generator.lognormal())
        if i % 5 == 0:
            entry |= {"rejected": ["select: dark", "select: dark", f"reason {i % 2}"], "width": 64, "height": 48}
        if i % 50 == 0:
            entry |= {"errors": [{"stage": "score", "error": "bad", "exit_code": 3}], "labels": {"text": 0.25}}
        entry["sha256"] = f"{i % 180:064x}"
        yield entry


@pytest.fixture
def stats():
    found = ManifestStats()
    for entry in entries():
        found.add(entry)
    return found


def test_columns_are_those_of_numpy(stats):
    columns = {column.name: column.summary() for column in stats.columns()}
    wanted = {
        "duration": [entry["duration"] for entry in entries()],
        "scores.flow": [entry["scores"]["flow"] for entry in entries() if entry["scores"]],
        "caption words": [len(entry["caption"].split()) for entry in entries()],
        "caption letters": [len(entry["caption"]) for entry in entries()],
        "labels.text": [0.25] * 4,
        "height": [48] * 40,
        "width": [64] * 40,
    }
    assert list(columns) == [
        "duration",
        "height",
        "width",
        "caption words",
        "caption letters",
        "labels.text",
        "scores.flow",
    ]
    for name, values in wanted.items():
        found = columns[name]
        assert (found["n"], found["missing"]) == (len(values), 200 - len(values))
        assert found["mean"] == pytest.approx(np.mean(values)) and found["std"] == pytest.approx(np.std(values))
        assert (found["min"], found["max"]) == (min(values), max(values))
        assert [found[f"q{q:g}"] for q in QUANTILES] == pytest.approx(np.quantile(values, QUANTILES).tolist())


def test_counts(stats):
    counts = stats.counts()
    assert (counts["entries"], counts["videos"], counts["images"], counts["parts"]) == (200, 200, 0, 0)
    assert (counts["rejected"], counts["with_errors"], counts["captioned"]) == (40, 4, 200)
    assert (counts["same_entry"], counts["same_content"]) == (10, 20)
    assert counts["hours"] == pytest.approx(sum(entry["duration"] for entry in entries()) / 3600)
    tables = stats.tables()
    assert tables["rejected"] == {"select: dark": 40, "reason 0": 20, "reason 1": 20}
    assert tables["size"] == {"64x48": 40} and tables["errors"] == {"score": 4}
    assert stats.to_dict()["columns"]["duration"]["n"] == 200


@pytest.mark.parametrize(
    ("entry", "seconds"),
    [
        ({"start": 2.0, "end": 5.0, "duration": 9.0}, 3.0),
        ({"end": 5.0}, 5.0),
        ({"start": 2.0, "duration": 9.0}, 7.0),
        ({"num_frames": 49, "fps": 8}, 6.125),
        ({}, math.nan),
    ],
)
def test_how_long_an_entry_is(entry, seconds):
    stats = ManifestStats()
    stats.add({"video": "a.mp4"} | entry)
    found = [column.values[0] for column in stats.columns() if column.name == "duration"]
    assert found == ([] if math.isnan(seconds) else [seconds])


def test_strangers_names_do_not_fill_the_memory():
    stats = ManifestStats()
    for i in range(3000):
        stats.add({"video": "a.mp4", "scores": {f"s{i}": i}, "rejected": [f"r{i}"], "errors": [i], "fps": 8})
    assert len(stats.columns()) <= 1000 and len(stats.tables()["rejected"]) == 1001
    assert stats.tables()["rejected"][OTHER] == 2000 and stats.tables()["errors"] == {OTHER: 3000}


def test_histograms_count_everything():
    generator = np.random.default_rng(0)
    for values in (
        generator.lognormal(0, 2, 1000),
        np.array([3.0]),
        np.zeros(5),
        generator.integers(0, 9, 100).astype(float),
        np.append(np.zeros(1000), 1e9),
    ):
        counts, edges = histogram(values)
        assert counts.sum() == len(values) and len(edges) == len(counts) + 1 <= 82
        assert edges[0] <= values.min() and edges[-1] >= values.max()
    assert histogram(np.array([1.0, 2, 2, 4]))[0].tolist() == [1, 2, 0, 1]


def test_files_of_histograms(tmp_path):
    pytest.importorskip("matplotlib")
    from PIL import Image

    columns = [Column(name, np.arange(9.0), 1) for name in ("scores.flow", "scores.../../x$\\frac 语")]
    paths = write_histograms(columns, tmp_path / "h")
    assert paths[0].name == "scores.flow.png" and paths[1].name.startswith("scores...-..-x-frac-")
    assert all(path.parent == tmp_path / "h" and Image.open(path).size == (640, 360) for path in paths)
    with pytest.raises(UsageError, match="--overwrite"):
        write_histograms(columns[:1], tmp_path / "h")
    write_histograms(columns[:1], tmp_path / "h", overwrite=True)
