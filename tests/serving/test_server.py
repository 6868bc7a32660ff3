"""Who gets in, what goes out, and what is refused."""

import http.client
import json
import socket
import threading

import pytest

from cogvx.errors import InputError, UsageError
from cogvx.serving.replies import Data, Html, Media, NoSuchThing, WrongRequest
from cogvx.serving.server import MAX_BODY, TOKEN_HEADER, PageServer, is_loopback

TOKENS = {"secret-of-anna": "anna", "secret-of-ben": "ben"}


class ToySite:
    """A page, a file, and a list of what was posted."""

    def __init__(self, folder):
        self.file = folder / "clip.mp4"
        self.file.write_bytes(bytes(range(256)) * 8)
        self.posted = []

    def get(self, request):
        match request.path:
            case ():
                return Html('<script nonce="{{nonce}}"></script>')
            case ("whoami",):
                return Data({"rater": request.rater, "query": dict(request.query)})
            case ("clip",):
                return Media(self.file, "video/mp4")
            case ("broken",):
                raise InputError("cannot read /home/anna/clip.mp4")
        raise NoSuchThing

    def post(self, request):
        if request.path != ("vote",):
            raise NoSuchThing
        if request.body != {"good": 1}:
            raise WrongRequest("a vote is good")
        self.posted.append(request.rater)
        return Data(len(self.posted))


@pytest.fixture
def served(tmp_path):
    told = []
    server = PageServer(ToySite(tmp_path), TOKENS, on_error=lambda path, error: told.append((path, str(error))))
    server.told = told
    server.start()
    yield server
    server.stop()


def ask(server, method, path, body=None, *, token="secret-of-anna", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body=body, headers=fields | ({TOKEN_HEADER: token} if token else {}))
    reply = connection.getresponse()
    data = reply.read()
    connection.close()
    return reply.status, dict(reply.getheaders()), data


def post(server, value, **headers):
    return ask(server, "POST", "/vote", json.dumps(value), **{"Content_Type": "application/json", **headers})


def test_the_token_says_who_asks(served):
    assert json.loads(ask(served, "GET", "/whoami?x=1")[2]) == {"rater": "anna", "query": {"x": "1"}}
    assert json.loads(ask(served, "GET", "/whoami?token=secret-of-ben", token=None)[2])["rater"] == "ben"
    for path, token in (("/whoami", None), ("/whoami", "wrong"), ("/?token=", None), ("/clip", "secret-of-ann")):
        status, _, body = ask(served, "GET", path, token=token)
        assert status == 403 and b"token" in body
    assert served.urls() == {"anna": f"http://127.0.0.1:{served.port}/?token=secret-of-anna",
                             "ben": f"http://127.0.0.1:{served.port}/?token=secret-of-ben"}  # fmt: skip


def test_pages_may_load_nothing_from_elsewhere(served):
    one, two = (ask(served, "GET", "/") for _ in range(2))
    policy = one[1]["Content-Security-Policy"]
    nonce = policy.partition("'nonce-")[2].partition("'")[0]
    assert one[0] == 200 and one[2] == f'<script nonce="{nonce}"></script>'.encode() and one[2] != two[2]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert one[1]["Referrer-Policy"] == "no-referrer" and one[1]["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in one[1]


def test_posts_come_from_the_page_itself(served):
    own = f"http://127.0.0.1:{served.port}"
    assert post(served, {"good": 1}, Origin=own, Sec_Fetch_Site="same-origin")[0] == 200
    assert post(served, {"good": 1})[0] == 200
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec_Fetch_Site": "cross-site"}):
        assert post(served, {"good": 1}, **headers)[0] == 403
    by_form = ask(served, "POST", "/vote?token=secret-of-anna", "{}", token=None, Content_Type="application/json")
    assert by_form[0] == 403
    assert post(served, {"good": 1}, Content_Type="text/plain")[0] == 415
    assert served._site.posted == ["anna", "anna"]


def test_wrong_posts(served):
    assert post(served, {"good": 2})[:1] == (400,) and b"a vote is good" in post(served, {"good": 2})[2]
    for body in ("{", "[" * 50_000, ""):
        assert ask(served, "POST", "/vote", body, Content_Type="application/json")[0] == 400
    assert ask(served, "POST", "/vote", "x" * (MAX_BODY + 1), Content_Type="application/json")[0] == 413
    assert ask(served, "POST", "/nothing", "{}", Content_Type="application/json")[0] == 404
    assert ask(served, "PUT", "/vote", "{}")[0] == 501
    assert not served._site.posted


def test_foreign_names_of_this_server_are_refused(served):
    assert ask(served, "GET", "/whoami", Host=f"localhost:{served.port}")[0] == 200
    for host in ("evil.example", f"evil.example:{served.port}", "127.0.0.1:1", f"127.0.0.1.evil.example:{served.port}"):
        assert ask(served, "GET", "/whoami", Host=host)[0] == 421


def test_files_in_parts(served):
    whole = served._site.file.read_bytes()
    status, headers, data = ask(served, "GET", "/clip")
    assert (status, data, headers["Content-Type"], headers["Accept-Ranges"]) == (200, whole, "video/mp4", "bytes")
    status, headers, data = ask(served, "GET", "/clip", Range="bytes=10-19")
    assert (status, data, headers["Content-Range"]) == (206, whole[10:20], "bytes 10-19/2048")
    assert ask(served, "GET", "/clip", Range="bytes=-5")[2] == whole[-5:]
    status, headers, data = ask(served, "GET", "/clip", Range="bytes=5000-")
    assert (status, data, headers["Content-Range"]) == (416, b"", "bytes */2048")
    mark = ask(served, "HEAD", "/clip")[1]["ETag"]
    assert ask(served, "GET", "/clip", Range="bytes=0-0", If_Range=mark)[0] == 206
    assert ask(served, "GET", "/clip", Range="bytes=0-0", If_Range='"old"')[0] == 200
    assert ask(served, "HEAD", "/clip")[1]["Content-Length"] == "2048" and ask(served, "HEAD", "/clip")[2] == b""
    served._site.file.unlink()
    assert ask(served, "GET", "/clip")[0] == 404


@pytest.mark.parametrize("path", ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/clip/../clip.mp4", "//etc/passwd",
                                  "/clip%00", "/clip/clip.mp4", "/..%5c..%5cwindows"])  # fmt: skip
def test_no_path_leads_to_a_file(served, path):
    assert ask(served, "GET", path)[0] == 404


def test_what_cannot_be_shown_is_told_to_the_owner_alone(served):
    status, _, body = ask(served, "GET", "/broken")
    assert status == 422 and b"anna" not in body and served.told == [("broken", "cannot read /home/anna/clip.mp4")]


def test_nonsense_is_answered_and_harms_nobody(served):
    for sent in (
        b"\x00\xff\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n",
    ):
        with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.makefile("rb").read()
        assert b"Traceback" not in answer and sent[:20] not in answer
    assert ask(served, "GET", "/whoami")[0] == 200


def test_two_raters_at_once(served):
    results = []

    def vote(token):
        results.extend(post(served, {"good": 1}, token=token)[0] for _ in range(20))

    threads = [threading.Thread(target=vote, args=(token,)) for token in TOKENS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [200] * 40
    assert served._site.posted.count("anna") == served._site.posted.count("ben") == 20


def test_addresses(tmp_path, served):
    site = ToySite(tmp_path)
    with pytest.raises(UsageError, match=f"port {served.port} is in use"):
        PageServer(site, TOKENS, port=served.port)
    with pytest.raises(UsageError, match="cannot listen on"):
        PageServer(site, TOKENS, host="203.0.113.7")
    with pytest.raises(UsageError, match="ports are 0 to 65535"):
        PageServer(site, TOKENS, port=70_000)
    assert [is_loopback(name) for name in ("127.0.0.1", "::1", "[::1]", "localhost", "127.8.8.8")] == [True] * 5
    assert [is_loopback(name) for name in ("0.0.0.0", "::", "192.168.0.1", "", "example.com", "1")] == [False] * 6


def test_a_server_that_stops_hangs_up(tmp_path):
    server = PageServer(ToySite(tmp_path), TOKENS)
    server.start()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", "/whoami", headers={TOKEN_HEADER: "secret-of-anna"})
    assert connection.getresponse().read()
    server.stop()
    with pytest.raises((http.client.HTTPException, OSError)):
        connection.request("GET", "/whoami", headers={TOKEN_HEADER: "secret-of-anna"})
        connection.getresponse()
    connection.close()
