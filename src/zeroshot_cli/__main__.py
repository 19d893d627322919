"""`zeroshot`, also as `python -m zeroshot_cli`: what the process does around the command line."""

import atexit
import os
import sys
from contextlib import suppress


def command() -> None:
    """Run the command line and exit with its code, without Python's teardown of all modules.

    The teardown of torch's libraries takes half a second, and 100 MB more than the command did. All else of an orderly
    exit is kept: threads, functions of `atexit`, and who called this; the function registered first is called last.
    """
    codes: list[int] = []
    if atexit._ncallbacks() == 0:  # else something is to follow that is not ours, such as saving what code was covered
        atexit.register(_end, codes)
    from zeroshot_cli.cli.app import main

    try:
        main()
    except SystemExit as end:
        codes.append(int(end.code or 0))
        raise


def _end(codes: list[int]) -> None:
    """End the process, unless an error ended the command or what it printed cannot be written: Python will say so."""
    with suppress(OSError, ValueError):
        for stream in filter(None, (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)):
            stream.flush()
        for code in codes:
            os._exit(code)


if __name__ == "__main__":
    command()
