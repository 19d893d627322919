"""Command lines that are run in this process."""

import pytest

from zeroshot_cli.cli import app


class Runner:
    """Runs command lines; `err` and `out` are what the last one said."""

    def __init__(self, capture: pytest.CaptureFixture[bytes]) -> None:
        self.capture, self.err, self.out = capture, "", b""

    def __call__(self, *arguments: object) -> int:
        self.capture.readouterr()
        code = app.run([*map(str, arguments)])
        captured = self.capture.readouterr()
        self.err, self.out = captured.err.decode(), captured.out
        return code
