import json

import numpy as np
import pytest

from cogvx.data.manifest import write_manifest
from cogvx.data.video import write_clip
from cogvx.evaluation.dynamics.aggregate import QUALITIES


def scored(index, value, grade, **scores):
    return {"video": f"{index}.mp4", "grade": grade, "scores": {"dynamics": value, **scores}}


def test_closed_forms_from_scores(cogvx, tmp_path):
    rows = [
        scored(index, (index + 0.5) / 12, ("low", "high")[index >= 6], **dict.fromkeys(QUALITIES, 0.8))
        for index in range(12)
    ]
    write_manifest(tmp_path / "m.jsonl", rows)
    result = cogvx("eval", "dynamics", "m.jsonl", "--from-scores", "-o", "result.json")
    assert result.exit_code == 0, result.stderr
    found = json.load(open("result.json"))
    assert found["metric"] == "dynamics@cogvx" and found["n"] == 12
    assert found["value"]["controllability"] == 1 and found["value"]["mean"] == pytest.approx(0.5)
    assert found["value"]["dynamics_quality@cogvx"] == pytest.approx(0.8)
    assert found["qualities"]["naturalness"]["counts"] == [1] * 12


def test_clips_and_a_quality_from_a_result(cogvx, tmp_path):
    texture = np.random.default_rng(0).integers(0, 256, (12, 30, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    for name, step in (("still", 0), ("far", 5)):
        clip = np.stack([texture[:64, step * t : step * t + 96] for t in range(9)])
        write_clip(tmp_path / f"{name}.mkv", clip, 8.0)
    rows = [{"video": "still.mkv", "grade": "static"}, {"video": "far.mkv", "grade": "high"}, {"video": "none.mkv"}]
    write_manifest(tmp_path / "m.jsonl", rows)
    videos = [{"input": f"clips/{name}.mkv", "value": {"subject_consistency@dino": 0.9}} for name in ("still", "far")]
    table = {
        "metric": "vbench",
        "value": {},
        "n": 2,
        "per_video": videos,
        "protocol": {},
        "backend": {},
        "version": "1",
    }
    (tmp_path / "vbench.json").write_text(json.dumps(table))
    result = cogvx("eval", "dynamics", "m.jsonl", "--quality", "subject_consistency=vbench.json", "--json")
    assert result.exit_code == 3 and "none.mkv" in result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["value"]["controllability"] == 1 and found["coverage"] == pytest.approx(2 / 3)
    assert found["qualities"]["subject_consistency"]["value"] == pytest.approx(2 * 0.9 / 12)
    assert "dynamics_quality@cogvx" not in found["value"] and "no naturalness" in result.stderr
    assert found["protocol"]["dynamics"]["fitted"] is False
    assert cogvx("eval", "dynamics", "m.jsonl", "--quality", "beauty=vbench.json").exit_code == 2
    (tmp_path / "vbench.json").write_text(json.dumps(table | {"per_video": videos[:1]}))
    less = cogvx("eval", "dynamics", "m.jsonl", "--quality", "subject_consistency=vbench.json")
    assert less.exit_code == 3 and "1 of 2 clips are not in it" in less.stderr
