"""An OpenAI-compatible server on this machine that can fail in every way that real ones do.

    with MockOpenAI() as server:
        server.answer = lambda body: "a text made of the request"
        server.script("500", "429")          # what becomes of the next requests; then all is well again
        server.fault = lambda body, number: "hang" if number % 10 == 0 else None

`server.url` is the base URL, `server.requests` what came: {"path", "headers", "body"}.
"""

import json
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODES = (
    *("429", "500", "hang", "cut", "empty", "length", "content_filter", "refusal", "html", "401", "400", "404"),
    *("redirect", "moved", "huge", "drip", "reset", "short", "echo-key", "null", "not-json", "slow-head"),
)


def said(body):
    """All texts of a request, the images left out."""
    texts = []
    for message in body["messages"]:
        content = message["content"]
        parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
        texts += [part["text"] for part in parts if part["type"] == "text"]
    return texts


def images(body):
    """The data URLs of a request's images."""
    contents = [message["content"] for message in body["messages"] if isinstance(message["content"], list)]
    return [part["image_url"]["url"] for parts in contents for part in parts if part["type"] == "image_url"]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):  # a client that went away is what some tests want
        pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.mock._take(self, None)

    def do_POST(self):
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.mock._take(self, json.loads(data))


class MockOpenAI:
    """The server; see the module.

    Attributes:
        models: What /models lists.
        answer: Gives the text of an answer: a function of the request's body.
        fault: Gives the mode of a request's failure, or None: a function of its body and its number from 0.
        refuses: Names of parameters that it answers with HTTP 400.
        retry_after: What it says with a 429.
        key: Answers 401 to any other.
    """

    def __init__(self):
        self.models = ["mock-1"]
        self.answer = lambda body: f"answer to: {said(body)[-1]}"
        self.fault = None
        self.refuses = set()
        self.retry_after = "0"
        self.key = None
        self.requests = []
        self._script = deque()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        handler = type("Handler", (_Handler,), {"mock": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def script(self, *modes):
        """Let the next requests fail so, one after the other; None: that one is answered."""
        self._script.extend(modes)

    def chats(self):
        """The bodies of the questions that came."""
        return [request["body"] for request in self.requests if request["path"].endswith("/chat/completions")]

    def close(self):
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _take(self, handler, body):
        with self._lock:
            number = len(self.requests)
            self.requests.append({"path": handler.path, "headers": dict(handler.headers), "body": body})
            mode = self._script.popleft() if self._script else None
        if mode is None and self.fault is not None and body is not None:
            mode = self.fault(body, number)
        if mode is None and self.key and handler.headers.get("Authorization") != f"Bearer {self.key}":
            mode = "401"
        if mode is not None:
            return self._fail(handler, mode, body)
        if handler.path.endswith("/models"):
            rows = [{"id": name, "object": "model"} for name in self.models]
            return _send(handler, 200, {"object": "list", "data": rows})
        if not handler.path.endswith("/chat/completions") or body is None:
            return _send(handler, 404, {"error": {"message": f"no such path: {handler.path}"}})
        for name in sorted(self.refuses & set(body)):
            error = {"message": f"Unsupported parameter: '{name}' is not supported with this model.", "param": name}
            return _send(handler, 400, {"error": error})
        return _send(handler, 200, _completion(body, self.answer(body)))

    def _fail(self, handler, mode, body):
        body = body or {"model": "mock-1", "messages": []}
        good = _completion(body, "what was to be said")
        if mode == "429":
            _send(handler, 429, {"error": {"message": "slow down"}}, {"Retry-After": self.retry_after})
        elif mode in ("500", "400", "404"):
            _send(handler, int(mode), {"error": {"message": f"mock failure {mode}"}})
        elif mode == "401":
            _send(handler, 401, {"error": {"message": "wrong key"}})
        elif mode == "echo-key":
            _send(handler, 401, {"error": {"message": f"bad header: {handler.headers.get('Authorization')}"}})
        elif mode == "hang":
            self._stop.wait(60)
        elif mode == "slow-head":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            self._drip(handler)
        elif mode == "drip":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            self._drip(handler)
        elif mode == "cut":
            _raw(handler, 200, json.dumps(good).encode()[:-20])
        elif mode == "short":
            data = json.dumps(good).encode()
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(data) + 50) + data)
        elif mode == "empty":
            _send(handler, 200, good | {"choices": []})
        elif mode == "null":
            good["choices"][0]["message"]["content"] = None
            _send(handler, 200, good)
        elif mode in ("length", "content_filter"):
            good["choices"][0]["finish_reason"] = mode
            _send(handler, 200, good)
        elif mode == "refusal":
            good["choices"][0]["message"] |= {"content": None, "refusal": "I will not say that."}
            _send(handler, 200, good)
        elif mode == "html":
            _raw(handler, 200, b"<!DOCTYPE html><html>please log in</html>", "text/html")
        elif mode == "not-json":
            _raw(handler, 200, b"[" * 100_000)
        elif mode == "redirect":
            _raw(handler, 307, b"", more={"Location": "http://localhost:9/v1/chat/completions"})
        elif mode == "moved":  # to another path of the same host
            _raw(handler, 308, b"", more={"Location": handler.path})
        elif mode == "huge":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            for _ in range(1024):
                handler.wfile.write(b" " * (1 << 16))
        elif mode != "reset":
            raise AssertionError(f"no such mode: {mode}")
        handler.close_connection = True

    def _drip(self, handler):
        end = time.monotonic() + 60
        while not self._stop.wait(0.05) and time.monotonic() < end:
            handler.wfile.write(b" ")
            handler.wfile.flush()


def _completion(body, text):
    usage = {"prompt_tokens": 7, "completion_tokens": len(text.split()), "total_tokens": 7 + len(text.split())}
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "x", "object": "chat.completion", "model": body["model"], "choices": [choice], "usage": usage}


def _send(handler, status, value, more=None):
    _raw(handler, status, json.dumps(value).encode(), more=more)


def _raw(handler, status, data, kind="application/json", more=None):
    handler.send_response(status)
    for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(more or {})}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(data)
