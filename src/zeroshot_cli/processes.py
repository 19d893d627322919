"""How a process that another one starts ends with it, however that ends."""

import ctypes
import os
import signal
import sys
import threading
import time

_GLANCE = 1.0  # seconds between two looks at the parent
_PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with_parent(parent: int, *, thread_lasts: bool = False) -> None:
    """End this process within two seconds after its parent, whose number is `parent`, is gone, even by SIGKILL.

    With `thread_lasts`, Linux ends it at once and in the midst of C code, too. Linux takes the thread that started a
    process for its parent: say so only if that thread lasts as long as the process is wanted. On Windows nothing
    changes: there a process keeps its parent's number, and pipes tell of the end.
    """
    if sys.platform == "win32":
        return
    if thread_lasts and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we looked
        os._exit(1)
    threading.Thread(target=_watch, args=(parent,), name="watch parent", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_GLANCE)
    os._exit(1)
