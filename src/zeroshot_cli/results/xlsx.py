"""Results as a workbook of Excel, with the extra `xlsx`.

One row per image and rank, with the columns of the CSV: numbers are numbers, and texts are texts, whatever they begin
with. What cannot be printed in a text is escaped, as the terminal shows it. The first row stays in view and has
filters; a path is a link to its file. One sheet takes 1,048,576 rows, and what is left goes to another.
"""

import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from zeroshot_cli.disk import replacing, writing
from zeroshot_cli.display import counted, shown
from zeroshot_cli.errors import UsageError
from zeroshot_cli.records import Result, SkippedImage
from zeroshot_cli.remote.address import HTTP, is_address, scheme_of
from zeroshot_cli.results.formats import no_formula
from zeroshot_cli.results.parquet import RESULTS, typed_rows

# What Excel can do (support.microsoft.com, "Excel specifications and limits")
ROWS = 1_048_576  # of a sheet
MOST_LINKS = 65_530  # of a sheet
_LONGEST_LINK = 2_079
_LONGEST_TEXT = 32_767

MOST_THUMBNAILS = 10_000  # they are in memory until the file is written
_THUMBNAIL = 96  # pixels an edge
_POINTS = 0.75  # of a pixel, in which heights of rows are counted
_WIDEST = 80  # characters of a column
_CREATED = datetime(1980, 1, 1)  # so that the same results are the same bytes

Thumbnails = Callable[[Iterable[str]], Iterator[bytes | None]]


def check_xlsx() -> None:
    """Raise UsageError if the package that writes .xlsx is missing."""
    if find_spec("xlsxwriter") is None:
        raise UsageError("writing .xlsx needs xlsxwriter: pip install 'zeroshot-cli[xlsx]'")


def write_xlsx(
    path: Path,
    results: Callable[[], Iterator[Result]],
    *,
    more: Sequence[str] = (),
    thumbnails: Thumbnails | None = None,
) -> list[str]:
    """Write all results, row by row; return what the file lacks, as sentences.

    `more` are columns that only some runs have. `thumbnails` yields, for each path of a classified image and in that
    order, a small encoded image or None; the first 10,000 are shown. Raises UsageError if the file cannot be written.
    """
    check_xlsx()
    import xlsxwriter
    from xlsxwriter.exceptions import FileCreateError

    with ExitStack() as stack:
        unfinished = stack.enter_context(replacing(path, resumable=True))
        stack.enter_context(writing(str(path), resumable=True))
        folder = stack.enter_context(TemporaryDirectory(prefix="zeroshot-"))
        stream = stack.enter_context(_Unfailing(unfinished, "r+"))
        book = xlsxwriter.Workbook(stream, {"constant_memory": True, "tmpdir": folder, "use_zip64": True})
        stack.callback(_close_rows, book)
        book.set_properties({"created": _CREATED})
        columns = (*RESULTS, *more)
        sheets = _Sheets(book, path, columns, drawn=thumbnails is not None)
        classified = (item.path for item in results() if not isinstance(item, SkippedImage))
        images = iter(()) if thumbnails is None else thumbnails(islice(classified, MOST_THUMBNAILS))
        asked = 0
        for item in results():
            asked += not isinstance(item, SkippedImage)
            image = None if isinstance(item, SkippedImage) else next(images, None)
            for row in typed_rows(item, more):
                sheets.add(item.path, row, image)
                image = None
        sheets.end()
        try:
            book.close()
        except FileCreateError as error:
            raise error.args[0] from None  # the OSError
        if stream.error is not None:
            raise stream.error
        return [*sheets.notes(without_thumbnail=thumbnails is not None and asked > MOST_THUMBNAILS)]


class _Unfailing(io.FileIO):
    """A file that keeps its first error, and may be closed: a ZipFile writes its end when it is thrown away, too."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all bytes, or none once there was an error."""
        rest = memoryview(data)
        try:
            while rest and self.error is None and not self.closed:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = error
        return len(data)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move in the file."""
        return 0 if self.closed else super().seek(offset, whence)

    def tell(self) -> int:
        """Return the place in the file."""
        return 0 if self.closed else super().tell()

    def flush(self) -> None:
        """Do nothing: every write goes to the file."""


def _close_rows(book: Any) -> None:
    """Close the files that rows are collected in, which a workbook leaves open when it fails."""
    for sheet in book.worksheets():
        for file in (sheet.row_data_fh, sheet.fh):
            with suppress(OSError):
                file.close()


class _Sheets:
    """The sheets of a workbook, each filled row by row."""

    def __init__(self, book: Any, path: Path, columns: tuple[str, ...], *, drawn: bool) -> None:
        self._book = book
        self._path = path
        self._columns = columns
        self._drawn = drawn
        self._formats = {
            "head": book.add_format({"bold": True, "bottom": 1, "valign": "vcenter"}),
            "text": book.add_format({"valign": "vcenter"}),
            "formula": book.add_format({"valign": "vcenter", "quote_prefix": True}),
            "link": book.add_format({"valign": "vcenter", "font_color": "#0563C1", "underline": 1}),
            "quoted link": book.add_format({"valign": "vcenter", "font_color": "#0563C1", "quote_prefix": True}),
            "score": book.add_format({"valign": "vcenter", "num_format": "0.0000"}),
        }
        self._number = 0
        self._unlinked = 0
        self._begin()

    def _begin(self) -> None:
        self._number += 1
        self._sheet = self._book.add_worksheet("results" if self._number == 1 else f"results {self._number}")
        self._row, self._links = 0, 0
        self._widths = [len(name) + 4 for name in self._columns]  # with the button of a filter
        self._sheet.freeze_panes(1, 0)
        for place, name in enumerate(self._columns):
            self._sheet.write_string(0, place + self._drawn, name, self._formats["head"])

    def add(self, path: str, row: tuple[str | int | float | None, ...], image: bytes | None) -> None:
        """Add a row, with a link to the file at `path`."""
        if self._row == ROWS - 1:
            self.end()
            self._begin()
        self._row += 1
        if image is not None:
            self._draw(image)
        for place, value in enumerate(row):
            column = place + self._drawn
            if isinstance(value, str):
                text = shown(value)
                text = text if len(text) <= _LONGEST_TEXT // 2 else f"{text[: _LONGEST_TEXT // 2]}…"
                self._widths[place] = max(self._widths[place], min(len(text) + 1, _WIDEST))
                if place or not self._link(column, path, text):
                    form = "text" if text == no_formula(text) else "formula"
                    self._sheet.write_string(self._row, column, text, self._formats[form])
            elif value is not None and math.isfinite(value):
                form = "score" if isinstance(value, float) else "text"
                self._sheet.write_number(self._row, column, value, self._formats[form])

    def _link(self, column: int, path: str, text: str) -> bool:
        """Write a path as a link to its file; return False if there can be none."""
        address = ""
        with suppress(UnicodeEncodeError):  # no file has such a name
            if self._links < MOST_LINKS:
                elsewhere = path if scheme_of(path) in HTTP else ""
                address = elsewhere if is_address(path) else Path(path).absolute().as_uri()
        if not 0 < len(address) <= _LONGEST_LINK:
            self._unlinked += 1
            return False
        self._links += 1
        # In capitals, for xlsxwriter rewrites file:// as Windows has it; a scheme has no case (RFC 3986, section 3.1).
        address = f"FILE{address.removeprefix('file')}" if address.startswith("file:") else address
        form = "link" if text == no_formula(text) else "quoted link"
        self._sheet.write_url(self._row, column, address, self._formats[form], text)
        return True

    def _draw(self, image: bytes) -> None:
        """Show an image in its row, with which it is moved and hidden."""
        from PIL import Image

        stream = io.BytesIO()
        with Image.open(io.BytesIO(image)) as opened:
            opened.thumbnail((_THUMBNAIL, _THUMBNAIL))
            opened.convert("RGB").save(stream, "JPEG", quality=80)
        self._sheet.set_row(self._row, (_THUMBNAIL + 4) * _POINTS)
        options = {"image_data": stream, "object_position": 1, "x_offset": 2, "y_offset": 2, "decorative": True}
        self._sheet.insert_image(self._row, 0, f"{self._row}.jpg", options)

    def end(self) -> None:
        """Give the sheet its filters and its columns their widths."""
        last = len(self._columns) - 1 + self._drawn
        self._sheet.autofilter(0, self._drawn, max(self._row, 1), last)
        if self._drawn:
            self._sheet.set_column_pixels(0, 0, _THUMBNAIL + 4)
        for place, width in enumerate(self._widths):
            self._sheet.set_column(place + self._drawn, place + self._drawn, width)

    def notes(self, *, without_thumbnail: bool) -> Iterator[str]:
        """Yield what the file lacks, as sentences."""
        if self._number > 1:
            yield f"{self._path} has {self._number} sheets, for one takes {ROWS:,} rows"
        if self._unlinked:
            links = f"a sheet takes {MOST_LINKS:,}, of up to {_LONGEST_LINK:,} characters"
            yield f"{self._path}: {counted(self._unlinked, 'path')} without a link; {links}"
        if without_thumbnail:
            yield f"{self._path} has no more than {MOST_THUMBNAILS:,} thumbnails, those of the first images"
