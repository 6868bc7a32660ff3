"""Questions over HTTP to any server that has OpenAI's /chat/completions: vLLM, llama.cpp, Ollama, SGLang, OpenAI."""

import base64
import io
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cogvx.errors import InputError, MissingError, UsageError
from cogvx.files import clean
from cogvx.language.ask import Answer, LanguageSpec, Message, Video, in_words, without_thoughts
from cogvx.language.http import Reply, TooLate, Unreachable, check_url, is_loopback, send_json

if TYPE_CHECKING:
    import numpy as np

OPENAI = "https://api.openai.com/v1"
URL_VARIABLE = "OPENAI_BASE_URL"
FIRST_PAUSE = 0.5  # seconds before the second try; each further pause is twice as long
LONGEST_PAUSE = 60.0  # a server that asks for more is not waited for
JPEG_QUALITY = 90
_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529}
# These say that no question can be answered, whatever it is.
_HOPELESS = {301, 302, 303, 307, 308, 401, 403, 404, 405, 407}
_NOT_TAKEN = re.compile(
    r"unsupported|not support|n't support|unrecogni[sz]ed|unknown|unexpected|not permitted|not allowed|not implemented|"
    r"not available|deprecated|extra (field|input)"
)
# What a server may not take -> what names it in its complaint besides its own name.
_OPTIONAL = {
    "response_format": ("json_schema", "schema"),
    "max_tokens": (),
    "max_completion_tokens": (),
    "temperature": (),
    "top_p": (),
    "seed": (),
}


class Endpoint:
    """A language model behind an OpenAI-compatible endpoint.

    Args:
        spec: Which.
        model: Its name at the endpoint.
        announce: Called with lines that the user should see.
    """

    sees_images = True
    concurrent = True

    def __init__(self, spec: LanguageSpec, model: str, announce: Callable[[str], None]) -> None:
        self._spec = spec
        self._model = model
        self._announce = announce
        self._url = base_url(spec)
        self._key = read_key(spec)
        self._dropped: list[str] = []
        self._reached = False
        self._lock = threading.Lock()
        self.name = f"openai:{clean(model)}@{_host(self._url)}"

    def settings(self) -> dict[str, Any]:
        """Return what decides the answers besides the question; no key."""
        return {"engine": "openai", "model": self._model, "host": _host(self._url)}

    def ask(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        schema: dict[str, Any] | None = None,
    ) -> Answer:
        """Ask, and wait for the answer; see LanguageModel.ask."""
        wanted: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "seed": seed}
        if schema is not None:
            form = {"name": "answer", "schema": schema, "strict": True}
            wanted["response_format"] = {"type": "json_schema", "json_schema": form}
        deadline = time.monotonic() + self._spec.timeout
        answer, tries = Answer("", "error", "it was not asked"), 0
        while tries < self._spec.tries:
            with self._lock:
                dropped = tuple(name for name in self._dropped if name in wanted)
            payload = self._payload(messages, wanted, dropped, schema)
            answer, pause, refused = self._try(payload, deadline)
            if refused is not None and self._drop(refused, payload):
                continue  # not a try: the same question without the parameter
            tries += 1
            if not answer.retry or tries == self._spec.tries:
                break
            pause = FIRST_PAUSE * 2 ** (tries - 1) if pause is None else pause
            left = deadline - time.monotonic()
            if left <= 0:
                break
            if pause > min(left, LONGEST_PAUSE):
                answer = replace(answer, error=f"{answer.error} (the next try would have to wait {pause:.3g} s)")
                break
            time.sleep(pause)
        return replace(answer, tries=max(tries, 1), dropped=dropped)

    def _payload(
        self,
        messages: Sequence[Message],
        wanted: dict[str, Any],
        dropped: tuple[str, ...],
        schema: dict[str, Any] | None,
    ) -> dict[str, Any]:
        held = {name: value for name, value in wanted.items() if name not in dropped}
        if "max_tokens" in dropped and "max_completion_tokens" not in self._dropped:
            held["max_completion_tokens"] = wanted["max_tokens"]  # what newer models of OpenAI take
        said = in_words(messages, schema if "response_format" in dropped else None)
        return {"model": self._model, "messages": [_message(one) for one in said], "stream": False, **held}

    def _try(self, payload: dict[str, Any], deadline: float) -> tuple[Answer, float | None, str | None]:
        """Ask once: the answer, the pause that the server asks for, and the complaint about a parameter."""
        try:
            reply = self._send("/chat/completions", payload, deadline)
        except Unreachable as error:
            fatal = error.nobody and not self._reached
            late = f"no whole answer within {self._spec.timeout:g} s"
            text = late if isinstance(error, TooLate) else str(error)
            return self._failed(text, retry=error.retry, fatal=fatal), None, None
        self._reached = True
        if reply.status == 200:
            return self._read(reply), None, None
        complaint = self._hide(_complaint(reply))
        text = f"HTTP {reply.status}{f': {complaint}' if complaint else ''}{_advice(reply, self._spec)}"
        answer = self._failed(text, retry=reply.status in _AGAIN, fatal=reply.status in _HOPELESS)
        return answer, reply.retry_after, complaint if reply.status in (400, 422) else None

    def _send(self, path: str, payload: Any, deadline: float) -> Reply:
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            raise TooLate("no whole answer in time", retry=False)
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        return send_json(self._url + path, payload, headers=headers, seconds=seconds)

    def _read(self, reply: Reply) -> Answer:
        """Make an answer of a reply of the right form; all others are failures that may pass."""
        try:
            body = reply.json()
        except ValueError:
            kind = "HTML" if reply.body.lstrip()[:1] == b"<" else "no whole JSON"
            return self._failed(f"its answer is {kind}", retry=True)
        try:
            choice = body["choices"][0]
            said = choice["message"]
            text = self._hide(without_thoughts(_text(said.get("content"))))
            reason, refusal = choice.get("finish_reason"), said.get("refusal")
        except (KeyError, IndexError, TypeError, AttributeError):
            error = body.get("error") if isinstance(body, dict) else None
            why = f" ({self._hide(_words(error))})" if error else ""
            return self._failed(f"its answer has no choices{why}", retry=True)
        usage = body.get("usage") if isinstance(body.get("usage"), dict) else {}
        about: dict[str, Any] = {"model": body["model"] if isinstance(body.get("model"), str) else None}
        about |= {name: usage[name] for name in ("prompt_tokens", "completion_tokens") if type(usage.get(name)) is int}
        if refusal or reason == "content_filter":
            why = f": {self._hide(_words(refusal))}" if refusal else " by its content filter"
            return Answer(text, "blocked", f"{self.name}: blocked{why}", **about)
        if reason == "length":
            return Answer(text, "truncated", f"{self.name}: the answer was cut off at max_tokens", **about)
        if not text:
            return replace(self._failed("its answer is empty", retry=True), **about)
        return Answer(text, "success", **about)

    def _drop(self, complaint: str, payload: dict[str, Any]) -> bool:
        """Leave out the parameter that a complaint names, from now on, and say so; False if it names none of ours."""
        low = complaint.lower()
        found = [
            name for name, also in _OPTIONAL.items() if name in payload and any(word in low for word in (name, *also))
        ]
        if not found or not _NOT_TAKEN.search(low):
            return False
        name = min(found, key=lambda one: low.find(one) % (1 << 20))  # the first that is named
        with self._lock:
            new = name not in self._dropped
            if new:
                self._dropped.append(name)
        if new:
            self._announce(f"{self.name} does not take {name} and is asked without it ({clean(complaint)[:120]})")
        return True

    def _failed(self, text: str, *, retry: bool, fatal: bool = False) -> Answer:
        return Answer("", "error", f"{self.name}: {clean(text)}", retry=retry, fatal=fatal)

    def _hide(self, text: str) -> str:
        """Return a server's words without the key, should it repeat it."""
        return text.replace(self._key, "***") if self._key else text

    def served(self) -> list[str]:
        """Return the names of the models that the endpoint serves.

        Raises:
            MissingError: It does not say.
        """
        deadline = time.monotonic() + self._spec.timeout
        for left in reversed(range(self._spec.tries)):
            try:
                reply = self._send("/models", None, deadline)
                if reply.status == 200:
                    return [str(row["id"]) for row in reply.json()["data"]]
                why = f"HTTP {reply.status} {self._hide(_complaint(reply))}".strip() + _advice(reply, self._spec)
                again, pause = reply.status in _AGAIN, reply.retry_after
            except Unreachable as error:
                why, again, pause = str(error), error.retry, None
            except (ValueError, KeyError, TypeError):
                why, again, pause = "its list of models cannot be read", True, None
            wait = FIRST_PAUSE * 2 ** (self._spec.tries - 1 - left) if pause is None else pause
            if not again or not left or wait > min(LONGEST_PAUSE, deadline - time.monotonic()):
                break
            time.sleep(wait)
        raise MissingError(f"no list of models from {_host(self._url)}: {clean(why)}; start a server, or see --lm-url")


def open_endpoint(spec: LanguageSpec, announce: Callable[[str], None]) -> Endpoint:
    """Make ready to ask an endpoint; only the name "auto" needs a request.

    Raises:
        UsageError: The URL or the key cannot be used, or "auto" is not enough to tell which model is meant.
        MissingError: There is no key for OpenAI itself, or the endpoint does not say what it serves.
    """
    url = base_url(spec)
    parts = check_url(url)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        announce(f"warning: {_host(url)} is asked over plain http: prompts and the key can be read on the way")
    if parts.hostname == "api.openai.com" and not read_key(spec):
        raise MissingError(
            f"no key for {parts.hostname}: set ${spec.key_env}, or name another server with --lm-url or ${URL_VARIABLE}"
        )
    model = spec.model or "auto"
    if model != "auto":
        return Endpoint(spec, model, announce)
    served = Endpoint(spec, "auto", announce).served()
    if len(served) != 1:
        listed = ", ".join(clean(name) for name in served[:8]) + (" ..." if len(served) > 8 else "")
        raise UsageError(f"{_host(url)} serves {len(served)} models: name one with --lm-model ({listed or 'none'})")
    return Endpoint(spec, served[0], announce)


def base_url(spec: LanguageSpec) -> str:
    """Return the endpoint's base URL without a slash at its end.

    Raises:
        UsageError: It is none that can be asked.
    """
    url = spec.url or os.environ.get(URL_VARIABLE) or OPENAI
    return check_url(url).geturl().rstrip("/").removesuffix("/chat/completions")


def read_key(spec: LanguageSpec) -> str | None:
    """Return the key that the environment has for an endpoint; it goes nowhere but into the request.

    Raises:
        UsageError: It cannot be sent in a header.
    """
    key = os.environ.get(spec.key_env, "").strip()
    if key and not (key.isascii() and key.isprintable()):
        raise UsageError(f"the key in ${spec.key_env} has characters that no key has")
    return key or None


def data_url(image: "np.ndarray") -> str:
    """Return an image, uint8 (h w 3), as the data URL of a JPEG.

    Raises:
        InputError: It is no such image.
    """
    import numpy as np
    from PIL import Image

    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InputError(f"an image for a language model is uint8 (h w 3), got {image.dtype} {image.shape}")
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def video_url(video: Video) -> str:
    """Return a clip as the data URL of an mp4, with even sides.

    Raises:
        InputError: It is none.
    """
    from cogvx.data.video import encode_clip_bytes

    if video.frames.ndim != 4 or min(video.frames.shape[:3]) < 2:
        raise InputError(f"a clip for a language model is uint8 (t h w 3), got {video.frames.shape}")
    height, width = video.frames.shape[1] // 2 * 2, video.frames.shape[2] // 2 * 2
    data = encode_clip_bytes(video.frames[:, :height, :width], video.fps)
    return f"data:video/mp4;base64,{base64.b64encode(data).decode()}"


def _message(message: Message) -> dict[str, Any]:
    if not message.images and not message.videos:
        return {"role": message.role, "content": message.text}
    parts: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": data_url(image)}} for image in message.images
    ]
    parts += [{"type": "video_url", "video_url": {"url": video_url(video)}} for video in message.videos]
    return {"role": message.role, "content": [*parts, {"type": "text", "text": message.text}]}


def _text(content: Any) -> str:
    """The words of a message, whether the server sends them whole or in parts."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if isinstance(part.get("text"), str))
    return content if isinstance(content, str) else ""


def _words(error: Any) -> str:
    """What an error object says, in one short line."""
    if isinstance(error, dict):
        named = f" ({error['param']})" if isinstance(error.get("param"), str) else ""
        error = f"{error.get('message') or error.get('detail') or error.get('code') or ''}{named}"
    return clean(str(error)).strip()[:300]


def _complaint(reply: Reply) -> str:
    """What a server says about a request that it did not answer."""
    try:
        body = reply.json()
    except ValueError:
        start = reply.body.lstrip()
        return "" if start[:1] == b"<" else clean(start[:200].decode("utf-8", "replace"))
    if isinstance(body, dict):
        return _words(body.get("error") or body.get("detail") or body.get("message") or "")
    return _words(body)


def _advice(reply: Reply, spec: LanguageSpec) -> str:
    """What the user can do about a status."""
    if 300 <= reply.status < 400:
        return f"; it points to {clean(reply.location or 'nowhere')[:100]}, which is not followed: set --lm-url"
    if reply.status in (401, 403):
        return f"; is the key in ${spec.key_env} right?"
    if reply.status == 404:
        return "; is the URL right (it often ends in /v1), and the name of the model?"
    return ""


def _host(url: str) -> str:
    return check_url(url).netloc
