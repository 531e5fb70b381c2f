"""A CSV file as its owners have it, read without losing a row.

The standard library's reader is used because it says how many fields each row has: a row cut short must not
pass for one with an empty text, nor one with a stray comma for another text.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from model.errors import DataError

_FIELD_LIMIT = 2**31 - 1
_DELIMITERS = (",", "\t", ";")
# Fed to the reader after the last line: it comes back as a record of its own unless a quote is open.
_SENTINEL = "\x1eend of table"


@dataclass(frozen=True)
class Table:
    """The records of a CSV file, blank lines left out.

    Attributes:
        path: the file.
        records: fields of every record, a header included, as they are in the file.
        notes: what was odd about the file but did not stop it.
    """

    path: Path
    records: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]

    @property
    def width(self) -> int:
        """Number of columns: the fields most records have (the larger number where two are as frequent)."""
        counts = Counter(len(record) for record in self.records)
        return max(counts, key=lambda length: (counts[length], length))


def read_table(path: Path) -> Table:
    """Read a CSV file: UTF-8 with or without a byte order mark, any line ends, any length of field.

    Bytes that are not UTF-8 become U+FFFD and a note. A first line without a comma is taken as separated by
    tabs or semicolons.

    Raises:
        DataError: the file cannot be read, has no records, or a quote that is opened is never closed.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"The table {path} cannot be read: {error.strerror or error}.") from error
    notes: list[str] = []
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = content.decode("utf-16", errors="replace")
    else:
        text = content.decode("utf-8-sig", errors="replace")
    if "\ufffd" in text:
        notes.append(f"{text.count(chr(0xFFFD))} characters of {path.name} are not valid UTF-8")
    records = tuple(_records(text.replace("\0", ""), path))
    if not records:
        raise DataError(f"The table {path} is empty; expected rows with an id, a description and a target.")
    return Table(path, records, tuple(notes))


def parse_number(field: str) -> float:
    """The number in a field; NaN where it holds none or one that is not finite."""
    # Python's own reading of digit groups (1_000) is nobody's data.
    if "_" in field:
        return math.nan
    try:
        number = float(field)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def _records(text: str, path: Path) -> Iterator[tuple[str, ...]]:
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = next((mark for mark in _DELIMITERS if mark in first), ",")
    # newline="" keeps line ends inside quoted fields; a form feed or U+2028 in a text ends no line.
    stream = io.StringIO(text, newline="")
    lines = (line for part in (stream, ("\n", _SENTINEL)) for line in part)
    previous_limit = csv.field_size_limit(_FIELD_LIMIT)
    try:
        reader = csv.reader(lines, delimiter=delimiter)
        start = 1
        for record in reader:
            if record and _SENTINEL in record[-1]:
                if record == [_SENTINEL]:
                    return
                raise DataError(
                    f"A quote opened in line {start} of {path} is never closed, so the rows after it cannot "
                    "be told apart. Close it, or double the quotes inside a quoted field."
                )
            if any(field.strip() for field in record) or len(record) > 1:
                yield tuple(record)
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"Line {start} of {path} is not CSV: {error}.") from error
    finally:
        csv.field_size_limit(previous_limit)
