"""`cogvx upsample`: prompts in, longer prompts out, whatever the endpoint does."""

import base64
import io
import json
import re
import time
from collections import Counter

import numpy as np
import pytest
from mock_server import images, said
from PIL import Image

KEY = "canary-4f1d7c0b"  # what the fixture sets; it must never be seen


def asked(body):
    """The prompt that a request asks for."""
    return re.findall(r"(?:request|Request): (.*)", "\n".join(said(body)))[-1]


def long_prompt(prompt):
    return (
        f"{prompt}, seen from the side in the soft light of a late afternoon, with a quiet background of hills and a "
        "pale sky, while the camera stands still and the colours are warm and clear."
    )


@pytest.fixture
def server(mock_openai):
    mock_openai.answer = lambda body: long_prompt(asked(body))
    return mock_openai


@pytest.fixture
def upsample(cogvx, server):
    """Run the command; nothing that it prints has the key."""

    def run(*arguments, **settings):
        result = cogvx("upsample", *arguments, **settings)
        assert KEY not in result.stdout + result.stderr
        return result

    return run


def rows(text):
    return [json.loads(line) for line in text.splitlines()]


def test_a_prompt(upsample, server):
    result = upsample("a boat")
    assert (result.exit_code, result.stdout, result.stderr) == (0, long_prompt("a boat") + "\n", "")
    (body,) = server.chats()
    wanted = {"temperature": 0.01, "top_p": 0.7, "max_tokens": 250, "seed": 0, "model": "mock-1"}
    assert wanted.items() <= body.items()
    assert [turn["role"] for turn in body["messages"]] == ["system", *["user", "assistant"] * 3, "user"]


def test_lines_in_and_lines_out(upsample, tmp_path):
    result = upsample("-", input="a boat\n\na dog\n")
    assert result.stdout.splitlines() == [long_prompt("a boat"), long_prompt("a dog")]
    (tmp_path / "p.txt").write_text("a boat\na dog\n")
    assert upsample("--prompts", "p.txt").stdout == result.stdout
    assert upsample("a boat", "a dog").stdout == result.stdout


def test_json(upsample, server):
    (row,) = rows(upsample("a boat", "--json").stdout)
    assert (row["input"], row["output"], row["tries"]) == ("a boat", long_prompt("a boat"), 1)
    assert row["model"].startswith("openai:mock-1@127.0.0.1") and "fallback" not in row
    assert {"preset": "t2v", "temperature": 0.01, "top_p": 0.7, "max_tokens": 250}.items() <= row["params"].items()


def test_rows_keep_their_other_keys(upsample, tmp_path):
    (tmp_path / "p.jsonl").write_text('{"caption": "a boat", "seed": 7, "mine": [1]}\n{"prompt": "a dog"}\n')
    found = rows(upsample("--prompts", "p.jsonl").stdout)
    assert found[0]["prompt"] == long_prompt("a boat") and found[0]["seed"] == 7 and found[0]["mine"] == [1]
    assert found[0]["upsampled"]["from"] == "a boat" and found[1]["upsampled"]["params"]["preset"] == "t2v"
    again = rows(upsample("--prompts", "p.jsonl", "--json").stdout)
    assert again[0]["output"] == long_prompt("a boat") and again[0]["mine"] == [1] and again[0]["input"] == "a boat"


@pytest.mark.parametrize(
    ("mode", "code", "words"),
    [
        ("429", 4, "HTTP 429"),
        ("500", 4, "HTTP 500"),
        ("hang", 4, "within 0.3 s"),
        ("drip", 4, "within 0.3 s"),
        ("cut", 4, "no whole JSON"),
        ("empty", 4, "no choices"),
        ("length", 3, "cut off"),
        ("content_filter", 3, "content filter"),
        ("refusal", 3, "I will not say that."),
        ("html", 4, "HTML"),
        ("401", 4, "$OPENAI_API_KEY"),
        ("echo-key", 4, "***"),
        ("400", 4, "HTTP 400"),
        ("404", 4, "HTTP 404"),
        ("redirect", 4, "not followed"),
        ("huge", 4, "8 MiB"),
        ("reset", 4, "closed the connection"),
    ],
)
def test_every_fault_is_an_error_of_one_line(upsample, server, mode, code, words):
    flags = ["--lm-model", "mock-1", "--lm-timeout", 0.3 if mode in ("hang", "drip") else 20]
    server.fault = lambda body, number: mode
    result = upsample("a boat", *flags)
    assert (result.exit_code, result.stdout) == (code, "") and words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    tries = len(server.chats())
    assert tries == (3 if mode in ("429", "500", "cut", "empty", "html", "reset", "length") else 1)
    kept = upsample("a boat", *flags, "--fallback", "original", "--json")
    (row,) = rows(kept.stdout)
    assert kept.exit_code == 0 and row["output"] == row["input"] == "a boat" and words in row["fallback"]
    assert "left as it was" in kept.stderr


def test_a_fault_that_passes_is_not_seen(upsample, server):
    server.script(None, "500", "429")  # the list of models, then two failures
    result = upsample("a boat")
    assert (result.exit_code, result.stderr) == (0, "") and len(server.chats()) == 3


def test_an_answer_that_is_no_prompt_is_asked_for_again(upsample, server):
    answers = iter(["Sure, here you go!", "A boat.", long_prompt("a boat")])
    server.answer = lambda body: next(answers)
    (row,) = rows(upsample("a boat", "--json").stdout)
    assert row["tries"] == 3 and row["output"] == long_prompt("a boat")
    last = server.chats()[-1]
    assert "too short: 2 words" in said(last)[-1] and said(last)[-2] == "A boat." and last["seed"] == 2
    server.answer = lambda body: "I'm sorry, I cannot help with that."
    result = upsample("a boat")
    assert result.exit_code == 3 and "in 3 tries" in result.stderr and "refuses" in result.stderr


def test_an_answer_that_is_too_long_ends_with_a_whole_sentence(upsample, server):
    good = long_prompt("a boat")
    more = [f"Behind the {name} hill there is a {name} house with a {name} door." for name in "abcdefghijklmnopqrst"]
    server.answer = lambda body: " ".join([good, *more])
    (row,) = rows(upsample("a boat", "--json").stdout)
    assert row["tries"] == 1 and row["shortened"] and row["output"].startswith(f"{good} {more[0]}")
    assert row["output"].endswith("door.") and 100 < len(row["output"].split()) <= 165


def test_one_failure_leaves_the_others(upsample, server, tmp_path):
    server.answer = lambda body: "no." if asked(body) == "bad" else long_prompt(asked(body))
    (tmp_path / "p.jsonl").write_text(
        '{"prompt": "one"}\n{"prompt": "bad"}\nnonsense\n{"prompt": "two", "seed": "x"}\n{"prompt": "three"}\n'
    )
    result = upsample("--prompts", "p.jsonl", "--json")
    assert result.exit_code == 3
    assert [row.get("error", "")[:24] or row["input"] for row in rows(result.stdout)] == [
        *("one", "openai:mock-1@127.0.0.1:", "p.jsonl:3: not JSON: Exp", "p.jsonl:4: seed: expecte", "three"),
    ]
    assert result.stderr.count("cogvx: error:") == 3 and "3 of 5 failed" in result.stderr
    result = upsample("--prompts", "p.jsonl", "--fallback", "original")
    assert [row["prompt"] for row in rows(result.stdout)] == [long_prompt("one"), "bad", long_prompt("three")]
    assert "tries" in rows(result.stdout)[1]["upsampled"]["fallback"]


def test_a_wrong_key_stops_a_batch_at_once(upsample, server, tmp_path):
    (tmp_path / "p.txt").write_text("".join(f"prompt {number}\n" for number in range(200)))
    server.key = "another"
    result = upsample("--prompts", "p.txt", "--lm-model", "mock-1")
    assert result.exit_code == 4 and len(server.chats()) < 20 and "$OPENAI_API_KEY" in result.stderr
    kept = upsample("--prompts", "p.txt", "--lm-model", "mock-1", "--fallback", "original", "-q")
    assert kept.stdout.splitlines()[199] == "prompt 199" and len(server.chats()) < 40


def test_a_thousand_prompts_with_faults(upsample, server, tmp_path):
    names = [f"prompt {number}" for number in range(1000)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"prompt": name}) + "\n" for name in names))
    modes = ("500", "429", "cut", "empty", "reset", "short", "html", "null")
    broken = {f"prompt {number}" for number in range(5, 1000, 100)}

    failures = Counter()

    def fault(body, number):  # every tenth prompt fails once or twice, in each way
        name = asked(body)
        if name in broken:
            return "content_filter"
        place = int(name.split()[1])
        if place % 10 or failures[name] > place // 10 % 2:
            return None
        failures[name] += 1
        return modes[place // 10 % len(modes)]

    server.fault = fault
    start = time.monotonic()
    result = upsample("--prompts", "p.jsonl", "-o", "out.jsonl", "-q")
    assert result.exit_code == 3 and result.stdout == "out.jsonl\n" and time.monotonic() - start < 60
    found = rows((tmp_path / "out.jsonl").read_text())
    assert [row["upsampled"]["from"] for row in found] == [name for name in names if name not in broken]
    assert all(row["prompt"] == long_prompt(row["upsampled"]["from"]) for row in found)
    assert result.stderr.count("content filter") == len(broken)
    # torn by a kill, then run again: every prompt once
    lines = (tmp_path / "out.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "out.jsonl").write_bytes(b"".join(lines[:980]) + lines[980][:30])
    server.fault = None
    count = len(server.chats())
    assert upsample("--prompts", "p.jsonl", "-o", "out.jsonl", "-q").exit_code == 0
    again = rows((tmp_path / "out.jsonl").read_text())
    assert sorted(row["upsampled"]["from"] for row in again) == sorted(names)
    assert len(server.chats()) - count == len(broken) + len(lines) - 980


def test_a_file_of_another_making_is_kept(upsample, tmp_path):
    assert upsample("a boat", "-o", "out.jsonl").exit_code == 0
    before = (tmp_path / "out.jsonl").read_bytes()
    other = upsample("a boat", "-o", "out.jsonl", "--preset", "i2v")
    assert other.exit_code == 2 and "--overwrite" in other.stderr
    (tmp_path / "x.jsonl").write_text("precious\n")
    assert upsample("a boat", "-o", "x.jsonl").exit_code == 2 and (tmp_path / "x.jsonl").read_text() == "precious\n"
    assert (tmp_path / "out.jsonl").read_bytes() == before
    assert upsample("a boat", "-o", "out.jsonl", "--preset", "i2v", "--overwrite").exit_code == 0
    assert rows((tmp_path / "out.jsonl").read_text())[0]["upsampled"]["params"]["preset"] == "i2v"
    assert upsample("a boat", "-o", "out.txt").exit_code == 2


def test_with_an_image(upsample, server, tmp_path):
    source = tmp_path / "in" / "a.png"
    source.parent.mkdir()
    Image.fromarray(np.full((1200, 1500, 3), 90, np.uint8)).save(source)
    result = upsample("it sails", "--image", source)
    assert result.stdout == long_prompt("it sails") + "\n"
    (body,) = server.chats()
    (sent,) = images(body)
    assert Image.open(io.BytesIO(base64.b64decode(sent.split(",")[1]))).size == (1024, 819)
    assert "begins with this picture" in said(body)[-1]
    (tmp_path / "in" / "p.jsonl").write_text(json.dumps({"image": source.name, "prompt": "it sinks"}) + "\n")
    found = rows(upsample("--prompts", "in/p.jsonl").stdout)
    assert found[0]["image"] == "a.png" and found[0]["upsampled"]["params"]["preset"] == "i2v"
    moved = upsample("--prompts", "in/p.jsonl", "-o", "long.jsonl")
    assert moved.exit_code == 0 and rows((tmp_path / "long.jsonl").read_text())[0]["image"] == "in/a.png"
    outside = upsample("--prompts", "in/p.jsonl", "-o", "elsewhere/long.jsonl")
    assert outside.exit_code == 3 and "outside the folder" in outside.stderr
    missing = upsample("it sails", "--image", "none.png")
    assert missing.exit_code == 3 and "none.png" in missing.stderr


def test_the_model_that_reads_sets_the_length(upsample, server, model_folder):
    result = upsample("a red star", "-m", model_folder("5b"))
    assert result.exit_code == 3 and "tokens, and at most 12 are read" in result.stderr
    server.answer = lambda body: "a red star moves to the right over a green field"
    assert upsample("a red star", "-m", model_folder("5b")).exit_code == 0


def test_presets_can_be_printed_and_edited(upsample, server, tmp_path):
    printed = upsample("--print-preset")
    assert printed.exit_code == 0 and server.requests == []
    text = printed.stdout.replace("max_tokens = 250", "max_tokens = 99").replace(
        'system = """', 'system = """Be brief.'
    )
    (tmp_path / "mine.toml").write_text(text)
    (row,) = rows(upsample("a boat", "--preset", "mine.toml", "--json").stdout)
    assert row["params"]["preset"] == "mine.toml" and server.chats()[-1]["max_tokens"] == 99
    assert said(server.chats()[-1])[0].startswith("Be brief.")
    (tmp_path / "bad.toml").write_text("sistem = 1")
    assert upsample("a boat", "--preset", "bad.toml").exit_code == 3
    assert upsample("--print-preset", "--preset", "mine.toml").exit_code == 2


def test_rules_instead_of_a_language_model(upsample, server):
    result = upsample("a yacht on the ocean with a cat", "--lm", "storyboard")
    assert result.stdout == "a red boat moves to the right over a blue sea\n"
    assert "not in its world: yacht, cat" in result.stderr and server.requests == []
    assert upsample("a cat", "--lm", "storyboard").exit_code == 3
    assert upsample("a boat", "--lm", "storyboard", "--preset", "t2v").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no prompt"),
        (["a boat", "--lm-url", "ftp://host"], "http:// or https://"),
        (["a boat", "--lm-url", f"http://x:{KEY}@host/v1"], "password"),
        (["a boat", "--lm", "transformers"], "--lm-model"),
        (["a boat", "--lm-device", "cpu"], "--lm transformers"),
        (["a boat", "--lm", "psychic"], "psychic"),
        (["a boat", "--preset", "v2v"], "t2v, i2v"),
    ],
)
def test_wrong_usage(upsample, server, arguments, words):
    result = upsample(*arguments)
    assert result.exit_code == 2 and words in result.stderr and server.chats() == []


def test_an_endpoint_that_is_not_there(upsample, server):
    server.close()
    result = upsample("a boat", "a dog")
    assert result.exit_code == 4 and "connection refused" in result.stderr
    named = upsample("a boat", "a dog", "--lm-model", "x")
    assert named.exit_code == 4 and len(named.stderr.strip().splitlines()) == 1


def test_no_key_in_a_traceback(upsample, server, monkeypatch):
    monkeypatch.setenv("COGVX_DEBUG", "1")
    for mode in ("echo-key", "redirect", "reset"):
        server.fault = lambda body, number, mode=mode: mode
        result = upsample("a boat", "--lm-model", "mock-1")
        assert result.exit_code == 4 and "Traceback" in result.stderr
