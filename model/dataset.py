"""A folder of structures with a table of descriptions, or a single structure with its text.

The folder has the layout the upstream models are trained from: ``root/cif/ID.cif`` (or POSCAR files) and
``root/description.csv`` with an id, a text and a target in every row. A row that cannot be used is reported
and never dropped without a word.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from model.columns import Column, Layout, find_columns
from model.errors import DataError
from model.structure_files import TABLE_NAME, StructureFiles, id_of
from model.table import parse_number, read_table


@dataclass(frozen=True)
class Sample:
    """A structure, its description and its label.

    Attributes:
        id: unique in the data set.
        structure: a structure file, or any object that ``model.crystal.build_graph`` takes.
        text: the description as it is in the table; may be empty.
        target: the labelled property in the units of the data set; NaN where there is none.
        row: row of the table, from 1, a header not counted.
    """

    id: str
    structure: Path | object
    text: str
    target: float
    row: int


@dataclass(frozen=True)
class Skipped:
    """Something of the data set that is not analysed, and why.

    Attributes:
        id: id of the row, or file name where no row belongs to a file.
        row: row of the table, from 1, a header not counted; None where there is none.
        stage: where it was found out: ``row``, ``structure``, ``text`` or a later one.
        reason: one sentence.
    """

    id: str
    row: int | None
    stage: Literal["row", "structure", "text", "forward"]
    reason: str


@dataclass
class CrystalDataset:
    """Samples in the order of their table.

    Attributes:
        samples: what can be analysed.
        skipped: what cannot; later stages append to it.
        columns: the columns in use and how each was found; empty for a single structure.
        rows: rows of the table that were read: samples and skipped rows together.
        notes: what the user should know about how the table was read.
    """

    samples: tuple[Sample, ...]
    skipped: list[Skipped] = field(default_factory=list)
    columns: tuple[Column, ...] = ()
    rows: int = 0
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over ids, texts, targets and structure files; the order of the rows does not matter.

        Raises:
            DataError: a structure file is gone or cannot be read.
        """
        digests = sorted(_sample_digest(sample) for sample in self.samples)
        return hashlib.sha256("\n".join(digests).encode()).hexdigest()

    @classmethod
    def from_directory(
        cls,
        root: str | Path,
        *,
        id_column: str | None = None,
        text_column: str | None = None,
        target_column: str | None = None,
        limit: int | None = None,
        require_target: bool = False,
    ) -> CrystalDataset:
        """Read ``root/description.csv`` and find the structure files in ``root/cif``.

        Args:
            root: the folder.
            id_column, text_column, target_column: header names or positions (from 1), where the usual names
                and the content of the columns do not tell.
            limit: stop after so many samples; rows after the last of them are not read.
            require_target: skip rows without a numeric target (kept with NaN otherwise), and refuse a table
                in which several columns could be the target.

        Raises:
            DataError: the folder has another layout, the table is not CSV or has no row, or a column does not
                exist or cannot be told.
        """
        folder = Path(root).expanduser()
        files = StructureFiles(folder)
        table = read_table(folder / TABLE_NAME)
        layout = find_columns(
            table,
            files.has,
            id_column=id_column,
            text_column=text_column,
            target_column=target_column,
            target_needed=require_target,
        )
        records = table.records[1:] if layout.has_header else table.records
        if not records:
            raise DataError(f"The table {table.path} has a header and no rows.")
        reader = _RowReader(layout, files, require_target)
        entries = [reader.read(number, record) for number, record in enumerate(records, start=1)]
        notes = [*table.notes, *layout.notes]
        kept = _within_limit(entries, limit)
        if len(kept) < len(entries):
            notes.append(f"limit {limit}: {len(entries) - len(kept)} further rows are not read")
        samples = tuple(entry for entry in kept if isinstance(entry, Sample))
        unlabelled = sum(math.isnan(sample.target) for sample in samples)
        if layout.target is not None and unlabelled:
            notes.append(f"{unlabelled} samples have no number in the target column {layout.target.name!r}")
        skipped = [entry for entry in kept if isinstance(entry, Skipped)]
        skipped += [
            Skipped(name, None, "structure", f"no row of {TABLE_NAME} belongs to this structure file")
            for name in files.unused()
        ]
        return cls(samples, skipped, layout.in_use, len(kept), tuple(notes))

    @classmethod
    def from_structure(
        cls, structure: str | Path | object, text: str, *, id: str | None = None, target: float = math.nan
    ) -> CrystalDataset:
        """One structure with its description.

        Args:
            structure: a structure file, or an object that ``model.crystal.build_graph`` takes.
            text: the description.
            id: how reports call it; the file's name without its ending by default.
            target: the labelled property, NaN for none.

        Raises:
            DataError: there is no such file.
        """
        if isinstance(structure, (str, Path)):
            structure = Path(structure).expanduser()
            if not structure.is_file():
                raise DataError(f"There is no structure file {structure}.")
        name = structure.stem if isinstance(structure, Path) else "structure"
        return cls((Sample(id or name, structure, text, float(target), 1),), rows=1)


class _RowReader:
    """Records to samples; remembers the ids it has given out."""

    def __init__(self, layout: Layout, files: StructureFiles, require_target: bool) -> None:
        self._layout = layout
        self._files = files
        self._require_target = require_target
        self._rows_by_id: dict[str, int] = {}

    def read(self, row: int, record: tuple[str, ...]) -> Sample | Skipped:
        layout = self._layout
        file_name = _field(record, layout.file)
        identifier = _field(record, layout.id) if layout.id else id_of(file_name)
        problem = self._row_problem(record, identifier)
        if problem is None and identifier in self._rows_by_id:
            # The file is asked for all the same, or it would be reported as one that no row belongs to.
            problem = f"the id is taken by row {self._rows_by_id[identifier]}, which is kept"
        target = parse_number(_field(record, layout.target))
        if problem is None and self._require_target and math.isnan(target):
            problem = f"the target {_field(record, layout.target)[:40]!r} is not a finite number"
        try:
            path = self._files.find(identifier, file_name) if identifier or file_name else None
        except DataError as error:
            return Skipped(identifier, row, "row" if problem else "structure", problem or str(error))
        if problem is not None or path is None:
            return Skipped(identifier, row, "row", problem or "the id is empty")
        self._rows_by_id[identifier] = row
        return Sample(identifier, path, record[layout.text.index], target, row)

    def _row_problem(self, record: tuple[str, ...], identifier: str) -> str | None:
        expected = len(self._layout.names)
        if any(extra.strip() for extra in record[expected:]):
            return f"the row has {len(record)} fields, expected {expected}: is a text with a comma unquoted?"
        for column in self._layout.in_use:
            if column.index >= len(record):
                return f"the row has {len(record)} fields and lacks the {column.role} ({column.name!r})"
        return None if identifier else "the id is empty"


def _field(record: tuple[str, ...], column: Column | None) -> str:
    return record[column.index].strip() if column is not None and column.index < len(record) else ""


def _within_limit(entries: list[Sample | Skipped], limit: int | None) -> list[Sample | Skipped]:
    if limit is None:
        return entries
    if limit < 1:
        raise DataError(f"The limit of samples should be at least 1, got {limit}.")
    positions = [index for index, entry in enumerate(entries) if isinstance(entry, Sample)]
    return entries if len(positions) <= limit else entries[: positions[limit - 1] + 1]


def _sample_digest(sample: Sample) -> str:
    digest = hashlib.sha256()
    for part in (sample.id, sample.text, repr(sample.target)):
        content = part.encode("utf-8", "surrogatepass")
        digest.update(f"{len(content)}:".encode() + content)
    if isinstance(sample.structure, Path):
        try:
            digest.update(sample.structure.read_bytes())
        except OSError as error:
            raise DataError(f"The structure file {sample.structure} cannot be read: {error}.") from error
    else:
        from model.structure import read_structure

        structure = read_structure(sample.structure)
        for numbers in (structure.lattice, structure.fractional_coordinates):
            digest.update(np.ascontiguousarray(numbers, dtype=np.float64).tobytes())
        digest.update(" ".join(structure.elements).encode())
    return digest.hexdigest()
