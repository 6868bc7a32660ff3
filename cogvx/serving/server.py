"""A small web server for people that a user trusts with an address: every request carries its rater's token.

It listens on this machine alone unless it is told otherwise. Files are named by the site, never by a request. What a
page posts must come from the page itself: with the token in a header of its own, which no other site can send, and with
this server as its origin. Pages load nothing from anywhere and are framed by nobody (Content-Security-Policy).
"""

import contextlib
import errno
import html
import ipaddress
import json
import os
import secrets
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from cogvx.errors import CogvxError, UsageError
from cogvx.files import clean
from cogvx.serving.ranges import wanted_range
from cogvx.serving.replies import Data, Html, Media, NoSuchThing, Reply, Request, Site, WrongRequest

TOKEN_HEADER = "X-Cogvx-Token"
MAX_BODY = 1 << 16  # bytes that may be posted
_MAX_CONNECTIONS = 64
_IDLE_SECONDS = 30.0  # after which a connection that says nothing is closed
_PIECE = 1 << 18  # bytes of a file that are in memory
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",  # the token is in the address
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self'; media-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

OnError = Callable[[str, CogvxError], None]


class PageServer:
    """Serves a site to its raters."""

    def __init__(
        self,
        site: Site,
        tokens: Mapping[str, str],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        on_error: OnError | None = None,
    ) -> None:
        """Take the port; nothing is answered yet.

        Args:
            site: What is served.
            tokens: Token -> rater.
            host: Address to listen on.
            port: 0 takes a free one.
            on_error: Told of what could not be shown: the path asked for, and why.

        Raises:
            UsageError: The address is none of this machine's, or the port is taken.
        """
        self._site, self._tokens, self._on_error = site, dict(tokens), on_error
        try:
            self._http = _Http((host, port), self)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                why = f"port {port} is in use; name another with --port, 0 takes a free one"
            else:
                why = error.strerror or str(error)
            raise UsageError(f"cannot listen on {clean(host)}: {why}") from error
        except OverflowError as error:
            raise UsageError(f"--port {port}: ports are 0 to 65535") from error
        self.host, self.port = host, int(self._http.server_address[1])
        self._thread: threading.Thread | None = None

    def urls(self) -> dict[str, str]:
        """Return rater -> address of the page."""
        shown = "127.0.0.1" if self.host in ("", "0.0.0.0") else "::1" if self.host == "::" else self.host
        place = f"[{shown}]" if ":" in shown else shown
        return {rater: f"http://{place}:{self.port}/?token={quote(token)}" for token, rater in self._tokens.items()}

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)

    def wait(self) -> None:
        """Return when stop() was called, or raise what interrupts this thread."""
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(0.5)

    def start(self) -> None:
        """Answer in a thread of its own."""
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.1,), name="pages", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Answer no more. What was posted is then either written down or was not answered yet."""
        if self._thread is not None:
            self._http.shutdown()
            self._thread.join()
            self._thread = None
        self._http.server_close()
        self._http.hang_up()

    def rater_of(self, token: str) -> str | None:
        """Return whose token it is; every one is compared in the same time."""
        found = None
        for known, rater in self._tokens.items():
            if secrets.compare_digest(known.encode(), token.encode("utf-8", "replace")):
                found = rater
        return found

    def reply(self, request: Request, *, post: bool) -> Reply:
        """Return what the site answers."""
        return self._site.post(request) if post else self._site.get(request)

    def tell(self, path: str, error: CogvxError) -> None:
        """Report what could not be shown."""
        if self._on_error is not None:
            self._on_error(path, error)


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own, which no other can reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], pages: PageServer) -> None:
        self.pages = pages
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._free = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        self._open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's own would look its name up, which may take long
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        self._open.add(request)
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._open.discard(request)
            self._free.release()

    def hang_up(self) -> None:
        """End the connections that browsers keep open for their next request."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that broke; a fault of ours goes on to stderr."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    server: _Http

    def version_string(self) -> str:
        return "cogvx"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class calls it so
        """Write no log: addresses hold tokens."""

    def do_GET(self) -> None:
        self._answer(post=False)

    def do_HEAD(self) -> None:
        self._answer(post=False)

    def do_POST(self) -> None:
        self._answer(post=True)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what the base class could not read, without repeating any of it."""
        self.close_connection = True
        self._send(code, "text/plain; charset=utf-8", f"{HTTPStatus(code).phrase}\n".encode())

    def _answer(self, *, post: bool) -> None:
        try:
            self._reply(post=post)
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def _reply(self, *, post: bool) -> None:
        body = self._body() if post else None
        if post and body is None:
            return
        if not self._is_named_right():
            return self._refuse(421, "ask for this server by its own name")
        parts = urlsplit(self.path)
        if parts.path == "/favicon.ico":  # browsers ask for it by themselves, without the token
            return self._begin(204, "image/x-icon", 0, {"Cache-Control": "max-age=86400"})
        query = dict(parse_qsl(parts.query, max_num_fields=20) if len(parts.query) < 2000 else [])
        in_query = query.pop("token", "")
        # A page of another site can make the browser post, but not with a header of ours.
        token = self.headers.get(TOKEN_HEADER, "" if post else in_query)
        rater = self.server.pages.rater_of(token)
        if rater is None:
            return self._refuse(403, "the token is missing or wrong; open the address that cogvx printed")
        if post and not self._is_same_origin():
            return self._refuse(403, "this came from another site")
        path = tuple(unquote(part) for part in parts.path.split("/") if part)
        try:
            value = json.loads(body) if body is not None else None
        except (ValueError, RecursionError):
            return self._refuse(400, "what was posted is no JSON")
        try:
            reply = self.server.pages.reply(Request(rater, path, query, value), post=post)
        except NoSuchThing:
            return self._refuse(404, "there is no such thing")
        except WrongRequest as error:
            return self._refuse(400, str(error))
        except CogvxError as error:
            self.server.pages.tell("/".join(path), error)
            return self._refuse(422, "this cannot be shown; the window where cogvx runs says why")
        self._send_reply(reply)

    def _body(self) -> bytes | None:
        """Return what was posted; None if it was refused."""
        length = self.headers.get("Content-Length", "")
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if "Transfer-Encoding" in self.headers or not length.isdecimal():
            self.close_connection = True
            self._refuse(411, "say how long it is")
        elif int(length[:12]) > MAX_BODY:
            self.close_connection = True
            self._refuse(413, f"more than {MAX_BODY} bytes")
        else:
            body = self.rfile.read(int(length))
            if kind == "application/json":
                return body
            self._refuse(415, "post JSON")
        return None

    def _is_named_right(self) -> bool:
        """Whether it is asked for by a name of this machine: a foreign one may be an attack (DNS rebinding)."""
        pages = self.server.pages
        if not pages.is_local:
            return True  # it may have any name; the token guards it
        name, _, port = self.headers.get("Host", "").rpartition(":")
        return is_loopback(name) and port == str(pages.port)

    def _is_same_origin(self) -> bool:
        origin = self.headers.get("Origin")
        site = self.headers.get("Sec-Fetch-Site", "same-origin")
        return origin in (None, f"http://{self.headers.get('Host', '')}") and site == "same-origin"

    def _refuse(self, code: int, why: str) -> None:
        if self.headers.get("Accept", "").startswith("text/html"):
            text = f"<!doctype html><title>cogvx</title><p>{html.escape(clean(why))}</p>"
            self._send(code, "text/html; charset=utf-8", text.encode())
        else:
            self._send(code, "application/json", json.dumps({"error": clean(why)}).encode())

    def _send_reply(self, reply: Reply) -> None:
        if isinstance(reply, Media):
            self._send_file(reply)
        elif isinstance(reply, Data):
            body = json.dumps(reply.value, ensure_ascii=False, allow_nan=False)
            self._send(200, "application/json", body.encode("utf-8", "replace"))
        else:
            assert isinstance(reply, Html)
            nonce = secrets.token_urlsafe(18)
            text = reply.text.replace("{{nonce}}", nonce)
            self._send(200, "text/html; charset=utf-8", text.encode(), policy=_POLICY.format(nonce=nonce))

    def _send(self, code: int, media_type: str, body: bytes, *, policy: str = "default-src 'none'") -> None:
        self._begin(code, media_type, len(body), {"Content-Security-Policy": policy, "Cache-Control": "no-store"})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_file(self, media: Media) -> None:
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(open(media.path, "rb"))
            except OSError:
                return self._refuse(404, "the file is gone")
            size, mark = _size_and_mark(file)
            asked = self.headers.get("Range") if self.headers.get("If-Range") in (None, mark) else None
            headers = {"Accept-Ranges": "bytes", "ETag": mark, "Cache-Control": "private, no-cache"}
            headers["Content-Security-Policy"] = "default-src 'none'"
            try:
                part = wanted_range(asked, size)
            except ValueError:
                return self._begin(416, media.media_type, 0, headers | {"Content-Range": f"bytes */{size}"})
            start, stop = part or (0, size)
            if part is not None:
                headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
            self._begin(200 if part is None else 206, media.media_type, stop - start, headers)
            if self.command == "HEAD":
                return None
            file.seek(start)
            while start < stop and (piece := file.read(min(_PIECE, stop - start))):
                self.wfile.write(piece)
                start += len(piece)
            if start < stop:  # the file became shorter: what was promised cannot be kept
                self.close_connection = True
        return None

    def _begin(self, code: int, media_type: str, length: int, headers: Mapping[str, str]) -> None:
        self.send_response_only(code)
        for name, value in {**_HEADERS, **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(length))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()


def _size_and_mark(file: Any) -> tuple[int, str]:
    """Return the size of an open file, and a mark that changes when it does."""
    about = os.fstat(file.fileno())
    return about.st_size, f'"{about.st_size:x}-{about.st_mtime_ns:x}"'
