"""The page in a real browser: keys, clips that play, and nothing that its own policy forbids."""

import pytest
from browser import Browser, find_browser

pytestmark = pytest.mark.skipif(find_browser() is None, reason="no Chromium here")
SHOWN = "document.getElementById('name').textContent"
PLAYS = "!document.getElementById('video').hidden && document.getElementById('video').videoWidth > 0"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def test_labelling_by_keys(page, browser):
    served = page("anna")
    browser.open(served.server.urls()["anna"])
    browser.wait_for(f"{SHOWN} === '1: a.mp4' && {PLAYS}")
    assert browser.evaluate("document.getElementById('caption').textContent") == "<b>bold</b> & plain"
    for key in "166":
        browser.press(key)
    assert browser.evaluate("[...document.querySelectorAll('[aria-pressed=true]')].map(e => e.id)") == ["label-editing"]
    browser.wait_for("!document.getElementById('video').paused")
    browser.press(" ")
    browser.wait_for("document.getElementById('video').paused")
    browser.press("Enter")
    browser.wait_for(f"{SHOWN} === '2: b.mkv' && {PLAYS}")
    assert browser.evaluate("document.getElementById('count').textContent") == "1 of 5"
    browser.press("4")
    browser.press("Enter")
    browser.wait_for(f"{SHOWN}.startsWith('3: a.mp4#') && {PLAYS}")
    browser.wait_for("document.getElementById('video').currentTime >= 1")  # a part of a longer file
    browser.press("Enter")
    browser.wait_for(f"{SHOWN} === '4: c.webp' && !document.getElementById('image').hidden")
    browser.press("ArrowLeft")
    browser.wait_for(f"{SHOWN}.startsWith('3: a.mp4#')")
    browser.open(served.server.urls()["anna"])  # as after a reload: it goes on where it was
    browser.wait_for(f"{SHOWN} === '4: c.webp'")
    browser.press("Enter")
    browser.wait_for(
        f"{SHOWN} === '5: d.mkv' && document.getElementById('wait').textContent.includes('cannot be shown')"
    )
    browser.press("Enter")
    browser.wait_for("!document.getElementById('end').hidden")
    answers = {answer.item: answer.answer for answer in served.journal.latest()}
    assert len(answers) == 4 and answers["a.mp4"]["editing"] == 1 and answers["a.mp4"]["low_quality"] == 0
    assert answers["b.mkv"]["text"] == 1
    texts = [event["params"].get("entry", {}).get("text", "console") for event in browser.complaints()]
    assert set(texts) <= {"Failed to load resource: the server responded with a status of 422 (Unprocessable Entity)"}
    assert browser.screenshot()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_server_that_is_gone_loses_nothing(page, browser):
    served = page("anna")
    browser.open(served.server.urls()["anna"])
    browser.wait_for(f"{SHOWN} === '1: a.mp4' && {PLAYS}")
    browser.press("2")
    port = served.server.port
    served.close()
    browser.press("Enter")
    browser.wait_for("document.getElementById('notice').textContent.includes('does not answer')")
    again = page("anna", port=port)
    browser.press("Enter")
    browser.wait_for(f"{SHOWN} === '2: b.mkv'")
    assert [answer.answer["static"] for answer in again.journal.latest()] == [1]
