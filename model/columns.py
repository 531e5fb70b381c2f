"""Which column of a table is the id, the text, the target and the file name.

Header names vary from data set to data set and some tables have none, so a column is looked for by the name
the user gives, then by usual names, then by what it holds; how it was found is recorded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from model.errors import DataError
from model.structure_files import STRUCTURE_SUFFIXES
from model.table import Table, parse_number

Role = Literal["id", "text", "target", "file"]
How = Literal["given", "name", "content"]

_NAMES: dict[Role, tuple[str, ...]] = {
    "id": (
        *("id", "jid", "jarvis_id", "material_id", "mp_id", "mpid", "sample_id", "structure_id", "cif_id"),
        *("identifier", "name"),
    ),
    "text": (
        *("description", "descriptions", "text", "texts", "robocrys", "robocrys_description", "caption"),
        *("desc", "summary"),
    ),
    "target": ("target", "targets", "label", "y", "value", "target_value", "property_value"),
    "file": ("file_name", "filename", "file", "cif_file", "cif_name", "structure_file", "cif"),
}
_TEXT_LENGTH = 40.0


@dataclass(frozen=True)
class Column:
    """A column in use.

    Attributes:
        role: what it is used for.
        index: position in the table, from 0.
        name: header name, or ``column N`` (from 1) in a table without a header.
        how: ``given`` by the user, found by ``name``, or by ``content``.
    """

    role: Role
    index: int
    name: str
    how: How


@dataclass(frozen=True)
class Layout:
    """How a table is read.

    Attributes:
        names: names of all columns.
        has_header: whether the first record is a header.
        id, text, target, file: the columns in use; None where there is none.
        notes: choices the user should know of.
    """

    names: tuple[str, ...]
    has_header: bool
    id: Column | None
    text: Column
    target: Column | None
    file: Column | None
    notes: tuple[str, ...]

    @property
    def in_use(self) -> tuple[Column, ...]:
        """The columns that are there, in the order id, text, target, file."""
        return tuple(column for column in (self.id, self.text, self.target, self.file) if column is not None)


def find_columns(
    table: Table,
    is_structure: Callable[[str], bool],
    *,
    id_column: str | None = None,
    text_column: str | None = None,
    target_column: str | None = None,
    target_needed: bool = False,
) -> Layout:
    """Find the columns of a table.

    Args:
        table: the records.
        is_structure: whether a field names a structure file that is there, by id or by file name.
        id_column, text_column, target_column: header names (case ignored where that is unambiguous), or
            positions from 1.
        target_needed: whether a table without a clear target is an error.

    Raises:
        DataError: a given column does not exist; there is no id, no text, or no clear target that is needed.
    """
    given: dict[Role, str | None] = {"id": id_column, "text": text_column, "target": target_column}
    header = _has_header(table.records[0], is_structure, [name for name in given.values() if name])
    width = len(table.records[0]) if header else table.width
    first = tuple(field.strip() for field in table.records[0])
    names = first if header else tuple(f"column {number}" for number in range(1, width + 1))
    finder = _Finder(table, names, table.records[1 if header else 0 :], is_structure)
    for role, name in given.items():
        if name is not None:
            finder.take(role, finder.position(role, name), "given")
    finder.find_file()
    finder.find_id()
    finder.find_text()
    finder.find_target(target_needed)
    found = finder.found
    return Layout(
        names,
        header,
        found.get("id"),
        found["text"],
        found.get("target"),
        found.get("file"),
        tuple(finder.notes),
    )


class _Finder:
    """The columns taken so far, and the searches for the others."""

    def __init__(
        self,
        table: Table,
        names: tuple[str, ...],
        rows: Sequence[tuple[str, ...]],
        is_structure: Callable[[str], bool],
    ) -> None:
        self.table = table
        self.names = names
        self.rows = rows
        self.found: dict[Role, Column] = {}
        self.notes: list[str] = []
        self._structures = [sum(map(is_structure, self._values(index))) for index in range(len(names))]

    def take(self, role: Role, index: int, how: How) -> None:
        for column in self.found.values():
            if column.index == index:
                raise DataError(f"Column {column.name!r} of {self.table.path} cannot be both {column.role} and {role}.")
        self.found[role] = Column(role, index, self.names[index], how)

    def position(self, role: Role, name: str) -> int:
        wanted = name.strip()
        for matches in (
            [i for i, known in enumerate(self.names) if known == wanted],
            [i for i, known in enumerate(self.names) if known.casefold() == wanted.casefold()],
        ):
            if len(matches) == 1:
                return matches[0]
        if wanted.isascii() and wanted.isdigit() and 1 <= int(wanted) <= len(self.names):
            return int(wanted) - 1
        raise self._error(f"No single column {name!r} for the {role}")

    def find_file(self) -> None:
        for index in self._named("file"):
            # A column such as "cif" may hold something else; and where ids name files, they are enough.
            if self._structures[index]:
                self.take("file", index, "name")
                return
        for index in self._free():
            values = [value for value in self._values(index) if value]
            if values and sum(map(_looks_like_file, values)) > len(values) / 2 and self._structures[index]:
                self.take("file", index, "content")
                return

    def find_id(self) -> None:
        if "id" in self.found:
            return
        named = self._named("id")
        matching = [index for index in self._free() if self._structures[index]]
        # A column called "name" may hold formulas while another holds the ids.
        if "file" not in self.found and matching and not any(self._structures[index] for index in named):
            named = []
        if named or matching:
            # max keeps the first of equals: the usual names come in order of preference.
            best = max(named or matching, key=lambda index: self._structures[index])
            self.take("id", best, "name" if named else "content")
        elif "file" not in self.found:
            raise self._error("No column holds ids of the structure files; name one with --id-column")

    def find_text(self) -> None:
        if "text" in self.found:
            return
        lengths = {index: self._mean_length(index) for index in self._free()}
        named = self._named("text")
        candidates = named or [index for index, length in lengths.items() if length >= _TEXT_LENGTH]
        if not candidates:
            raise self._error("No column holds descriptions; name one with --text-column")
        self.take("text", max(candidates, key=lambda index: lengths[index]), "name" if named else "content")

    def find_target(self, needed: bool) -> None:
        if "target" in self.found:
            return
        named = self._named("target")
        candidates = named[:1] or [index for index in self._free() if self._is_numeric(index)]
        if len(candidates) == 1:
            self.take("target", candidates[0], "name" if named else "content")
            return
        listed = ", ".join(repr(self.names[index]) for index in candidates)
        problem = f"several columns could be the target ({listed})" if candidates else "no column is numeric"
        if needed:
            raise self._error(f"No clear target: {problem}; name one with --target-column")
        self.notes.append(f"no target is used: {problem}")

    def _free(self) -> list[int]:
        taken = {column.index for column in self.found.values()}
        return [index for index in range(len(self.names)) if index not in taken]

    def _named(self, role: Role) -> list[int]:
        keys = {index: _key(self.names[index]) for index in self._free()}
        return [index for usual in _NAMES[role] for index, key in keys.items() if key == usual]

    def _values(self, index: int) -> list[str]:
        return [row[index].strip() for row in self.rows if index < len(row)]

    def _mean_length(self, index: int) -> float:
        lengths = [len(value) for value in self._values(index) if value]
        return sum(lengths) / len(lengths) if lengths else 0.0

    def _is_numeric(self, index: int) -> bool:
        values = [value for value in self._values(index) if value]
        numbers = [parse_number(value) for value in values]
        # pandas writes its row numbers as a first column without a name.
        if _key(self.names[index]) in ("", "unnamed_0", "index") and numbers == list(range(len(numbers))):
            return False
        return bool(values) and sum(map(math.isfinite, numbers)) * 2 >= len(values)

    def _error(self, problem: str) -> DataError:
        return DataError(f"{problem}. The columns of {self.table.path} are: {', '.join(map(repr, self.names))}.")


def _has_header(first: tuple[str, ...], is_structure: Callable[[str], bool], given: Sequence[str]) -> bool:
    fields = [field.strip() for field in first]
    usual = {name for names in _NAMES.values() for name in names}
    if any(_key(field) in usual for field in fields) or any(name.strip() in fields for name in given):
        return True
    return not any(
        is_structure(field) or _looks_like_file(field) or math.isfinite(parse_number(field)) for field in fields
    )


def _looks_like_file(field: str) -> bool:
    return field.lower().endswith(STRUCTURE_SUFFIXES)


def _key(name: str) -> str:
    return re.sub(r"\W+", "_", name.strip().casefold()).strip("_")
