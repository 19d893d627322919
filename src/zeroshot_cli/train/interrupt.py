"""Ctrl-C and SIGTERM, put off until a step is complete."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any


@dataclass
class Stop:
    """Whether the user has asked the run to end."""

    asked: bool = False


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Let Ctrl-C and SIGTERM end the run after the step that is under way; a second Ctrl-C ends it at once.

    Only the main thread can do so; elsewhere nothing changes.
    """
    stop = Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True

    previous: dict[signal.Signals, Any] = {}
    try:
        for name in (signal.SIGINT, signal.SIGTERM):
            previous[name] = signal.signal(name, ask)
    except ValueError:  # not the main thread
        pass
    try:
        yield stop
    finally:
        for name, handler in previous.items():
            signal.signal(name, handler)
