"""`cogvx data select`: streams, exit codes and files."""

import json

import pytest


def manifest(path, *values, folder=""):
    path.parent.mkdir(exist_ok=True, parents=True)
    rows = [{"video": f"{i}.mp4", "scores": {"flow": value}} for i, value in enumerate(values)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rejected(text):
    return [row.get("rejected") for row in map(json.loads, text.splitlines())]


def test_the_result_is_the_path_or_a_record(cogvx, tmp_path):
    manifest(tmp_path / "m.jsonl", 0.1, 0.5, 0.9)
    result = cogvx("data", "select", "m.jsonl", "-o", "o.jsonl", "--where", "flow >= q0.5")
    assert result.exit_code == 0 and result.stdout == "o.jsonl\n"
    assert "2 of 3 entries kept, 1 rejected" in result.stderr
    assert "1 do not fulfil flow >= q0.5 (q0.5 = 0.5)" in result.stderr
    assert rejected((tmp_path / "o.jsonl").read_text()) == [["select: flow 0.1 < q0.5 = 0.5"], None, None]
    again = cogvx("data", "select", "m.jsonl", "-o", "o.jsonl", "--where", "flow > 9", "--json", "--overwrite", "-q")
    record = json.loads(again.stdout)
    assert (record["count"], record["kept"], record["rejected"]) == (3, 0, 3)
    assert record["not_fulfilled"] == {"flow > 9": 3} and record["quantiles"] == {} and again.stderr == ""


def test_an_output_is_kept_unless_told_otherwise(cogvx, tmp_path):
    path = manifest(tmp_path / "m.jsonl", 1)
    before = path.read_bytes()
    result = cogvx("data", "select", "m.jsonl", "-o", "m.jsonl", "--where", "flow > 1")
    assert (
        result.exit_code == 2 and "is what is read; pass --overwrite" in result.stderr and path.read_bytes() == before
    )
    assert cogvx("data", "select", "m.jsonl", "-o", "m.jsonl", "--where", "flow > 1", "--overwrite").exit_code == 0
    assert rejected(path.read_text()) == [["select: flow 1 <= 1"]]


def test_a_dry_run_writes_nothing(cogvx, tmp_path):
    manifest(tmp_path / "m.jsonl", 1, 2)
    result = cogvx("data", "select", "m.jsonl", "-o", "o.jsonl", "--where", "flow > 1", "--dry-run")
    assert result.stdout == "1 of 2 entries would be kept\n" and not (tmp_path / "o.jsonl").exists()


def test_from_stdin_to_stdout(cogvx, tmp_path):
    text = manifest(tmp_path / "m.jsonl", 1, 2, 3).read_bytes() + b"{\n"
    result = cogvx("data", "select", "-", "-o", "-", "--top", "1", "--by", "-flow", "--keep-only", input=text)
    assert result.exit_code == 3 and result.stdout == '{"video": "0.mp4", "scores": {"flow": 1}}\n'
    assert "<stdin>:4: not JSON" in result.stderr


def test_a_folder_of_manifests(cogvx, tmp_path):
    manifest(tmp_path / "in" / "a.jsonl", 1, 2)
    manifest(tmp_path / "in" / "b.jsonl", 3, 4)
    result = cogvx("data", "select", "in", "-o", "out", "--where", "flow > q0.5")
    assert result.stdout == "out\n"
    texts = [(tmp_path / "out" / name).read_text() for name in ("a.jsonl", "b.jsonl")]
    assert [[row is None for row in rejected(text)] for text in texts] == [[False, False], [True, True]]
    assert json.loads(texts[0].splitlines()[0])["video"] == "../in/0.mp4" and "--root ../" in result.stderr
    assert cogvx("data", "select", "in/*.jsonl", "-o", "out", "--where", "flow > 2", "--overwrite").exit_code == 0
    together = cogvx("data", "select", "in", "-o", "-", "--where", "flow > 2", "--keep-only")
    assert [json.loads(line)["video"] for line in together.stdout.splitlines()] == ["in/0.mp4", "in/1.mp4"]
    assert cogvx("data", "select", "none/*.jsonl", "-o", "-", "--where", "flow > 2").exit_code == 3


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            ["--where", "flow >> 2"],
            2,
            "or ( is needed here, not >, at character 7: flow >▸> 2",
        ),
        ([], 2, "say what to select"),
        (["--top", "20%"], 2, "needs --by"),
        (["--where", "flwo > 2"], 2, "no entry has flwo; did you mean flow?"),
        (["--where", "flow > 2 and mine > 1"], 3, "of 2 entries 1 lack mine"),
        (["--where", "flow > 2", "--allow-missing", "maybe"], 2, "keep"),
    ],
)
def test_errors(cogvx, tmp_path, arguments, code, words):
    path = manifest(tmp_path / "m.jsonl", 1)
    path.write_text(path.read_text() + '{"video": "b.mp4", "scores": {"flow": 2, "mine": 3}}\n')
    result = cogvx("data", "select", "m.jsonl", "-o", "o.jsonl", *arguments)
    assert (result.exit_code, result.stdout) == (code, "") and words in result.stderr
    assert result.stderr.count("\n") <= 2 and not (tmp_path / "o.jsonl").exists()


def test_inputs_that_are_not_there(cogvx, tmp_path):
    assert cogvx("data", "select", "none.jsonl", "-o", "o.jsonl", "--where", "flow > 2").exit_code == 3
    (tmp_path / "empty.jsonl").write_text("\n")
    result = cogvx("data", "select", "empty.jsonl", "-o", "o.jsonl", "--where", "flow > 2")
    assert result.exit_code == 3 and "no entries in it" in result.stderr
