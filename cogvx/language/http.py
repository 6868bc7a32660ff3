"""One JSON request to a server that may hang, drip, lie or never end.

Built on the standard library: what is needed is one POST, and what the usual clients lack (one limit in seconds for all
of it, a limit in bytes, redirects that stay on their host) would have to be added to them too.
"""

import email.utils
import functools
import http.client
import io
import ipaddress
import json
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

from cogvx import __version__
from cogvx.errors import UsageError

MAX_BYTES = 8 << 20
_CHUNK = 1 << 16


class Unreachable(Exception):
    """Nobody answered in time, or what came was no HTTP.

    Attributes:
        retry: Whether trying again may help.
        nobody: Whether no connection was made at all.
    """

    def __init__(self, text: str, *, retry: bool = True, nobody: bool = False) -> None:
        super().__init__(text)
        self.retry = retry
        self.nobody = nobody


class TooLate(Unreachable):
    """The time was over before all of the reply was there."""


@dataclass(frozen=True)
class Reply:
    """What a server sent.

    Attributes:
        status: HTTP status; redirects that were not followed come back as they are.
        body: Its bytes.
        retry_after: Seconds that it asks to wait, if it does.
        location: Where it points to, if it redirects.
    """

    status: int
    body: bytes
    retry_after: float | None = None
    location: str | None = None

    def json(self) -> Any:
        """Return the body as JSON.

        Raises:
            ValueError: It is something else, or was cut off.
        """
        try:
            return json.loads(self.body)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error


def check_url(url: str) -> urllib.parse.SplitResult:
    """Return the parts of an endpoint's base URL.

    Raises:
        UsageError: It is not http or https, names no host, or carries a password, a query or a fragment.
    """
    try:
        parts = urllib.parse.urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise UsageError("the URL of the language model is malformed") from error
    if parts.username is not None or parts.password is not None:
        raise UsageError("the URL of the language model holds a name or a password; the key belongs in the environment")
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise UsageError(f"{url}: the URL of a language model begins with http:// or https:// and names a host")
    if parts.query or parts.fragment or any(letter.isspace() for letter in parts.geturl()):
        raise UsageError(f"{parts.scheme}://{parts.netloc}{parts.path}: nothing may follow the path of the URL")
    return parts


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, so that nobody listens in between."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def send_json(
    url: str,
    payload: Any = None,
    *,
    headers: dict[str, str] | None = None,
    seconds: float,
    max_bytes: int = MAX_BYTES,
) -> Reply:
    """POST a JSON value, or GET if there is none, and return what comes back whatever its status.

    Args:
        url: http or https.
        payload: What to send; None: a GET.
        headers: More headers; they are not sent to other hosts.
        seconds: For all of it: connection, request, head and body of the reply.
        max_bytes: Of the reply's body.

    Raises:
        Unreachable: No connection, no reply in time, a broken or an endless one.
    """
    deadline = time.monotonic() + seconds
    about = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": f"cogvx/{__version__}"}
    data = None
    if payload is not None:
        data = json.dumps(payload).encode()
        about["Content-Type"] = "application/json"
    request = urllib.request.Request(url, data=data, headers=about | (headers or {}))
    opener = _opener(deadline, direct=is_loopback(urllib.parse.urlsplit(url).hostname or ""))
    try:
        with opener.open(request, timeout=max(seconds, 0.001)) as response:
            return _reply(response, max_bytes)
    except urllib.error.HTTPError as error:
        with error:
            return _reply(error, max_bytes)
    except Unreachable:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise _unreachable(reason) from error


def _unreachable(reason: Any) -> Unreachable:
    if isinstance(reason, TimeoutError):
        return TooLate("no whole answer in time")
    if isinstance(reason, ssl.SSLCertVerificationError):
        return Unreachable(f"its certificate is not trusted ({reason.verify_message})", retry=False, nobody=True)
    if isinstance(reason, socket.gaierror):
        return Unreachable("its host name is not known", nobody=True)
    if isinstance(reason, ConnectionRefusedError):
        return Unreachable("connection refused: no server listens there", nobody=True)
    if isinstance(reason, http.client.IncompleteRead):
        return Unreachable("the answer was cut off")
    if isinstance(reason, http.client.RemoteDisconnected | ConnectionError):
        return Unreachable("the server closed the connection without an answer")
    if isinstance(reason, http.client.HTTPException):
        return Unreachable(f"what came is no HTTP ({type(reason).__name__})")
    return Unreachable(str(getattr(reason, "strerror", None) or reason or type(reason).__name__)[:200], nobody=True)


def _reply(response: Any, max_bytes: int) -> Reply:
    body = bytearray()
    while chunk := response.read(_CHUNK):
        body += chunk
        if len(body) > max_bytes:
            raise Unreachable(f"the answer is longer than {max_bytes >> 20} MiB", retry=False)
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and len(body) < int(length):  # read(n) does not complain itself
        raise http.client.IncompleteRead(bytes(body))
    about = response.headers
    return Reply(response.status, bytes(body), _seconds(about.get("Retry-After")), about.get("Location"))


def _seconds(value: str | None) -> float | None:
    """The seconds that a Retry-After asks for, as a number or as a date."""
    if value is None:
        return None
    try:
        return max(0.0, float(value)) if float(value) < float("inf") else None
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


class _Timed(io.RawIOBase):
    """A socket's file whose every read has the time that is left."""

    def __init__(self, raw: Any, sock: socket.socket, deadline: float) -> None:
        self._raw = raw
        self._socket = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, deadline: float, **settings: Any) -> None:
        super().__init__(sock, *args, **settings)
        self.fp = io.BufferedReader(_Timed(self.fp.detach(), sock, deadline))  # type: ignore[attr-defined]


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only if it keeps the question and stays where the key may go."""

    max_redirections = 3

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if code not in (307, 308) or _origin(newurl) != _origin(req.full_url):
            return None
        return urllib.request.Request(newurl, data=req.data, headers=dict(req.header_items()), method=req.get_method())


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _opener(deadline: float, *, direct: bool) -> urllib.request.OpenerDirector:
    """Build what opens one request: proxies of the environment (none for this machine itself), and the deadline."""
    response = functools.partial(_Response, deadline=deadline)

    class Plain(http.client.HTTPConnection):
        response_class = response  # type: ignore[assignment]

    class Secure(http.client.HTTPSConnection):
        response_class = response  # type: ignore[assignment]

    class HTTP(urllib.request.HTTPHandler):
        def http_open(self, req: Any) -> Any:
            return self.do_open(Plain, req)  # type: ignore[arg-type]

    class HTTPS(urllib.request.HTTPSHandler):
        def https_open(self, req: Any) -> Any:
            return self.do_open(Secure, req, context=ssl.create_default_context())  # type: ignore[arg-type]

    proxies = urllib.request.ProxyHandler({} if direct else None)
    opener = urllib.request.OpenerDirector()
    for handler in (proxies, HTTP(), HTTPS(), _SameHost(), urllib.request.HTTPErrorProcessor()):
        opener.add_handler(handler)
    opener.add_handler(urllib.request.HTTPDefaultErrorHandler())
    return opener
