"""Fixtures of all tests: a function run on several real processes, and a server of language models that can fail."""

import importlib.util
import inspect
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import traceback
from multiprocessing.connection import wait
from pathlib import Path

import pytest

# Two processes run the tests (pyproject.toml); with more than a thread each they would wait for one another.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Where test files find what several of them use; at the end, where nothing is shadowed.
sys.path += [str(Path(__file__).parent / name) for name in ("shared", "language")]
# Where the ranks find the test files; in front, since some packages install a `tests` of their own.
sys.path.insert(0, str(Path(__file__).parents[1]))

# A shell starts a background job with SIGINT ignored, and every process below inherits that; tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

PRELOADED = ["torch", "torch.distributed.fsdp", "cogvx.models.transformer", "pytest", "toy_task"]
# A process that has PyTorch ready and forks the ranks, so that each starts in a moment.
SERVER = multiprocessing.get_context("forkserver")


def load(path):
    """Import a test file by its path, once."""
    name = "ranks_of_" + os.path.basename(path).removesuffix(".py")
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def one_rank(path, name, rank, size, port, context, args, results):
    import torch

    from cogvx import distributed

    torch.set_num_threads(1)
    if size > 1:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({key: str(value) for key, value in place.items()})
    try:
        world = distributed.start(context=context, device="cpu", timeout=150)
        if size > 1:
            torch.distributed.barrier()  # no rank is done and gone while another is still finding it
        answer = (True, getattr(load(path), name)(world, *args))
        distributed.stop(world)
    except BaseException:
        answer = (False, traceback.format_exc())
    results.send_bytes(pickle.dumps(answer))
    results.close()
    os._exit(0)  # a rank whose neighbour failed would wait for it


def run_ranks(size, function, *args, context=1, timeout=150):
    SERVER.set_forkserver_preload(PRELOADED)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path, name = inspect.getfile(function), function.__name__
    started = []
    for rank in range(size):
        ours, theirs = SERVER.Pipe(duplex=False)
        process = SERVER.Process(target=one_rank, args=(path, name, rank, size, port, context, args, theirs))
        process.start()
        theirs.close()
        started.append((process, ours))
    answers = {}
    try:
        while len(answers) < size:
            waiting = {pipe: rank for rank, (_, pipe) in enumerate(started) if rank not in answers}
            ready = wait(list(waiting), timeout)
            assert ready, f"ranks {sorted(waiting.values())} gave no answer in {timeout} s"
            for pipe in ready:
                good, answers[waiting[pipe]] = pickle.loads(pipe.recv_bytes())
                assert good, f"rank {waiting[pipe]}: {answers[waiting[pipe]]}"
    finally:
        for process, _ in started:
            if len(answers) < size:
                process.kill()
            process.join()
    return [answers[rank] for rank in range(size)]


@pytest.fixture
def ranks():
    """Call `ranks(2, function, *args, context=1)`: run function(world, *args) on that many processes; their results."""
    return run_ranks


@pytest.fixture
def mock_openai(monkeypatch):
    """An OpenAI-compatible server, to which OPENAI_BASE_URL leads, with a key; see tests/language/mock_server.py."""
    from mock_server import MockOpenAI

    with MockOpenAI() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "canary-4f1d7c0b")
        monkeypatch.setattr("cogvx.language.openai_client.FIRST_PAUSE", 0.01)
        yield server
