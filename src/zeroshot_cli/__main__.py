"""`zeroshot`, also as `python -m zeroshot_cli`: what the process does around the command line."""

import atexit
import gc
import os
import sys
from contextlib import suppress

INTERRUPTED = 130
_OBJECTS = 100_000  # before Python looks for cycles; at its 700, a tenth of all imports is spent on that
_WAITING = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}  # of OpenMP, GNU's and LLVM's


def command() -> None:
    """Run the command line and exit with its code, without Python's teardown of all modules.

    The teardown of torch's libraries takes half a second, and 100 MB more than the command did. All else of an orderly
    exit is kept: threads, functions of `atexit`, and who called this; the function registered first is called last.
    """
    gc.set_threshold(_OBJECTS)
    wait_asleep()
    codes: list[int] = []
    if atexit._ncallbacks() == 0:  # else something is to follow that is not ours, such as saving what code was covered
        atexit.register(_end, codes)
    try:
        from zeroshot_cli.cli.app import main
    except KeyboardInterrupt:  # Ctrl-C in the first tenths of a second, or while a shell waits for words to complete
        sys.exit(INTERRUPTED)
    try:
        main()
    except SystemExit as end:
        codes.append(int(end.code or 0))
        raise


def wait_asleep() -> None:
    """Let the threads of torch's OpenMP sleep where they wait for each other, unless the user has said how they wait.

    A thread that spins keeps its core from the one that it waits for: with another busy process on the machine the
    model is then many times slower. OpenMP reads this when torch is imported.
    """
    if _WAITING.isdisjoint(os.environ):
        os.environ["OMP_WAIT_POLICY"] = "passive"


def _end(codes: list[int]) -> None:
    """End the process, unless an error ended the command or what it printed cannot be written: Python will say so."""
    with suppress(OSError, ValueError):
        for stream in filter(None, (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)):
            stream.flush()
        for code in codes:
            os._exit(code)


if __name__ == "__main__":
    command()
