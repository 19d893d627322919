"""Images in a column of a Parquet file, as data sets of Hugging Face have them: `a.parquet#17` is the 18th row's."""

import io
import threading
from bisect import bisect_right
from collections import OrderedDict
from concurrent.futures import Future
from itertools import accumulate
from typing import Any

from zeroshot_cli.errors import DataError, UnreadableImage, UsageError
from zeroshot_cli.remote import fetch
from zeroshot_cli.remote.address import is_address, row_in, shown_address
from zeroshot_cli.remote.web import Received

PATHS = ("path", "filepath", "file_path", "file", "filename", "file_name", "url", "image_url", "image_path", "image")
IMAGES = ("image", "bytes", "image_bytes", "img", "jpg", "png", "webp", "content", "data")
_GROUPS_KEPT = 2
_OPEN_KEPT = 4
_lock = threading.Lock()
_open: "OrderedDict[str, Manifest]" = OrderedDict()


class Manifest:
    """An open Parquet file with a column of images, or of the paths and addresses of images."""

    def __init__(self, name: str) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            raise UsageError(
                f"reading {shown_address(name)} needs pyarrow: pip install 'zeroshot-cli[parquet]'"
            ) from None
        self.name, self._pa = name, pa
        try:
            self._file: Any = pq.ParquetFile(_opened(name))
        except (pa.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())[:100]
            raise DataError(f"{shown_address(name)} is damaged or not Parquet ({reason}); write it again") from None
        self.schema = self._file.schema_arrow
        self.column, self.has_bytes = self._column()
        groups = (self._file.metadata.row_group(number).num_rows for number in range(self._file.num_row_groups))
        self._starts = [0, *accumulate(groups)]
        self._groups: OrderedDict[int, Any] = OrderedDict()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def paths(self) -> list[str]:
        """Return the cells of a column of paths; an empty one for null."""
        cells = self._file.read(columns=[self.column]).column(0).to_pylist()
        return ["" if cell is None else str(cell) for cell in cells]

    def image(self, row: int) -> bytes:
        """Return the image of a row; raises UnreadableImage."""
        if not 0 <= row < len(self):
            raise UnreadableImage(f"the file has {len(self)} rows")
        number = bisect_right(self._starts, row) - 1
        with _lock:
            group = self._groups.pop(number, None)
            if group is None:
                group = self._file.read_row_group(number, columns=[self.column]).column(0)
            self._groups[number] = group
            while len(self._groups) > _GROUPS_KEPT:
                self._groups.popitem(last=False)
        cell = group[row - self._starts[number]].as_py()
        cell = cell.get("bytes") if isinstance(cell, dict) else cell
        if not cell:
            raise UnreadableImage("the row has no image")
        return bytes(cell)

    def _column(self) -> tuple[str, bool]:
        """Return the column of images, else that of paths, and whether it is of images."""
        lower = {name.lower(): name for name in reversed(self.schema.names)}
        for name in IMAGES:
            if name in lower and self._is_bytes(self.schema.field(lower[name]).type):
                return lower[name], True
        for name in PATHS:
            if name in lower and self._is_text(self.schema.field(lower[name]).type):
                return lower[name], False
        raise DataError(
            f"{shown_address(self.name)} has no column of images or of their paths, only "
            f"{', '.join(map(repr, self.schema.names[:8]))}; call it image, path or url"
        )

    def _is_bytes(self, kind: Any) -> bool:
        types = self._pa.types
        if types.is_struct(kind):
            return any(field.name == "bytes" and self._is_bytes(field.type) for field in kind)
        return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))

    def _is_text(self, kind: Any) -> bool:
        types = self._pa.types
        kind = kind.value_type if types.is_dictionary(kind) else kind
        return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def manifest(name: str) -> Manifest:
    """Return an open Parquet file, at a path or an address; DataError where it has no images."""
    with _lock:
        known = _open.pop(name, None)
    known = known or Manifest(name)
    with _lock:
        _open[name] = known
        while len(_open) > _OPEN_KEPT:
            _open.popitem(last=False)
    return known


def begin(name: str, received: Received | None = None, *, allow_private: bool = False) -> "Future[bytes]":
    """Begin to read an address, as `fetch.begin` does, or read a row of a Parquet file."""
    if (place := row_in(name)) is None:
        return fetch.begin(name, received, allow_private=allow_private)
    file, row = place
    read: Future[bytes] = Future()
    try:
        read.set_result(manifest(file).image(row))
    except Exception as error:
        read.set_exception(error)
    return read


def _opened(name: str) -> Any:
    return io.BytesIO(fetch.fetch(name)) if is_address(name) else name
