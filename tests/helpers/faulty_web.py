"""A web server on loopback that has files, and answers with every fault that servers have."""

import gzip
import io
import tarfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from PIL import Image

COLOURS = ("red", "lime", "blue", "gray")


def image(colour: str, form: str = "PNG") -> bytes:
    """Return an image file."""
    file = io.BytesIO()
    picture = Image.new("RGB", (64, 48), colour)
    picture.paste(Image.effect_noise((32, 48), 100).convert("RGB"))
    picture.save(file, form)
    return file.getvalue()


FILES = {f"{colour}.png": image(colour) for colour in COLOURS}


def shard(first: int) -> bytes:
    """A tar with the four images, each with a caption that has its number."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for number, name in enumerate(FILES, first):
            for member, body in ((f"{number:03}.png", FILES[name]), (f"{number:03}.txt", f"image {number}".encode())):
                info = tarfile.TarInfo(member)
                info.size = len(body)
                tar.addfile(info, io.BytesIO(body))
    return file.getvalue()


@dataclass
class Web:
    """Files by path, redirects by path, and how often each path was asked for.

    The first part of a path is the fault: /slow/a.jpg is a.jpg, slowly. `authorization` has the header of each request.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    authorization: dict[str, str | None] = field(default_factory=dict)
    at_once: int = 0
    most_at_once: int = 0
    keep_alive: bool = True
    server: Any = None

    @property
    def port(self) -> int:
        return int(self.server.server_port)

    def close(self) -> None:
        """Refuse connections from now on."""
        if self.server.fileno() >= 0:
            self.server.shutdown()
            self.server.server_close()

    def at(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}/{path}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: Web
    lock = threading.Lock()

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).lstrip("/")
        with self.lock:
            self.web.asked[path] += 1
            self.web.at_once += 1
            self.web.most_at_once = max(self.web.most_at_once, self.web.at_once)
            count = self.web.asked[path]
        self.web.authorization[path] = self.headers.get("Authorization")
        try:
            fault, _, name = path.partition("/")
            self._answer(path, fault, self.web.files.get(name or path, self.web.files.get(path)), count)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with self.lock:
                self.web.at_once -= 1

    def _answer(self, path: str, fault: str, body: bytes | None, count: int) -> None:
        if path in self.web.redirects:
            self._send(302, b"", Location=self.web.redirects[path])
        elif fault == "loop":
            self._send(302, b"", Location=f"/loop/{count}")
        elif body is None:
            self._send(404, b"not here")
        elif fault in ("500", "503", "429") and count > 2:
            self._send(200, body)
        elif fault.isdigit():
            self._send(int(fault), b"" if fault == "204" else b"no")
        elif fault == "always500":
            self._send(500, b"no")
        elif fault == "later" and count == 1:
            self._send(503, b"no", **{"Retry-After": "1"})
        elif fault == "silent":
            time.sleep(1.2)
            self._send(200, body)
        elif fault == "soon":
            time.sleep(0.2)
            self._send(200, body)
        elif fault == "drip":
            self._head(200, len(body))
            for at in range(0, len(body), 64):
                self.wfile.write(body[at : at + 64])
                time.sleep(0.1)
        elif fault == "cut" or (fault == "cutonce" and count == 1):
            self._head(200, len(body))
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        elif fault == "toolong":  # more than the header says
            self._head(200, len(body) // 2)
            self.wfile.write(body)
            self.close_connection = True
        elif fault == "gzip":
            self._send(200, gzip.compress(body), **{"Content-Encoding": "gzip"})
        elif fault == "bomb":  # 100 MB in 100 kB
            self._send(200, gzip.compress(bytes(100_000_000), 1), **{"Content-Encoding": "gzip"})
        elif fault == "chunked":
            self._chunked(body[at : at + 100] for at in range(0, len(body), 100))
        elif fault in ("parts", "partscut"):
            self._part(body, cut=fault == "partscut" and count == 3)
        elif fault == "endless":
            self._chunked(iter(lambda: b"\0" * 65536, None))
        else:
            self._send(200, body)

    def _chunked(self, chunks: Iterator[bytes]) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in chunks:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        self.wfile.write(b"0\r\n\r\n")

    def _part(self, body: bytes, *, cut: bool) -> None:
        """Answer with the bytes that Range asks for, or the half of them and no more."""
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        part, etag = body[first : last + 1], f'"{zlib.crc32(body)}"'
        if not part:
            self._send(416, b"", **{"Content-Range": f"bytes */{len(body)}", "ETag": etag})
            return
        span = f"bytes {first}-{first + len(part) - 1}/{len(body)}"
        self._head(206, len(part), **{"Content-Range": span, "ETag": etag})
        self.wfile.write(part[: len(part) // 2] if cut else part)
        self.close_connection = self.close_connection or cut

    def _head(self, status: int, size: int, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(size))
        for name, value in headers.items():
            self.send_header(name, value)
        if not self.web.keep_alive:
            self.send_header("Connection", "close")
        self.end_headers()

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self._head(status, len(body), **headers)
        self.wfile.write(body)


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Web]:
    """Give a server of files on a free port."""
    web = Web(files=dict(files))
    handler = type("Handler", (_Handler,), {"web": web})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    web.server = server
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        web.close()
        thread.join()
