"""The page in a real browser: keys, the cap, a reload, a browser that is killed, two raters."""

import pytest
from browser import Browser, find_browser

from cogvx.evaluation.human.answers import ASPECTS

pytestmark = pytest.mark.skipif(find_browser() is None, reason="no Chromium here")
NAME = "document.getElementById('name').textContent"
COUNT = "document.getElementById('count').textContent"
PRESSED = "[...document.querySelectorAll('[aria-pressed=true]')].map(e => e.id)"


def shown(text, seats="a"):
    ready = " && ".join(f"document.getElementById('video-{seat}').videoWidth > 0" for seat in seats)
    return f"{NAME} === '{text}' && {ready}"


def test_rating_by_keys_survives_reload_and_kill(page, make, tmp_path):
    study = make("rating")
    served = page(study, "anna", "ben")
    url = served.server.urls()["anna"]
    browser = Browser(tmp_path / "profile")
    try:
        browser.open(url)
        browser.wait_for(shown("1"))
        prompt = study.prompts[study.items[study.order("anna")[0]].prompt]
        assert browser.evaluate("document.getElementById('prompt').textContent") == prompt
        browser.press("Enter")
        browser.wait_for("document.getElementById('notice').textContent === 'Still open: Sensory Quality'")
        for key in "31":  # 1, then instructions not followed
            browser.press(key)
        for key in "32":
            browser.press(key)
        browser.press("5")  # too much for the cap: not taken
        names = [one.name for one in ASPECTS]
        wanted = [f"{names[0]}-1", f"{names[1]}-0", f"{names[2]}-1", f"{names[3]}-0.5"]
        assert browser.evaluate(PRESSED) == wanted
        assert browser.evaluate("document.getElementById('total-3').disabled") is True
        browser.press("n")
        browser.call("Input.insertText", {"text": "no <ball>"})
        browser.press("Escape")
        browser.press("2")
        assert browser.evaluate(PRESSED) == [*wanted, "total-2"]
        browser.open(url)  # a reload before saving loses nothing
        browser.wait_for(shown("1"))
        browser.wait_for(f"{PRESSED}.length === 5")
        assert browser.evaluate("document.getElementById('reasons').value") == "no <ball>"
        browser.press("Enter")
        browser.wait_for(shown("2"))
        assert browser.evaluate(COUNT) == "1 of 6"
        browser.press("ArrowLeft")
        browser.wait_for(f"{NAME} === '1 (judged)' && {PRESSED}.length === 5")
        text = browser.evaluate("document.documentElement.outerHTML")
        assert not any(system in text for system in study.systems)
        assert not browser.complaints()
    finally:
        browser._process.kill()  # as a crash
        browser.close()
    answer = next(iter(served.journal.latest()))
    assert answer.answer["total"] == 2 and answer.answer["reasons"] == "no <ball>" and answer.seconds > 0
    browser = Browser(tmp_path / "profile2")
    try:
        browser.open(url)
        browser.wait_for(shown("2"))
        browser.open(served.server.urls()["ben"])
        browser.wait_for(shown("1"))
        assert browser.evaluate(COUNT) == "0 of 6"
    finally:
        browser.close()


def test_choosing_by_keys(page, make, tmp_path):
    study = make("pairwise")
    served = page(study)
    browser = Browser(tmp_path / "profile")
    try:
        browser.open(served.server.urls()["anna"])
        for place, key in enumerate("abt", 1):
            browser.wait_for(shown(str(place), "ab"))
            browser.press(key)
            browser.press("Enter")
        browser.wait_for("!document.getElementById('end').hidden")
        assert not browser.complaints()
    finally:
        browser.close()
    order = study.order("anna")
    kept = {one.item: one.answer["choice"] for one in served.journal.latest()}
    assert [kept[study.items[index].id] for index in order] == ["a", "b", "tie"]
