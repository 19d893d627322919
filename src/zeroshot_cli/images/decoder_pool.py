"""Decode in processes of their own, so that a crash or a hang costs one image and not the run."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import BinaryIO

from zeroshot_cli.errors import UnavailableError, UnreadableImage, UsageError
from zeroshot_cli.images import decoder_process as decoder
from zeroshot_cli.images.decode import Decoding
from zeroshot_cli.images.decoder_process import CONTENT, FILE, GO, NOTE, PATH, READY, REASON, SKIP, Job
from zeroshot_cli.images.memory import bound_of
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.remote.address import is_elsewhere, shown_address

PROGRAM = "from zeroshot_cli.images.decoder_process import main; main()"
_GLANCE = 0.5  # seconds between two looks at who has been busy for too long
THUMBNAIL_EDGE = 192  # pixels: sharp on a card, some six kilobytes
_THUMBNAILS_AHEAD = 64
_COUNTED_AHEAD = 256

_FROM_OUTSIDE = [-getattr(signal, name, 0) for name in ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")]

IsKnown = Callable[[bytes], bool]


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a process made of an image: pixels (height, width, 3) or a thumbnail, None for a known content.

    `content` identifies the file and the frame: a SHA-256, empty where the job does not ask for it, the file is huge or
    there is a `note` on the image, which a cache could not give again.
    """

    pixels: bytes | None
    content: bytes
    note: str = ""


class Decoders:
    """`workers` processes, each with a thread of this process that talks to it; started when there is work.

    A process that takes longer for an image than the job allows is ended, and another takes its place. Together they
    take half of the memory, with `beside` more such pools; one that is killed has its image tried once more by another.
    """

    def __init__(self, job: Job, *, workers: int, beside: int = 0) -> None:
        self._job = replace(job, memory=job.memory or bound_of(workers * (1 + beside)))
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="decode")
        self._idle: queue.LifoQueue[_Process] = queue.LifoQueue()
        self._processes: set[_Process] = set()
        self._closed = threading.Event()
        self._watch: threading.Thread | None = None

    def submit(self, image: str | bytes | Future[bytes], is_known: IsKnown = lambda content: False) -> Future[Decoded]:
        """Decode an image, given as its path, its address, the bytes of its file, or as what has them in the end.

        It is not decoded if `is_known`, which is called from another thread, knows its hash. An address is asked for at
        once. The future raises UnreadableImage.
        """
        if self._watch is None:
            self._watch = threading.Thread(target=self._end_hanging, name="watch decoders", daemon=True)
            self._watch.start()
        if isinstance(image, str) and is_elsewhere(image):
            from zeroshot_cli.remote.rows import begin  # it imports asyncio

            image = begin(image, allow_private=self._job.decoding.allow_private)
        return self._threads.submit(self._decode, image, is_known)

    def close(self) -> None:
        """End all processes, whatever they are at; what has not begun is dropped."""
        self._closed.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in list(self._processes):
            process.kill()
        self._threads.shutdown(wait=True)
        for process in list(self._processes):
            process.end()

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _decode(self, image: str | bytes | Future[bytes], is_known: IsKnown) -> Decoded:
        image = image.result() if isinstance(image, Future) else image
        reason = ""
        for _ in range(2):  # who was killed from outside may have been at a good image
            with self._process() as process:
                try:
                    return process.decode(image, is_known)
                except UnicodeEncodeError:  # a surrogate that stands for no byte
                    raise UnreadableImage("no such file") from None
                except (EOFError, OSError):
                    if self._closed.is_set():
                        raise UnreadableImage("the run was ended") from None
                    reason = process.why_ended()
                    if not process.was_killed():
                        break
        raise UnreadableImage(reason)

    @contextmanager
    def _process(self) -> Iterator[_Process]:
        """Give an idle process, or a new one; one that is dead afterwards is forgotten."""
        try:
            process = self._idle.get_nowait()
        except queue.Empty:
            process = self._started()
            self._processes.add(process)
            if self._closed.is_set():
                process.kill()
        try:
            yield process
        finally:
            if process.is_alive():
                self._idle.put(process)
            else:
                process.end()
                self._processes.discard(process)

    def _started(self) -> _Process:
        try:
            return _Process(self._job)
        except OSError as error:  # too many processes or files, too little memory
            raise UsageError(f"cannot start a decoding process ({error.strerror}); give fewer --workers") from error

    def _end_hanging(self) -> None:
        while not self._closed.wait(_GLANCE):
            for process in list(self._processes):
                process.look()


class _Process:
    """One decoding process and the pipes to it."""

    def __init__(self, job: Job) -> None:
        # sys.path is handed on, and the working directory kept out of it: a folder of images may hold a random.py.
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for the parent, which ends this one
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to: BinaryIO = self._process.stdin  # type: ignore[assignment]
        self._from: BinaryIO = self._process.stdout  # type: ignore[assignment]
        self._job = job
        self._ready = False
        self._late = False
        self._busy: float | None = None  # seconds that it was seen at this image; a run that is stopped sees nothing
        self._lock = threading.Lock()

    def decode(self, image: str | bytes, is_known: IsKnown) -> Decoded:
        """Let the process read an image; raises UnreadableImage, and EOFError or OSError where it ends meanwhile."""
        if not self._ready:
            self._start()
        self._set_busy(0.0)
        try:
            return self._ask(image, is_known)
        finally:
            self._set_busy(None)

    def _start(self) -> None:
        try:
            decoder.send(self._to, b"J", self._job.to_json())
            kind, _ = decoder.receive(self._from)
        except (EOFError, OSError) as error:
            raise RuntimeError("a process for decoding does not start") from error
        assert kind == READY
        self._ready = True

    def _ask(self, image: str | bytes, is_known: IsKnown) -> Decoded:
        decoder.send(self._to, *((FILE, image) if isinstance(image, bytes) else (PATH, os.fsencode(image))))
        kind, content = decoder.receive(self._from)
        digest = b""
        if kind == CONTENT:
            digest = content
            self._set_busy(None)  # it waits for us
            known = is_known(digest)
            self._set_busy(0.0)
            if known:
                decoder.send(self._to, SKIP)
                return Decoded(None, digest)
            decoder.send(self._to, GO)
            kind, content = decoder.receive(self._from)
        note = ""
        if kind == NOTE:
            note, (kind, content) = content.decode(), decoder.receive(self._from)
        if kind == REASON:
            raise UnreadableImage(content.decode())
        return Decoded(content, b"" if note else digest, note)

    def _set_busy(self, seconds: float | None) -> None:
        with self._lock:
            self._busy = seconds

    def look(self) -> None:
        """Note that the process is still at its image, and end it if that has taken too long."""
        with self._lock:
            if self._busy is None:
                return
            self._busy += _GLANCE
            if self._busy > self._job.decoding.timeout:
                self._late = True
                self.kill()

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        with suppress(OSError):
            self._process.kill()

    def end(self) -> None:
        """Leave neither a process nor a pipe behind."""
        self.kill()
        self._process.wait()
        for stream in (self._to, self._from):
            with suppress(OSError):
                stream.close()

    def was_killed(self) -> bool:
        """Return whether somebody else has ended the process, rather than its image or its time limit."""
        return not self._late and self._process.wait() in _FROM_OUTSIDE

    def why_ended(self) -> str:
        """Return the reason why there are no pixels, after the process has ended."""
        code = self._process.wait()
        if self._late:
            return f"decoding took longer than {self._job.decoding.timeout:g} seconds (--decode-timeout)"
        if code == -getattr(signal, "SIGKILL", 9):
            return "the decoder was killed on it, perhaps for lack of memory"
        return f"the decoder crashed on it ({_signal_name(code)})"


def _signal_name(code: int) -> str:
    with suppress(ValueError):
        return signal.Signals(-code).name
    return f"exit code {code}"


def auto_workers(device: str = "cpu") -> int:
    """Return how many processes decode: one a core that this process may use; beside a GPU one less, which feeds it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if device == "cpu" else max(1, cores - 1)


def thumbnails(paths: Iterable[str], *, workers: int, decoding: Decoding) -> Generator[bytes | None]:
    """Yield a WebP file of at most 192 pixels an edge for every path, None for an image that can no longer be read.

    Large JPEGs are decoded at a smaller scale in any case.
    """
    waiting: deque[Future[Decoded]] = deque()
    with Decoders(Job(thumbnail=THUMBNAIL_EDGE, decoding=decoding), workers=workers) as decoders:
        for path in paths:
            waiting.append(decoders.submit(path))
            if len(waiting) > _THUMBNAILS_AHEAD:
                yield _thumbnail(waiting.popleft())
        while waiting:
            yield _thumbnail(waiting.popleft())


def each_frame(
    items: Iterable[str | SkippedImage], *, workers: int, decoding: Decoding
) -> Iterator[str | SkippedImage]:
    """Yield `PATH#N` for every frame of a file that has several, counted from 0; the other items as they are."""
    waiting: deque[tuple[str | SkippedImage, Future[Decoded] | None]] = deque()
    with Decoders(Job(counted=True, decoding=decoding), workers=workers) as decoders:
        for item in items:
            if isinstance(item, str) and is_elsewhere(item):
                raise UsageError(f"--frames each is for files on disk, and {shown_address(item)} is elsewhere; omit it")
            waiting.append((item, decoders.submit(item) if isinstance(item, str) else None))
            if len(waiting) > _COUNTED_AHEAD:
                yield from _frames(*waiting.popleft())
        while waiting:
            yield from _frames(*waiting.popleft())


def _frames(item: str | SkippedImage, future: Future[Decoded] | None) -> Iterator[str | SkippedImage]:
    count = 1
    if future is not None:
        with suppress(UnreadableImage):  # it will be a row with this reason
            count = int(future.result().pixels or b"1")
    if count < 2 or isinstance(item, SkippedImage):
        yield item
        return
    for number in range(count):
        name = f"{item}#{number}"
        taken = os.path.lexists(name)
        yield SkippedImage(name, "a file of this name hides the frame; rename it") if taken else name


def _thumbnail(future: Future[Decoded]) -> bytes | None:
    try:
        return future.result().pixels
    except (UnreadableImage, UnavailableError):
        return None
