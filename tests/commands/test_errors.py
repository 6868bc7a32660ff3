"""Every way to fail has its exit code and its line."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from cogvx.commands import _errors
from cogvx.errors import InputError, MissingError, RefusedError, UsageError


def fail(error):
    def body():
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("height 7"), 2),
        (InputError("clip.mp4: cut"), 3),
        (MissingError("no model"), 4),
        (RefusedError("a pickle"), 5),
        (OSError(errno.ENOSPC, "No space left on device", "/x/clip.mp4"), 4),
        (OSError(errno.EFBIG, "File too large", "/x/clip.mp4"), 4),
        (MemoryError(), 4),
        (torch.OutOfMemoryError("CUDA out of memory"), 4),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), 4),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 3),
        (KeyboardInterrupt(), 130),
        (_errors.Terminated(signal.SIGTERM), 143),
    ],
)
def test_codes_and_single_lines(error, code, capsys, monkeypatch):
    monkeypatch.delenv("COGVX_DEBUG", raising=False)
    assert _errors.run(fail(error)) == code
    written = capsys.readouterr()
    assert written.out == ""
    assert len(written.err.strip().splitlines()) == 1
    assert written.err.startswith("cogvx: ")


def test_own_fault_shows_traceback_and_asks_for_a_report(capsys):
    assert _errors.run(fail(ZeroDivisionError("division by zero"))) == 1
    text = capsys.readouterr().err
    assert "Traceback" in text and "ZeroDivisionError" in text and "report" in text.splitlines()[-1]


def test_debug_adds_the_traceback(capsys, monkeypatch):
    monkeypatch.setenv("COGVX_DEBUG", "1")
    assert _errors.run(fail(UsageError("height 7"))) == 2
    text = capsys.readouterr().err
    assert "Traceback" in text and text.splitlines()[-1] == "cogvx: error: height 7"


def test_control_characters_do_not_reach_the_terminal(capsys, cogvx):
    assert _errors.run(fail(InputError("bad \x1b]0;title\x07 name"))) == 3
    assert "\x1b" not in capsys.readouterr().err
    result = cogvx("sample", "x", "-m", "\x1b]0;boo\x07/y")
    assert "\x1b" not in result.stderr and "\x07" not in result.stderr


def test_unknown_name_offers_the_nearest():
    assert str(_errors.unknown("model", "5bb", ["2b", "5b"])) == "no such model: 5bb; did you mean 5b?"


def start(*arguments, cwd):
    command = [sys.executable, "-m", "cogvx", *map(str, arguments)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_signals_stop_with_one_line_and_leave_nothing(model_folder, tmp_path, number, code, word):
    process = start(
        "sample", "a red star", "-m", model_folder("5b"), "--steps", 1000, "-o", "x.mp4", "-v", cwd=tmp_path
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "memory mode" in line:
            break
    time.sleep(0.5)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == code, err
    assert out == "" and err.strip().splitlines()[-1] == f"cogvx: {word}"
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_closed_pipe_is_quiet(tmp_path):
    process = start("models", "list", "--json", cwd=tmp_path)
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=20)
    assert err == ""
    assert process.returncode in (0, 141)


def test_full_stdout(tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cogvx", "models", "list"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
    assert done.returncode == 4
    assert "no space" in done.stderr and "Traceback" not in done.stderr
