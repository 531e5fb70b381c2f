"""Structure files other than CIF: POSCAR, XYZ, PDB and the jarvis ``Atoms`` dictionary.

Each reader takes the text of a file and returns what is written there; ``model.structure`` checks it. Atom
order and conventions are those of jarvis-tools.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.errors import StructureError

FloatArray = NDArray[np.float64]

# The box jarvis-tools puts a molecule in where an XYZ file gives no cell, in angstrom.
_MOLECULE_BOX = 40.0
_EXTENDED_XYZ_LATTICE = re.compile(r"""lattice\s*=\s*["'{\[]([^"'}\]]*)["'}\]]""", re.IGNORECASE)


@dataclass(frozen=True)
class RawStructure:
    """What a file or an object says, unchecked: cell (angstrom), and fractional or cartesian coordinates."""

    lattice: ArrayLike
    fractional: ArrayLike | None
    elements: list[str]
    positions: FloatArray | None = None


def read_poscar(text: str) -> RawStructure:
    """A VASP 5 POSCAR or CONTCAR: comment, scale, three vectors, symbols, counts, coordinates.

    Unlike jarvis-tools this follows VASP where the scale is not 1: it scales cartesian coordinates too, and a
    negative scale is the volume of the cell.

    Raises:
        StructureError: a part is missing or is no number; symbols are missing (VASP 4).
    """
    lines = text.splitlines()
    if len(lines) < 8:
        raise StructureError(f"expected at least 8 lines in a POSCAR, got {len(lines)}")
    lattice = np.array([_numbers(line, 3, "a cell vector") for line in lines[2:5]])
    scale = _poscar_scale(lines[1], lattice)
    symbols, counts = lines[5].split(), lines[6].split()
    if not symbols or symbols[0].lstrip("-").isdigit():
        raise StructureError("expected a line of element symbols before the counts (VASP 5), got a VASP 4 POSCAR")
    if len(symbols) != len(counts) or not all(count.isdigit() for count in counts):
        raise StructureError(f"expected one count for each of the symbols {lines[5].split()}, got {counts}")
    elements = [
        # VASP writes the potential's name, as in Fe_pv or Fe/a1b2c3.
        re.split(r"[_/]", symbol)[0]
        for symbol, count in zip(symbols, counts, strict=True)
        for _ in range(min(int(count), len(lines)))
    ]
    begin = 8 if lines[7].strip()[:1] in ("S", "s") else 7
    mode = lines[begin].strip()[:1] if begin < len(lines) else ""
    rows = [_numbers(line, 3, "the coordinates of an atom") for line in lines[begin + 1 :][: len(elements)]]
    if len(rows) < sum(map(int, counts)):
        raise StructureError(
            f"expected {sum(map(int, counts))} atoms, got {len(rows)} coordinates; the file may be cut short"
        )
    coordinates = np.array(rows).reshape(-1, 3)
    if mode in ("C", "c", "K", "k"):
        return RawStructure(scale * lattice, None, elements, scale * coordinates)
    return RawStructure(scale * lattice, coordinates, elements)


def read_xyz(text: str) -> RawStructure:
    """An XYZ file. The comment line may hold the cell: nine numbers with commas (jarvis) or
    ``Lattice="..."``.

    Without one the molecule is put in the middle of a cubic box of 40 angstrom, as jarvis-tools does.

    Raises:
        StructureError: no count, too few atoms, or a molecule that does not fit the box.
    """
    lines = text.splitlines()
    if not lines[0].strip().isdigit():
        raise StructureError(f"expected the number of atoms in the first line, got {lines[0][:40]!r}")
    number = int(lines[0])
    rows = [line.split() for line in lines[2:][:number] if line.strip()]
    if len(rows) < number:
        raise StructureError(f"expected {number} atoms, got {len(rows)}; the file may be cut short")
    # QM9 writes 1.2*^-6 for small numbers; jarvis-tools takes them for 0.
    positions = np.array(
        [_numbers(" ".join("0" if "*" in word else word for word in row[1:4]), 3, "a position") for row in rows]
    ).reshape(-1, 3)
    lattice = _xyz_lattice(lines[1])
    if lattice is None:
        extent = float(np.ptp(positions, axis=0).max(initial=0.0)) if number else 0.0
        if extent >= _MOLECULE_BOX:
            raise StructureError(
                f"expected a molecule under {_MOLECULE_BOX:.0f} angstrom or a cell in the comment line, "
                f"got {extent:.0f} angstrom and no cell"
            )
        lattice = _MOLECULE_BOX * np.eye(3)
    fractional = np.dot(positions, np.linalg.inv(np.around(lattice, 5)))
    centered = fractional - fractional.mean(axis=0) + 0.5 if number else fractional
    return RawStructure(lattice, centered, [row[0] for row in rows])


def read_pdb(text: str) -> RawStructure:
    """A PDB file as jarvis-tools reads it without pytraj: a molecule in a box with 20 angstrom of vacuum."""
    from jarvis.core.atoms import Atoms

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "molecule.pdb"
        path.write_text(text, encoding="utf-8")
        # jarvis prints when it is unsure; standard output belongs to the results.
        with contextlib.redirect_stdout(io.StringIO()):
            atoms = Atoms.from_pdb_old(str(path))
    return RawStructure(atoms.lattice_mat, atoms.frac_coords, list(atoms.elements))


def read_json(text: str) -> RawStructure:
    """The dictionary of a jarvis ``Atoms``, or a JARVIS record with that dictionary under ``atoms``."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StructureError(f"expected JSON, could not parse it: {error}") from None
    if isinstance(content, dict) and isinstance(content.get("atoms"), dict):
        content = content["atoms"]
    if not isinstance(content, dict):
        raise StructureError(f"expected the dictionary of a jarvis Atoms, got a {type(content).__name__}")
    return from_dictionary(content)


def from_dictionary(content: Mapping[str, Any]) -> RawStructure:
    """``jarvis.core.atoms.Atoms.to_dict()`` back to a structure.

    Raises:
        StructureError: ``lattice_mat``, ``coords`` or ``elements`` is missing.
    """
    missing = [key for key in ("lattice_mat", "coords", "elements") if key not in content]
    if missing:
        raise StructureError(
            "expected the dictionary of a jarvis Atoms (lattice_mat, coords, elements, cartesian), "
            f"got one without {', '.join(missing)}"
        )
    if content.get("cartesian"):
        return RawStructure(content["lattice_mat"], None, list(content["elements"]), content["coords"])
    return RawStructure(content["lattice_mat"], content["coords"], list(content["elements"]))


def _poscar_scale(line: str, lattice: FloatArray) -> float:
    words = line.split()
    (scale,) = _numbers(line, 1, "the scale")
    if len(words) > 1 and words[1].replace(".", "", 1).isdigit():
        raise StructureError("expected one scale in the second line of a POSCAR, got several; write the cell scaled")
    if scale < 0:
        volume = abs(float(np.linalg.det(lattice)))
        return float((-scale / volume) ** (1 / 3)) if volume else 1.0
    if scale == 0:
        raise StructureError("expected a scale other than 0 in the second line of a POSCAR")
    return scale


def _xyz_lattice(comment: str) -> FloatArray | None:
    found = _EXTENDED_XYZ_LATTICE.search(comment)
    words = found.group(1).replace(",", " ").split() if found else comment.split(",")
    try:
        return np.array(words, dtype=np.float64).reshape(3, 3)
    except ValueError:
        return None


def _numbers(line: str, count: int, what: str) -> list[float]:
    """The first `count` numbers of a line."""
    try:
        numbers = [float(word) for word in line.split()[:count]]
    except ValueError:
        numbers = []
    if len(numbers) < count:
        raise StructureError(f"expected {what} ({count} numbers), got {line.strip()[:60]!r}")
    return numbers
