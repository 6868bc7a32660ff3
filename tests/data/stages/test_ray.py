"""Ray gives the rows that this machine's processes give."""

import json
import os
from pathlib import Path

import pytest
from toy_stages import Length

from cogvx.data.stages import RunOptions, run_stage

pytest.importorskip("ray")


@pytest.mark.slow
def test_ray_gives_the_same_rows(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    names = [*(f"a{i}" for i in range(10)), "kill", "bad", "hang", *(f"b{i}" for i in range(10))]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps({"video": f"{name}.mp4"}) + "\n" for name in names))
    failures = {}
    for engine in ("local", "ray"):
        failures[engine] = []
        options = RunOptions(engine=engine, workers=2, item_seconds=1)
        result = run_stage(
            Length(),
            "m.jsonl",
            f"{engine}.jsonl",
            options=options,
            on_failure=lambda item, error, engine=engine: failures[engine].append((item.id, str(error))),
        )
        assert (result.done, result.failed) == (20, 3)
    assert Path("local.jsonl").read_bytes() == Path("ray.jsonl").read_bytes()
    assert failures["local"] == failures["ray"] and sorted(os.listdir()) == ["local.jsonl", "m.jsonl", "ray.jsonl"]
    assert capfd.readouterr().out == ""
