"""Clips of three systems, studies made of them, and pages that serve those."""

import http.client
import json

import numpy as np
import pytest

from cogvx.data.video import write_clip
from cogvx.evaluation.human import make_study, open_study_page, read_system
from cogvx.evaluation.human.answers import ASPECTS

SYSTEMS = ("secretone", "secrettwo", "secretthree")
PROMPTS = ("a red <b>ball</b> falls", "a boat", "a cat & a dog")


@pytest.fixture(scope="session")
def sources(tmp_path_factory):
    """A folder with a manifest of each system; their clips name them in their tags and differ in brightness."""
    folder = tmp_path_factory.mktemp("systems")
    for number, system in enumerate(SYSTEMS):
        (folder / system).mkdir()
        rows = []
        for index, prompt in enumerate(PROMPTS):
            frames = np.full((6, 32, 48, 3), 40 * number + 20 * index, np.uint8)
            comment = json.dumps({"model": system, "prompt": prompt})
            write_clip(folder / system / f"{system}-{index}.mp4", frames, 8.0, comment=comment)
            rows.append({"video": f"{system}-{index}.mp4", "prompt": prompt})
        (folder / system / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="session")
def make(sources, tmp_path_factory):
    """Give a function that makes a study of some of the systems; one of the same settings only once."""
    made = {}

    def study(mode, count=2):
        if (mode, count) not in made:
            systems = [read_system(name, sources / name) for name in SYSTEMS[:count]]
            made[mode, count] = make_study(systems, tmp_path_factory.mktemp("study") / "study", mode=mode, seed=1)
        return made[mode, count]

    return study


class Visitor:
    """What a rater's browser asks of the page."""

    def __init__(self, page, rater):
        self.port = page.server.port
        self.token = page.server.urls()[rater].partition("token=")[2]

    def ask(self, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"X-Cogvx-Token": self.token} | ({} if body is None else {"Content-Type": "application/json"})
        connection.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body), headers)
        reply = connection.getresponse()
        data = reply.read()
        connection.close()
        return reply.status, json.loads(data) if reply.getheader("Content-Type") == "application/json" else data


@pytest.fixture
def visitor():
    return Visitor


@pytest.fixture
def rating():
    """Give a function that returns a rating: all aspects 1 but for those given."""

    def rating(total=5, reasons="", **scores):
        return {"scores": {one.name: 1 for one in ASPECTS} | scores, "total": total, "reasons": reasons, "seconds": 2}

    return rating


@pytest.fixture
def page(tmp_path):
    """Give a function that serves a study to some raters on a database in tmp_path."""
    open_pages = []

    def serve(study, *raters, **settings):
        settings = {"port": 0, "database": tmp_path / "votes.sqlite", **settings}
        page = open_study_page(study.folder, raters=raters or ("anna",), **settings)
        page.server.start()
        open_pages.append(page)
        return page

    yield serve
    for page in open_pages:
        page.close()
