"""The page and the Markdown file: nothing in a result can become more than text, and nothing outside is needed."""

import html
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import Browser, find_browser

from cogvx.evaluation.report import build_report, make_run, write_report
from cogvx.evaluation.report.clips import Shown
from cogvx.evaluation.report.html import page
from cogvx.evaluation.report.markdown import markdown, plain
from cogvx.evaluation.report.sources import Source
from cogvx.evaluation.result import Result

HOSTILE = "</style></title></dd>'\"><script>alert(1)</script><img src=https://evil.example/x onerror=a(2)>|`*_[a](b)"
STILL = Shown("a", "clip.mp4", "a prompt", "data:video/mp4;base64,AAAA")


class Elements(HTMLParser):
    """The elements of a page and their attributes, and the links that it would follow by itself."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.loads, self.attributes = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.append(name)
            if name in ("src", "srcset", "poster", "data", "action", "background") or (name == "href" and tag != "a"):
                self.loads.append(value)


def hostile():
    names = {HOSTILE[:70]: 1.0, "x": 2.0}
    rows = [{"input": HOSTILE, "text": HOSTILE}]
    result = Result(f"new{HOSTILE}", names, 1, rows, {HOSTILE: HOSTILE}, {"name": HOSTILE, "b": {HOSTILE: [HOSTILE]}})
    runs = [make_run(HOSTILE, {"loss": ([1], [1.0]), "val_loss": ([1], [1.0])}, smooth=list)]
    report = build_report([Source(1, HOSTILE[:80], Path(HOSTILE), result)], runs, title=HOSTILE)
    report.remarks.append(HOSTILE)
    report.clips.append([Shown(HOSTILE, HOSTILE, HOSTILE, "data:video/mp4;base64,AAAA")])
    return report


def test_the_page_escapes_everything():
    text = page(hostile())
    found = Elements(text)
    assert not found.tags & {"script", "img", "link", "iframe", "object", "base", "form"}
    assert not [name for name in found.attributes if name.startswith("on")]
    assert found.loads == ["data:video/mp4;base64,AAAA"]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text and text.count("</style>") == 1


def test_the_markdown_escapes_everything():
    text = markdown(hostile(), [("loss.png", HOSTILE)])
    # Outside of escapes nothing starts a tag, a link or a cell.
    loose = re.sub(r"\\.", "", text)
    assert "<" not in loose and "](b)" not in loose and "`" not in loose
    assert re.findall(r"\]\((.*?)\)", loose) == ["loss.png"]
    for line in text.splitlines():
        if line.startswith("| 1"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 4


def test_plain_text_stays_readable():
    assert plain("CogVideoX-5B at 480x720, 8 fps (v2)") == "CogVideoX-5B at 480x720, 8 fps (v2)"
    assert plain("- a\n# b|c") == "\\- a # b\\|c" and plain("https://x") == "https:\\//x"


def test_the_page_is_whole(vbench, source):
    other = source("b", metric="storyboard", value=0.5, more={"exact": {"accuracy": 0.5, "asked": 10}})
    report = build_report([vbench("a", {"scene": 0.4}), other])
    report.clips.append([STILL, Shown("b", "other.mp4", "a prompt", "clips/0123.mp4")])
    text = page(report)
    found = Elements(text)
    assert found.loads == [STILL.url, "clips/0123.mp4"]
    assert not re.search(r"url\(|@import|https?://", text)
    assert "script" not in found.tags and "default-src 'none'" in html.unescape(text)
    for wanted in ("Table 3 of the paper", "R1", "n 2,150", "protocol", "suite_sha256", "Figure 2", "55.44", "50.00"):
        assert wanted in text
    # The tables say the same in Markdown.
    lines = markdown(report).splitlines()
    assert next(line for line in lines if line.startswith("| a |")).split("|")[2:5] == [" R2 ", " 2,150 ", " 100 % "]
    assert any("*CogVideoX-5B (paper, Table 3)*" in line and "55.44" in line for line in lines)
    widths = {line.count("|") for line in lines if line.startswith("| ") and "paper, Table 3" in line}
    assert len(widths) == 1


def test_every_number_names_its_result_and_what_is_otherwise(source):
    value = {"value": 0.5, "exact": {"accuracy": 0.25, "asked": 4}, "attributes": {"size": {"accuracy": 1, "asked": 3}}}
    report = build_report([source("a", metric="storyboard", value=value.pop("value"), n=4, more=value)])
    text = page(report)
    assert '<th scope="row">a<small><a href="#r1" title="a network">R1</a>, n 4, 100 %</small></th>' in text
    assert '<span class="value">100.00</span><small>n 3</small>' in text
    assert '<dl id="r1">' in text and "<dt>frames</dt><dd>16</dd>" in text


def test_a_report_is_written(vbench, tmp_path):
    pytest.importorskip("matplotlib")
    report = build_report([vbench("a", {"scene": 0.4, "color": 0.2, "human_action": 0.9})])
    report.clips.append([STILL, Shown("a", "b.mp4", "", "clips/b.mp4", b"clip")])
    done = write_report(report, tmp_path / "out")
    names = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert names == ["clips/b.mp4", "index.html", "radar-generation.png", "radar-paper.png", "report.md"]
    assert [path.name for path in done.charts] == ["radar-paper.png", "radar-generation.png"]
    text = (tmp_path / "out" / "report.md").read_text()
    assert all(f"]({path.name})" in text for path in done.charts)


@pytest.mark.skipif(find_browser() is None, reason="needs Chromium")
def test_a_browser_shows_it_without_a_word(tmp_path, vbench):
    import numpy as np

    from cogvx.data.video import write_clip
    from cogvx.evaluation.report import Wanted, playable

    frames = np.random.default_rng(0).integers(0, 255, (9, 32, 48, 3), dtype=np.uint8)
    write_clip(tmp_path / "a.mkv", frames, 8.0)
    report = build_report([vbench(f"a system with a name {'x' * 40}", {"scene": 0.4, "human_action": 0.9})])
    wanted = [[Wanted("a", tmp_path / "a.mkv", "a prompt")], [Wanted("b", tmp_path / "a.mkv")]]
    size = len(playable(wanted[:1], inline_bytes=0, on_failure=print)[0][0].data)
    report.clips.extend(playable(wanted, inline_bytes=size, on_failure=print))
    assert [group[0].url[:5] for group in report.clips] == ["data:", "clips"]
    write_report(report, tmp_path / "out", png=False)
    browser = Browser(tmp_path / "profile", width=390)
    try:
        browser.open((tmp_path / "out" / "index.html").as_uri())
        # Both clips play, the one in the page and the one beside it; nothing is wider than a phone.
        ready = "[...document.querySelectorAll('video')].every(one => one.readyState >= 2 && one.videoWidth == 48)"
        assert browser.wait_for(f"document.querySelectorAll('video').length == 2 && {ready}")
        assert browser.evaluate("document.documentElement.scrollWidth") <= 390
        assert browser.evaluate("document.querySelectorAll('svg').length") >= 1
        browser.evaluate("document.querySelector('a[href=\"#r1\"]').click()")
        assert browser.wait_for("document.querySelector('details').open")
        assert browser.complaints() == []
    finally:
        browser.close()
