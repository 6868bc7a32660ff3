"""`cogvx models` and `cogvx doctor`."""

import json

from cogvx.presets import PRESETS


def test_list_names_every_preset(cogvx):
    result = cogvx("models", "list", "--json")
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["name"] for record in records] == list(PRESETS)
    official = {record["name"]: record for record in records}["1.5-5b"]
    assert (official["width"], official["height"], official["num_frames"], official["fps"]) == (1360, 768, 81, 16)
    assert official["memory_bytes"]["none"] > official["memory_bytes"]["model"] > official["memory_bytes"]["layer"]
    table = cogvx("models", "list").stdout.splitlines()
    assert len(table) == 1 + len(PRESETS) and "1360x768" in table[-1]


def test_show_a_preset_that_is_not_here(cogvx):
    record = json.loads(cogvx("models", "show", "THUDM/CogVideoX-2b", "--json").stdout)
    assert record["name"] == "2b" and record["licence"] == "Apache-2.0" and record["path"] is None
    assert record["parameters"]["transformer"] == 1_693_783_872
    assert "licence: Apache-2.0" in cogvx("models", "show", "2b").stdout


def test_show_a_folder(cogvx, model_folder):
    folder = model_folder("1.5-i2v")
    record = json.loads(cogvx("models", "show", folder, "--json").stdout)
    assert record["path"] == str(folder) and record["task"] == "i2v" and record["layout"] == "diffusers"
    assert (record["height"], record["width"], record["num_frames"], record["fps"]) == (32, 48, 17, 16)
    assert record["memory_bytes"]["none"] > 0


def test_pull_offline_names_the_command(cogvx):
    result = cogvx("models", "pull", "5b")
    assert result.exit_code == 4 and "cogvx models pull 5b" in result.stderr and result.stdout == ""


def test_pull_what_is_here_prints_its_folder(cogvx, model_folder):
    folder = model_folder("5b")
    assert cogvx("models", "pull", folder).stdout.strip() == str(folder)


def test_doctor(cogvx):
    result = cogvx("doctor", "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    checks = {check["name"]: check for check in report["checks"]}
    assert report["ok"] and checks["torch"]["ok"] and checks["libx264"]["ok"] and checks["ffv1"]["ok"]
    assert checks["flash_attn"]["ok"] or checks["flash_attn"]["fix"].startswith("pip install")
    assert "threads" in cogvx("doctor").stdout
