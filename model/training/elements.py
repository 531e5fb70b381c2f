"""Vectors for elements from a file, in place of the cgcnn features."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.middle_fusion import HIGHEST_ATOMIC_NUMBER
from model.structure import ATOMIC_NUMBERS
from model.training.errors import TrainingError


def read_element_table(path: str | Path) -> tuple[Tensor, frozenset[int]]:
    """The table of a file and the atomic numbers that have a row in it.

    Args:
        path: JSON, ``{"Si": [0.1, ...], ...}``, or a table with a header and the element in its first column, as
            mat2vec and its kin are published. Elements by symbol or atomic number.

    Returns:
        float32 [104, c], the row of an element at its atomic number, zeros where the file has none; and the numbers.

    Raises:
        TrainingError: the file cannot be read or is no such table.
    """
    path = Path(path).expanduser()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"the element embeddings {path} cannot be read: {error}") from error
    rows = _from_json(text, path) if text.lstrip().startswith("{") else _from_table(text)
    vectors: dict[int, list[float]] = {}
    for name, values in rows.items():
        number = ATOMIC_NUMBERS.get(name) or (int(name) if name.isdecimal() else 0)
        if not 1 <= number <= HIGHEST_ATOMIC_NUMBER:
            continue
        try:
            vector = [float(value) for value in values]
        except (TypeError, ValueError) as error:
            raise TrainingError(f"expected numbers for {name} in {path}, got {str(values)[:60]}") from error
        if not all(map(math.isfinite, vector)):
            raise TrainingError(f"expected finite numbers for {name} in {path}")
        vectors[number] = vector
    widths = {len(vector) for vector in vectors.values()}
    if len(widths) != 1 or 0 in widths:
        found = f"vectors of {sorted(widths)[:5]} numbers" if vectors else "no element"
        raise TrainingError(f"expected one vector an element, all of one length, in {path}, got {found}")
    table = torch.zeros(HIGHEST_ATOMIC_NUMBER + 1, widths.pop())
    for number, vector in vectors.items():
        table[number] = torch.tensor(vector)
    return table, frozenset(vectors)


def _from_json(text: str, path: Path) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise TrainingError(f"the element embeddings {path} are not JSON: {error}") from error
    return {str(name): values if isinstance(values, list) else [values] for name, values in document.items()}


def _from_table(text: str) -> dict[str, Any]:
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    return {row[0].strip(): row[1:] for row in rows[1:]}
