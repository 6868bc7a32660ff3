"""Results keep their protocol, and tell when two of them cannot be compared."""

import json

import pytest

from cogvx.errors import InputError, UsageError
from cogvx.evaluation.result import Result, read_result, same_protocol, write_result


def result(**fields):
    given = {
        "metric": "fvd",
        "value": 12.5,
        "n": 2,
        "per_video": [{"input": "a.mp4"}, {"input": "b.mp4"}],
        "protocol": {"frames": 16, "crop": {"side": 224}, "set": {"clips": 2}},
        "backend": {"name": "i3d", "sha256": "ab"},
    }
    return Result(**(given | fields))


def test_a_result_is_read_as_it_was_written(tmp_path):
    written = result(failed=[{"input": "c.mp4", "error": "cut"}], more={"kvd": 0.25})
    write_result(tmp_path / "r.json", written)
    assert read_result(tmp_path / "r.json") == written
    table = json.loads((tmp_path / "r.json").read_text())
    assert table["failed"] == 1 and table["coverage"] == pytest.approx(2 / 3) and table["kvd"] == 0.25
    with pytest.raises(UsageError):
        write_result(tmp_path / "r.json", written)


def test_results_that_name_their_backend_and_count_failures_are_read(tmp_path):
    table = {"metric": "storyboard", "value": 1.0, "n": 2, "failed": 1, "per_video": [], "protocol": {}}
    (tmp_path / "r.json").write_text(json.dumps(table | {"backend": "no network", "version": "0"}))
    found = read_result(tmp_path / "r.json")
    assert found.backend == {"name": "no network"} and len(found.failed) == 1


@pytest.mark.parametrize(
    "change,names",
    [
        ({}, []),
        ({"value": 3.0, "n": 9, "version": "other"}, []),
        ({"protocol": {"frames": 16, "crop": {"side": 224}, "set": {"clips": 9}}}, []),
        ({"protocol": {"frames": 8, "crop": {"side": 256}}}, ["crop.side", "frames"]),
        ({"protocol": {"frames": 16}}, ["crop.side"]),
        ({"metric": "fvd-lite", "backend": {"name": "i3d", "sha256": "cd"}}, ["backend.sha256", "metric"]),
    ],
)
def test_settings_that_differ_are_named(change, names):
    assert same_protocol(result(), result(**change)) == same_protocol(result(**change), result()) == names


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"metric": 1}', "NaN", '{"metric": "a", "value": NaN}', "[" * 99999])
def test_what_is_no_result_is_named(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError, match=r"r\.json"):
        read_result(tmp_path / "r.json")


def test_nan_is_not_written(tmp_path):
    with pytest.raises(InputError, match="fvd"):
        write_result(tmp_path / "r.json", result(value=float("nan")))
    assert not (tmp_path / "r.json").exists()
