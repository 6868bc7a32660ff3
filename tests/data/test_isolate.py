"""Whatever the decoding process does, here it is one InputError, and the next clip is read."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from cogvx.data import isolate, video
from cogvx.data.media import Limits
from cogvx.errors import InputError, MissingError

FRAMES = np.random.default_rng(0).integers(0, 256, (5, 16, 24, 3), dtype=np.uint8)
ENTRY = (
    "import sys; sys.path.insert(0, {{root!r}}); import os, signal, time, numpy as np; "
    "from cogvx.data import decode_server; from cogvx.data.media import VideoInfo; "
    "info = VideoInfo(5, 8.0, 24, 16, 1.0, 'x', 'x')\n"
    "def bad(*args, **options):\n"
    "    {body}\n"
    "    return info, iter([])\n"
    "decode_server.decode = bad\n"
    "decode_server.serve({{number}})"
)


def read_with(body, path, limits):
    server = isolate.DecodeServer(ENTRY.format(body=body))
    try:
        with (
            open(path, "rb") as file,
            isolate.decode_isolated(file, limits=limits, server=server) as (_, frames),
        ):
            return list(frames)
    finally:
        server.close()


@pytest.fixture
def path(tmp_path):
    video.write_clip(tmp_path / "a.mkv", FRAMES, 8)
    return tmp_path / "a.mkv"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "crashes the decoder .SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed"),
        ("os._exit(7)", "exit status 7"),
        ("time.sleep(60)", "takes longer than 0.5 s"),
        ("signal.signal(signal.SIGALRM, signal.SIG_IGN); time.sleep(60)", "no new frame for 1 s"),
        ("x = bytearray(3 << 30)", "more memory than the limit"),
        ("raise RuntimeError('odd')", "odd"),
        ("return info, iter([np.zeros((9, 9, 3), np.uint8)])", "broke off"),
        ("return info, (np.zeros((16, 24, 3), np.uint8) for _ in range(10**9))", "more than the limit"),
        ("return VideoInfo(5, 8.0, 1 << 20, 1 << 20, 1.0, 'x', 'x'), iter([])", "exceed the limit"),
        ("os.write(os.memfd_create('x'), b'x')", "File too large"),
    ],
)
def test_deaths_and_lies(path, body, reason):
    limits = Limits(memory=1 << 31, wall_seconds=0.5, stall_seconds=1, decoded_bytes=1 << 20)
    if "SIG_IGN" in body:
        limits = Limits(wall_seconds=0.2, stall_seconds=1)
    start = time.monotonic()
    with pytest.raises(InputError, match=reason):
        read_with(body, path, limits)
    assert time.monotonic() - start < 5


def test_endless_work_is_stopped(path):
    with pytest.raises(InputError, match="processor time"):
        read_with("exec('while True: pass')", path, Limits(cpu_seconds=1))


def test_the_same_frames_with_and_without_isolation(path):
    assert np.array_equal(video.read_clip(path).frames, FRAMES)
    assert np.array_equal(video.read_clip(path, isolate=False).frames, FRAMES)


def test_the_next_clip_is_read_when_the_process_has_died(path):
    video.read_clip(path)
    os.kill(isolate._server._process.pid, signal.SIGKILL)
    isolate._server._process.wait()
    assert np.array_equal(video.read_clip(path).frames, FRAMES)


def test_an_interrupt_does_not_mix_up_answers(path, monkeypatch):
    video.read_clip(path)

    class Interrupted:
        def recv(self, *args):
            raise KeyboardInterrupt

        def __getattr__(self, name):
            return getattr(connection, name)

    connection = isolate._server._connection
    monkeypatch.setattr(isolate._server, "_connection", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        video.read_clip(path)
    assert np.array_equal(video.read_clip(path).frames, FRAMES)


def test_leaving_early_ends_the_work(path):
    frames = video.iter_clip(path)
    next(frames)
    frames.close()
    assert np.array_equal(video.read_clip(path).frames, FRAMES)


def test_threads_share_the_process(path):
    results = []
    threads = [threading.Thread(target=lambda: results.append(video.read_clip(path).frames)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8 and all(np.array_equal(result, FRAMES) for result in results)


def test_forks_start_a_process_of_their_own(path):
    video.read_clip(path)
    shared = isolate._server
    pid = os.fork()
    if pid == 0:
        fine = np.array_equal(video.read_clip(path).frames, FRAMES)
        isolate._close()
        os._exit(0 if fine else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert np.array_equal(video.read_clip(path).frames, FRAMES) and isolate._server is shared


def test_no_descriptor_is_left_open(path):
    video.read_clip(path)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        video.read_clip(path)
        video.probe(path)
        with pytest.raises(InputError):
            video.read_clip(b"broken")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_process_that_does_not_start():
    with pytest.raises(MissingError, match="does not start: .*no_such_module"):
        isolate.DecodeServer("import no_such_module")


def test_the_process_is_lean_and_ends_with_its_parent(path):
    code = (
        "import sys; from cogvx.data import video, isolate; video.read_clip(sys.argv[1]);"
        "pid = isolate._server._process.pid; print(pid, 'torch' in sys.modules);"
        "maps = open(f'/proc/{pid}/maps').read(); print('libtorch' in maps, 'libavcodec' in maps)"
    )
    result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    pid, torch_here, torch_there, codec_there = result.stdout.split()
    assert (torch_here, torch_there, codec_there) == ("False", "False", "True") and result.stderr == ""
    assert not os.path.exists(f"/proc/{pid}")
