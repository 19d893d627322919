"""How much memory a function takes."""

import gc
import tracemalloc
from collections.abc import Callable


def peak_memory(function: Callable[[], object]) -> int:
    """The bytes that Python has allocated at the peak of a call: the less of two, as other threads are counted too."""
    return min(_peak(function) for _ in range(2))


def _peak(function: Callable[[], object]) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
