"""What keeps others out of a page on this machine: other web pages, other names for this machine, other users.

A browser sends requests for any page that is open in it, so being on 127.0.0.1 protects nothing by itself. The token in
the path is known only to who started the server. A name of somebody else's that leads to 127.0.0.1 (DNS rebinding) has
another Host, and what another page sends has another Origin.
"""

import json
import secrets
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_HTTP = 80  # the port that browsers leave out of Host and Origin
_LONGEST = 200  # characters after the token: the numbers of images and the names of files are short
_METHODS = ("GET", "HEAD", "POST")


class AsJson(Response):
    """A JSON object; other scripts and bytes that are not UTF-8 are escaped, as a page may hold any path."""

    media_type = "application/json"

    def render(self, content: Mapping[str, object]) -> bytes:
        """Return the text."""
        return json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")


def refusal(status: int, sentence: str) -> AsJson:
    """Return an error as the page reads it."""
    return AsJson({"error": sentence}, status, headers={"cache-control": "no-store"})


class Guard:
    """Passes a request on, without the token, if it is the page's own; the answer gets headers of safety.

    `/once` leads to the page a single time: a browser is started with this address, which other users of the machine
    may see in the list of processes.
    """

    def __init__(self, app: ASGIApp, *, token: str, port: int, once: str = "") -> None:
        self._app = app
        self._token = token.encode()
        self._once = once
        names = ("127.0.0.1", "localhost")
        self._hosts = names if port == _HTTP else tuple(f"{name}:{port}" for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # a WebSocket, which is closed

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refused = self._refused(scope)
        if refused is not None:
            await refused(scope, receive, send_safely)
            return
        _, _, rest = scope["path"].removeprefix("/").partition("/")
        await self._app({**scope, "path": f"/{rest}", "raw_path": f"/{rest}".encode()}, receive, send_safely)

    def _refused(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.getlist("host")
        if len(host) != 1 or host[0] not in self._hosts:
            return refusal(403, "the page has another address; use the one that zeroshot review has printed")
        if self._once and secrets.compare_digest(scope["path"].encode("utf-8", "replace"), f"/{self._once}".encode()):
            self._once = ""
            return Response(status_code=307, headers={"location": f"/{self._token.decode()}/"})
        token, slash, rest = scope["path"].removeprefix("/").partition("/")
        if not secrets.compare_digest(token.encode("utf-8", "replace"), self._token):
            return refusal(404, "there is no such page; use the whole address that zeroshot review has printed")
        if len(rest) > _LONGEST:
            return refusal(404, "there is nothing here")
        if scope["method"] not in _METHODS:
            return refusal(405, f"{scope['method']} is not used here")
        is_page = scope["method"] != "POST" and not rest
        site = headers.get("sec-fetch-site", "same-origin")
        if site not in ("same-origin", "none") and not (is_page and headers.get("sec-fetch-mode") == "navigate"):
            return refusal(403, "another page has sent this; only the page itself may")
        if scope["method"] == "POST" and (problem := self._refused_post(headers, host[0])):
            return problem
        if not slash:
            return Response(status_code=307, headers={"location": f"/{token}/"})
        return None

    @staticmethod
    def _refused_post(headers: Headers, host: str) -> Response | None:
        origin = headers.get("origin", f"http://{host}")
        if origin != f"http://{host}":
            return refusal(403, "another page has sent this; only the page itself may")
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return refusal(415, "what is sent must be application/json")
        return None
