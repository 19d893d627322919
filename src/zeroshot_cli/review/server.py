"""The server of the page: on 127.0.0.1, for the page alone. `guard` says who may ask, `session` what is done."""

import secrets
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from zeroshot_cli.documents import load_json
from zeroshot_cli.errors import UnreadableImage, UsageError, ZeroshotError
from zeroshot_cli.pages.shared import ASSETS
from zeroshot_cli.review.guard import AsJson, Guard, refusal
from zeroshot_cli.review.pictures import Pictures, open_folder
from zeroshot_cli.review.session import Review

_PAGE = Path(__file__).with_name("page")
_SHARED = tuple(ASSETS / name for name in ("theme.css", "theme.js", "base.css", "shared.js"))
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_LARGEST = 16 << 20  # bytes of a request: decisions on half a million images, with their labels
_WHILE_OPEN = {"cache-control": "private, max-age=3600"}
_PATIENCE = 2  # seconds for answers under way, once the server is to end

Handler = Callable[[Request], Awaitable[Response]]


class _Api:
    """What the page asks for, as functions of a request."""

    def __init__(self, review: Review, pictures: Pictures) -> None:
        self._review = review
        self._pictures = pictures

    def routes(self) -> list[Route]:
        return [
            Route("/", _page(_PAGE / "index.html", "text/html")),
            Route("/static/{name}", _static),
            Route("/api/run", self._get(self._review.about)),
            Route("/api/images", self._get(self._review.images)),
            Route("/api/decisions", self._decide, methods=["POST"]),
            Route("/api/undo", self._undo, methods=["POST"]),
            Route("/api/train", self._get(self._review.training)),
            Route("/api/train", self._train, methods=["POST"]),
            Route("/api/open-folder", self._open_folder, methods=["POST"]),
            Route("/thumb/{number:int}", self._thumbnail),
            Route("/image/{number:int}", self._original),
        ]

    @staticmethod
    def _get(answer: Callable[[], dict[str, Any]]) -> Handler:
        async def handle(_: Request) -> Response:
            return AsJson(await run_in_threadpool(answer))

        return handle

    async def _decide(self, request: Request) -> Response:
        given = await _object(request)
        numbers, kind, label = given.get("images"), given.get("kind"), given.get("label")
        if not isinstance(numbers, list) or not numbers or not all(type(number) is int for number in numbers):
            raise UsageError("images are the numbers of the images, such as [0, 1]")
        if not isinstance(kind, str) or not (label is None or isinstance(label, str)):
            raise UsageError("kind and label are texts")
        seen = given.get("seen")
        if seen is not None and not (isinstance(seen, list) and all(isinstance(each, str) for each in seen)):
            raise UsageError('seen are labels, such as ["cat", "dog"]')
        return AsJson(await run_in_threadpool(self._review.decide, numbers, kind, label, seen))

    async def _undo(self, request: Request) -> Response:
        await _object(request)
        return AsJson(await run_in_threadpool(self._review.undo))

    async def _train(self, request: Request) -> Response:
        await _object(request)
        await run_in_threadpool(self._review.train)
        return AsJson(self._review.training(), 202)

    async def _open_folder(self, request: Request) -> Response:
        number = (await _object(request)).get("image")
        if type(number) is not int:
            raise UsageError("image is the number of an image, such as 0")
        await run_in_threadpool(open_folder, self._review.image(number).file)
        return AsJson({})

    async def _thumbnail(self, request: Request) -> Response:
        image = self._review.image(request.path_params["number"])
        content = await run_in_threadpool(self._pictures.thumbnail, image)
        return Response(content, media_type="image/webp", headers=_WHILE_OPEN)

    async def _original(self, request: Request) -> Response:
        image = self._review.image(request.path_params["number"])
        found = await run_in_threadpool(self._pictures.original, image)
        headers = {"content-length": str(found.size), **_WHILE_OPEN}
        return StreamingResponse(found.content, media_type=found.media_type, headers=headers)


def _page(path: Path, media_type: str) -> Handler:
    async def handle(_: Request) -> Response:
        return Response(await run_in_threadpool(path.read_bytes), media_type=media_type)

    return handle


async def _static(request: Request) -> Response:
    """Answer with a file of the page: only names that its folder has, so no path leads out of it."""
    files = {path.name: path for path in (*_PAGE.iterdir(), *_SHARED) if path.suffix in _TYPES}
    path = files.get(request.path_params["name"])
    if path is None:
        raise HTTPException(404)
    return await _page(path, _TYPES[path.suffix])(request)


async def _object(request: Request) -> dict[str, Any]:
    """Return the JSON object of a request; raises HTTPException 413 where it is too long, UsageError for another."""
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > _LARGEST:
            raise HTTPException(413)
    try:
        found = load_json(bytes(content))
    except ValueError:
        raise UsageError("what was sent is not JSON") from None
    if not isinstance(found, dict):
        raise UsageError("what was sent is not a JSON object")
    return found


async def _on_error(_: Request, error: Exception) -> Response:
    return refusal(422 if isinstance(error, UnreadableImage) else 400, str(error))


async def _on_refusal(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    said = {404: "there is nothing here", 405: "this address is not asked in that way", 413: "that is too much at once"}
    return refusal(status, said.get(status, "the request was refused"))


async def _on_bug(_: Request, error: Exception) -> Response:
    return refusal(500, f"a bug in zeroshot, please report it: {type(error).__name__}: {error}")


def application(review: Review, pictures: Pictures, *, token: str, port: int, once: str = "") -> ASGIApp:
    """Return the application for a server at a port; all its addresses begin with `/token/`, but for `/once`."""
    handlers: dict[Any, Any] = {ZeroshotError: _on_error, HTTPException: _on_refusal, Exception: _on_bug}
    app = Starlette(routes=_Api(review, pictures).routes(), exception_handlers=handlers)
    app.router.redirect_slashes = False
    return Guard(app, token=token, port=port, once=once)


def listen(port: int | None) -> socket.socket:
    """Return a socket of 127.0.0.1 that listens at a port, or a free one; UsageError where it is taken."""
    listening = socket.socket()
    if sys.platform != "win32":  # where it would let others take the port, too
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port or 0))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise UsageError(
            f"cannot listen at port {port} of 127.0.0.1 ({error.strerror}); give another --port"
        ) from error
    return listening


def serve(review: Review, pictures: Pictures, listening: socket.socket, on_start: Callable[[str, str], None]) -> None:
    """Serve the page until Ctrl-C; `on_start` gets its address, and one that leads there a single time."""
    port, token, once = listening.getsockname()[1], secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    app = application(review, pictures, token=token, port=port, once=once)
    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="off",
        timeout_graceful_shutdown=_PATIENCE,
    )
    on_start(f"http://127.0.0.1:{port}/{token}/", f"http://127.0.0.1:{port}/{once}")
    uvicorn.Server(config).run(sockets=[listening])
