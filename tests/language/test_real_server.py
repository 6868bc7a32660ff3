"""A server that is not ours: `transformers serve`, with a tiny model, says the same as that model in this process."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from tiny_models import save_llama

from cogvx.language.ask import LanguageSpec, Message, open_language_model

SERVE = "from transformers.cli.transformers import main; main()"


@pytest.fixture
def served(tmp_path):
    """A model's folder, and the URL of the server that serves it."""
    for package in ("fastapi", "uvicorn", "openai"):
        pytest.importorskip(package)
    folder = save_llama(tmp_path / "m")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = ["serve", str(folder), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"}
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen([sys.executable, "-c", SERVE, *arguments], env=environment, stdout=log, stderr=log)
    try:
        for _ in range(1200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.1)
        yield folder, f"http://127.0.0.1:{port}/v1"
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


@pytest.mark.slow
def test_the_same_model_behind_a_real_server(served):
    folder, url = served
    remote = open_language_model(LanguageSpec(url=url, model=str(folder)))
    local = open_language_model(LanguageSpec(engine="transformers", model=str(folder)))
    asked = [Message("system", "be short"), Message("user", "hello")]
    answers = [model.ask(asked, max_tokens=16) for model in (remote, local)]
    assert answers[0].text == answers[1].text and answers[0].text
    assert answers[0].outcome == answers[1].outcome == "truncated"
    assert answers[0].prompt_tokens == answers[1].prompt_tokens
    other = open_language_model(LanguageSpec(url=url, model="another")).ask(asked, max_tokens=4)
    assert other.outcome == "error" and "HTTP 4" in other.error and other.tries == 1
