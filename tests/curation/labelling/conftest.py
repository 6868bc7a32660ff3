"""A few clips of each kind, and a page that serves them."""

import http.client
import json

import numpy as np
import pytest

from cogvx.curation.labelling import open_label_page
from cogvx.data.labels import NEGATIVE_LABELS
from cogvx.data.video import write_clip

FRAMES = (np.arange(24, dtype=np.uint8)[:, None, None, None] * 10 + np.zeros((1, 48, 64, 3), np.uint8)).astype(np.uint8)
NONE = dict.fromkeys(NEGATIVE_LABELS, 0)


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """A folder with a manifest of a mp4, a mkv, a part of a mp4, an image, and a file that is no clip."""
    folder = tmp_path_factory.mktemp("clips")
    write_clip(folder / "a.mp4", FRAMES, 8.0)
    write_clip(folder / "b.mkv", FRAMES, 8.0)
    write_clip(folder / "c.webp", FRAMES[:1], 8.0)
    (folder / "d.mkv").write_bytes(b"nothing")
    rows = [{"video": "a.mp4", "caption": "<b>bold</b> & plain"}, {"video": "b.mkv"}, {"latents": "x.safetensors"}]
    rows += [{"video": "a.mp4", "start": 1.0, "end": 2.0}, {"image": "c.webp"}, {"video": "d.mkv"}]
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


class Visitor:
    """What a rater's browser asks of the page."""

    def __init__(self, page, rater):
        self.port = page.server.port
        self.token = page.server.urls()[rater].partition("token=")[2]

    def ask(self, path, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers |= {"X-Cogvx-Token": self.token} | ({} if body is None else {"Content-Type": "application/json"})
        connection.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body), headers)
        reply = connection.getresponse()
        data = reply.read()
        connection.close()
        return reply.status, json.loads(data) if reply.getheader("Content-Type") == "application/json" else data

    def label(self, index, **faults):
        status, value = self.ask(f"/label/{index}", {"labels": NONE | faults, "seconds": 1.5})
        assert status == 200, value
        return value


@pytest.fixture
def visitor():
    return Visitor


@pytest.fixture
def page(clips, tmp_path):
    """Give a function that serves the clips to some raters on a database in tmp_path."""
    open_pages = []

    def serve(*raters, **settings):
        manifest = settings.pop("manifest", clips / "m.jsonl")
        settings = {"port": 0, "cache": tmp_path / "cache", **settings}
        page = open_label_page(manifest, tmp_path / "labels.sqlite", raters=raters or ("anna",), **settings)
        page.server.start()
        open_pages.append(page)
        return page

    yield serve
    for page in open_pages:
        page.close()
