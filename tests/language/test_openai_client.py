"""Questions over HTTP: what is asked, and every way in which a server can fail."""

import base64
import datetime
import io
import logging
import pickle
import threading
import time

import numpy as np
import pytest
from mock_server import images, said
from PIL import Image

from cogvx.errors import CogvxError, InputError, MissingError, UsageError
from cogvx.language import http, openai_client
from cogvx.language.ask import LanguageSpec, Message, open_language_model, settle

HELLO = [Message("system", "be short"), Message("user", "hello")]


@pytest.fixture
def opened(mock_openai):
    """Open the mock server; what it announces is kept in `lines`."""

    def run(**settings):
        return open_language_model(LanguageSpec(**({"timeout": 20.0} | settings)), announce=lines.append)

    lines = run.lines = []
    return run


def test_a_question_and_its_answer(mock_openai, opened):
    model = opened()
    answer = model.ask(HELLO, max_tokens=9, temperature=0.5, top_p=0.7, seed=3)
    assert (answer.text, answer.outcome, answer.tries, answer.model) == ("answer to: hello", "success", 1, "mock-1")
    assert (answer.prompt_tokens, answer.completion_tokens) == (7, 3) and answer.checked() == answer.text
    (body,) = mock_openai.chats()
    assert body["messages"] == [{"role": "system", "content": "be short"}, {"role": "user", "content": "hello"}]
    wanted = {"model": "mock-1", "max_tokens": 9, "temperature": 0.5, "top_p": 0.7, "seed": 3, "stream": False}
    assert wanted.items() <= body.items() and "response_format" not in body
    assert mock_openai.requests[-1]["headers"]["Authorization"] == "Bearer canary-4f1d7c0b"
    host = mock_openai.url.split("/")[2]
    assert model.name == f"openai:mock-1@{host}"
    assert model.settings() == {"engine": "openai", "model": "mock-1", "host": host}


def test_images_travel_as_jpegs(mock_openai, opened):
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:, 15:] = (250, 20, 20)
    opened().ask([Message("user", "what is it?", (pixels, 255 - pixels))], max_tokens=9)
    (body,) = mock_openai.chats()
    assert said(body) == ["what is it?"] and len(images(body)) == 2
    head, data = images(body)[0].split(",")
    assert head == "data:image/jpeg;base64"
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert seen.shape == pixels.shape and np.abs(seen.astype(int) - pixels).mean() < 8
    with pytest.raises(InputError, match="uint8"):
        openai_client.data_url(np.zeros((3, 4), np.uint8))


@pytest.mark.parametrize(
    ("mode", "outcome", "tries", "retry", "fatal", "words"),
    [
        ("429", "error", 3, True, False, "HTTP 429: slow down"),
        ("500", "error", 3, True, False, "HTTP 500"),
        ("cut", "error", 3, True, False, "no whole JSON"),
        ("short", "error", 3, True, False, "cut off"),
        ("not-json", "error", 3, True, False, "no whole JSON"),
        ("html", "error", 3, True, False, "HTML"),
        ("empty", "error", 3, True, False, "no choices"),
        ("null", "error", 3, True, False, "empty"),
        ("reset", "error", 3, True, False, "closed the connection"),
        ("huge", "error", 1, False, False, "longer than 8 MiB"),
        ("400", "error", 1, False, False, "HTTP 400"),
        ("401", "error", 1, False, True, "$OPENAI_API_KEY"),
        ("404", "error", 1, False, True, "/v1"),
        ("redirect", "error", 1, False, True, "not followed"),
        ("length", "truncated", 1, False, False, "max_tokens"),
        ("content_filter", "blocked", 1, False, False, "filter"),
        ("refusal", "blocked", 1, False, False, "I will not say that."),
    ],
)
def test_faults(mock_openai, opened, mode, outcome, tries, retry, fatal, words):
    model = opened(model="mock-1")
    mock_openai.script(mode, mode, mode)
    answer = model.ask(HELLO, max_tokens=9)
    assert (answer.outcome, answer.tries, answer.retry, answer.fatal) == (outcome, tries, retry, fatal)
    assert words in answer.error and answer.error.startswith(model.name) and "\n" not in answer.error
    assert len(mock_openai.chats()) == tries
    if outcome == "truncated":
        assert answer.text == answer.checked(allow_truncated=True) == "what was to be said"
    with pytest.raises(MissingError if outcome == "error" else InputError):
        answer.checked()
    mock_openai._script.clear()
    mock_openai.script(*[mode] * (tries - 1))  # and when it passes in time, nothing is lost
    if retry:
        assert model.ask(HELLO, max_tokens=9).outcome == "success"


@pytest.mark.parametrize("mode", ["hang", "drip", "slow-head"])
def test_one_limit_for_all_of_it(mock_openai, opened, mode):
    model = opened(model="mock-1", timeout=0.4)
    mock_openai.script(mode)
    start = time.monotonic()
    answer = model.ask(HELLO, max_tokens=9)
    assert 0.3 < time.monotonic() - start < 3
    assert answer.outcome == "error" and answer.retry and "within 0.4 s" in answer.error
    assert model.ask(HELLO, max_tokens=9).outcome == "success"


def test_a_server_says_how_long_to_wait(mock_openai, opened):
    model = opened(model="mock-1")
    mock_openai.retry_after = "0.2"
    mock_openai.script("429")
    start = time.monotonic()
    assert model.ask(HELLO, max_tokens=9).tries == 2 and time.monotonic() - start >= 0.2
    for text in (
        "90",
        (datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)).strftime("%a, %d %b %Y %T GMT"),
    ):
        mock_openai.retry_after = text
        mock_openai.script("429")
        start = time.monotonic()
        answer = model.ask(HELLO, max_tokens=9)
        assert answer.tries == 1 and answer.retry and "wait" in answer.error and time.monotonic() - start < 5
    mock_openai.retry_after = "soon"
    mock_openai.script("429")
    assert model.ask(HELLO, max_tokens=9).outcome == "success"


def test_redirects_stay_on_their_host(mock_openai, opened):
    model = opened(model="mock-1")
    mock_openai.script("moved", "moved")
    assert model.ask(HELLO, max_tokens=9).text == "answer to: hello"
    assert [request["body"] for request in mock_openai.requests[1:]] == [mock_openai.chats()[0]] * 2
    mock_openai.script(*["moved"] * 10)
    assert model.ask(HELLO, max_tokens=9).outcome == "error"


def test_nobody_there(opened, mock_openai):
    url = mock_openai.url
    mock_openai.close()
    answer = opened(model="x", url=url).ask(HELLO, max_tokens=9)
    assert (answer.outcome, answer.tries, answer.fatal) == ("error", 3, True) and "connection refused" in answer.error
    with pytest.raises(MissingError, match="no list of models"):
        opened(url=url)


def test_parameters_that_are_not_taken_are_left_out_and_named(mock_openai, opened):
    mock_openai.refuses = {"seed", "max_tokens", "response_format"}
    model = opened()
    answer = model.ask(HELLO, max_tokens=9, schema={"type": "object"})
    assert answer.outcome == "success" and answer.tries == 1
    assert answer.dropped == ("max_tokens", "response_format", "seed")
    assert len(opened.lines) == 3 and all("is asked without it" in line for line in opened.lines)
    body = mock_openai.chats()[-1]
    assert not mock_openai.refuses & set(body) and body["max_completion_tokens"] == 9
    assert '{"type": "object"}' in said(body)[-1]  # the schema is asked for in words instead
    count = len(mock_openai.chats())
    assert model.ask(HELLO, max_tokens=9).dropped == ("max_tokens", "seed")  # remembered, and named once
    assert len(mock_openai.chats()) == count + 1 and len(opened.lines) == 3
    mock_openai.refuses = {"messages"}
    assert model.ask(HELLO, max_tokens=9).outcome == "error"


def test_a_schema_is_asked_for(mock_openai, opened):
    opened().ask(HELLO, max_tokens=9, schema={"type": "object", "required": ["a"]})
    form = mock_openai.chats()[0]["response_format"]
    assert form["type"] == "json_schema" and form["json_schema"]["schema"]["required"] == ["a"]
    assert said(mock_openai.chats()[0])[-1] == "hello"


def test_thoughts_are_no_answer(mock_openai, opened):
    mock_openai.answer = lambda body: "<think>what may they want?\n</think>\n\nA red star."
    assert opened().ask(HELLO, max_tokens=9).text == "A red star."
    mock_openai.answer = lambda body: [{"type": "text", "text": "A red"}, {"type": "text", "text": " star."}]
    mock_openai.answer = lambda body: "<think>for ever and ever"
    assert opened().ask(HELLO, max_tokens=9).outcome == "error"


def test_the_name_auto(mock_openai, opened):
    assert settle(LanguageSpec(model="auto")).model == "mock-1" and settle(LanguageSpec(model="x")).model == "x"
    mock_openai.script("500", "429")
    assert opened().settings()["model"] == "mock-1"
    mock_openai.models = ["one", "two"]
    with pytest.raises(UsageError, match="one, two"):
        opened()
    mock_openai.script("401")
    with pytest.raises(MissingError, match="HTTP 401"):
        opened()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://host/v1", "http:// or https://"),
        ("file:///etc/passwd", "http:// or https://"),
        ("localhost:8000/v1", "http:// or https://"),
        ("http:///v1", "http:// or https://"),
        ("http://user:canary@host/v1", "password"),
        ("http://host/v1?key=canary", "nothing may follow"),
        ("http://host:99999/v1", "malformed"),
        ("http://[::1/v1", "malformed"),
    ],
)
def test_urls_that_are_refused(opened, url, words):
    with pytest.raises(UsageError, match=words) as caught:
        opened(url=url, model="x")
    assert "canary" not in str(caught.value)


def test_plain_http_to_another_machine_is_warned_of(opened):
    opened(url="http://192.0.2.7:8000/v1", model="x")
    assert len(opened.lines) == 1 and opened.lines[0].startswith("warning: 192.0.2.7:8000 is asked over plain http")
    for host in ("127.0.0.1", "localhost", "[::1]"):
        opened(url=f"http://{host}:8000/v1", model="x")
    opened(url="https://192.0.2.7/v1", model="x")
    assert len(opened.lines) == 1


def test_keys(mock_openai, opened, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    mock_openai.script("echo-key")
    answer = opened(model="mock-1").ask(HELLO, max_tokens=9)
    assert "***" in answer.error and "canary" not in answer.error
    mock_openai.answer = lambda body: "the key is canary-4f1d7c0b"
    assert opened().ask(HELLO, max_tokens=9).text == "the key is ***"
    spec = LanguageSpec(model="x")
    assert b"canary" not in pickle.dumps(spec) and "canary" not in repr(opened(model="x").settings()) + caplog.text
    monkeypatch.setenv("OTHER_KEY", "other-canary")
    opened(model="x", key_env="OTHER_KEY").ask(HELLO, max_tokens=9)
    assert mock_openai.requests[-1]["headers"]["Authorization"] == "Bearer other-canary"
    monkeypatch.delenv("OPENAI_API_KEY")
    opened(model="x").ask(HELLO, max_tokens=9)
    assert "Authorization" not in mock_openai.requests[-1]["headers"]
    for wrong in ("canary\r\nX-Evil: 1", "canary\u2026"):
        monkeypatch.setenv("OPENAI_API_KEY", wrong)
        with pytest.raises(UsageError) as caught:
            opened(model="x").ask(HELLO, max_tokens=9)
        assert "canary" not in str(caught.value)
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("OPENAI_BASE_URL")
    with pytest.raises(MissingError, match="no key"):
        opened(model="x")


def test_many_ask_at_once(mock_openai, opened):
    model = opened()
    mock_openai.refuses = {"seed"}
    mock_openai.fault = lambda body, number: "500" if number % 7 == 0 else None
    answers = {}

    def ask(number):
        answers[number] = model.ask([Message("user", f"number {number}")], max_tokens=9)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number: answer.text for number, answer in answers.items() if answer.outcome == "success"} == {
        number: f"answer to: number {number}" for number in range(24)
    }
    assert len(opened.lines) == 1  # all met the parameter that is not taken; one says so


@pytest.mark.parametrize(("given", "seconds"), [(None, None), ("7", 7.0), ("-3", 0.0), ("1e999", None), ("nan", None)])
def test_retry_after(given, seconds):
    assert http._seconds(given) == seconds


def test_an_unknown_engine():
    with pytest.raises(UsageError, match="no such engine"):
        open_language_model(LanguageSpec(engine="telepathy"))
    with pytest.raises(CogvxError, match="at least one try"):
        open_language_model(LanguageSpec(tries=0))
