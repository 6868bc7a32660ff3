"""A cache that processes share: every file is made once, whole, by whoever is there, even if one of them is killed."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cogvx.data.buckets import Shape
from cogvx.data.cache import EncodedCache, claim, content_sha256
from cogvx.data.share import Job, share
from cogvx.errors import InputError, MissingError, RefusedError
from cogvx.files import write_bytes

SHAPE = Shape(17, 64, 96)
# Each maker says what it makes, so that the test sees what was made twice.
WORKER = """
import os, sys, time
from pathlib import Path
from cogvx.data.share import Job, share
from cogvx.files import write_bytes

folder, count = Path(sys.argv[1]), int(sys.argv[2])
log = os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def job(number):
    path = folder / "cache" / "text" / f"{number % 7:02d}" / f"key{number}.safetensors"
    def make(data):
        os.write(log, f"{os.getpid()} {number}\\n".encode())
        time.sleep(0.01)
        write_bytes(path, data)
    return Job(path, lambda path: None, lambda: str(number).encode() * 1000, make, number)

for one, outcome in share(map(job, range(count)), num_workers=2):
    assert outcome in ("written", "kept"), outcome
"""


@pytest.fixture
def cache(tmp_path):
    return EncodedCache(tmp_path / "cache", "vae", "text")


def test_keys_tell_everything_apart(cache):
    sha = "0" * 64
    paths = [
        cache.latents(sha, SHAPE, fps=8),
        cache.latents("1" * 64, SHAPE, fps=8),
        cache.latents(sha, Shape(9, 64, 96), fps=8),
        cache.latents(sha, Shape(17, 96, 64), fps=8),
        cache.latents(sha, SHAPE, fps=16),
        cache.latents(sha, SHAPE, fps=8, start=1.0),
        cache.latents(sha, SHAPE, fps=8, end=1.0),
        EncodedCache(cache.folder, "other", "text").latents(sha, SHAPE, fps=8),
        cache.first_frames(sha, SHAPE, count=1),
        cache.first_frames(sha, SHAPE, count=2),
        cache.text("a"),
        cache.text("b"),
        EncodedCache(cache.folder, "vae", "other").text("a"),
    ]
    assert len(set(paths)) == len(paths)
    assert all(path.parent.parent.parent == cache.folder and len(path.stem) == 64 for path in paths)
    assert cache.latents(sha, SHAPE, fps=8.0, start=0) == paths[0]
    assert EncodedCache(cache.folder, "vae", "other").latents(sha, SHAPE, fps=8) == paths[0]
    image = Shape(1, 64, 96)  # neither rate nor end changes its first frame
    assert cache.latents(sha, image, fps=8) == cache.latents(sha, image, fps=16, end=3)


def test_content_hashes(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    assert content_sha256(tmp_path / "a") == hashlib.sha256(b"x").hexdigest()
    (tmp_path / "a").write_bytes(b"yy")
    assert content_sha256(tmp_path / "a") == hashlib.sha256(b"yy").hexdigest()
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / "0.png").write_bytes(b"0")
    first = content_sha256(folder)
    (folder / "1.png").write_bytes(b"1")
    assert content_sha256(folder) != first
    with pytest.raises(InputError, match="missing"):
        content_sha256(tmp_path / "missing")


def test_a_claim_excludes_others_until_it_ends(cache):
    path = cache.text("a")
    with claim(path) as right:
        assert claim(path) is None and claim(cache.text("b")) is not None
    assert not (path.parents[2] / ".locks" / path.stem).exists()
    right.release()  # again: nothing happens
    assert claim(path) is not None


def jobs_of(cache, names, make=None, read=None):
    def job(number, name):
        path = cache.text(name)
        return Job(
            path,
            _check,
            lambda: (read or str.encode)(name),
            lambda data: (make or write_bytes)(path, data),
            number,
        )

    return [job(number, name) for number, name in enumerate(names)]


def _check(path):
    if not path.read_bytes():
        raise InputError("empty")


def outcomes(jobs, **settings):
    return {job.owner: outcome for job, outcome in share(jobs, **settings)}


@pytest.mark.parametrize("num_workers", [1, 3])
def test_missing_files_are_made_and_others_kept(cache, num_workers):
    names = ["a", "b", "c", "a"]
    assert outcomes(jobs_of(cache, names), num_workers=num_workers) == {
        0: "written",
        1: "written",
        2: "written",
        3: "kept",
    }
    cache.text("b").write_bytes(b"")  # not whole: made again
    assert outcomes(jobs_of(cache, names)) == {0: "kept", 1: "written", 2: "kept", 3: "kept"}
    assert cache.text("b").read_bytes() == b"b"
    again = outcomes(jobs_of(cache, names), overwrite=True)
    assert sorted(again.values()) == ["kept", "written", "written", "written"]


def test_a_bad_job_harms_no_other_and_leaves_nothing(cache):
    def read(name):
        if name == "b":
            raise InputError("damaged")
        if name == "c":
            raise RefusedError("no")
        return name.encode()

    found = outcomes(jobs_of(cache, "abcd", read=read), num_workers=2)
    assert found[0] == found[3] == "written" and isinstance(found[1], InputError) and isinstance(found[2], RefusedError)
    assert not list((cache.folder / ".locks").iterdir())


def test_a_full_disk_ends_the_work(cache):
    def make(path, data):
        raise MissingError("disk full")

    with pytest.raises(MissingError):
        outcomes(jobs_of(cache, "abc", make=make), num_workers=2)
    assert not list((cache.folder / ".locks").iterdir())
    assert set(outcomes(jobs_of(cache, "abc")).values()) == {"written"}


def test_who_leaves_early_gives_the_claims_back(cache):
    work = share(jobs_of(cache, "abcdef"), num_workers=3)
    next(work)
    work.close()
    assert not list((cache.folder / ".locks").iterdir())


def test_sweep(cache):
    old = cache.text("a").parent / ".cogvx-tmp-1234"
    old.mkdir(parents=True)
    assert cache.sweep() == 0
    os.utime(old, (0, 0))
    assert cache.sweep() == 1 and not old.exists()
    locks = cache.folder / ".locks"
    held = claim(cache.text("b"))
    for lock in (locks / cache.text("b").stem, locks / "left"):
        lock.touch()
        os.utime(lock, (0, 0))
    assert cache.sweep() == 1 and [path.name for path in locks.iterdir()] == [cache.text("b").stem]
    held.release()


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_processes_share_the_work_and_one_is_killed(tmp_path):
    count = 60
    command = [sys.executable, "-c", WORKER, str(tmp_path), str(count)]
    workers = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(5)]
    made = tmp_path / "cache" / "text"
    deadline = time.monotonic() + 60
    while len(list(made.glob("*/key*"))) < count // 5 and time.monotonic() < deadline:
        time.sleep(0.002)
    workers[0].send_signal(signal.SIGKILL)
    for worker in workers[1:]:
        assert worker.wait(60) == 0, worker.stderr.read()
    assert workers[0].wait() == -signal.SIGKILL
    for worker in workers:
        worker.stderr.close()
    files = {path.stem: path.read_bytes() for path in made.glob("*/key*")}
    assert files == {f"key{number}": str(number).encode() * 1000 for number in range(count)}
    lines = [tuple(map(int, line.split())) for line in (tmp_path / "log").read_text().splitlines()]
    twice = [number for number in range(count) if sum(number == other for _, other in lines) > 1]
    assert len(twice) <= 1, "only what the killed one was at is made again"
    assert len({process for process, _ in lines}) > 1
    # If it was killed between a file and the end of its claim, that lock stays until it is swept.
    assert len(list((tmp_path / "cache" / ".locks").iterdir())) <= 1


def test_the_worker_needs_no_torch():
    code = "import sys, cogvx.data.share; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
