"""Which structures of a data set are the same: byte for byte but rounding, or the same crystal in another cell.

Two crystals are taken for equal where reduced formula, space group and atoms of the primitive cell agree and the
distances from atoms to their nearest neighbours do, element by element, as in the average minimum distances of
Widdowson et al. (MATCH 87, 529, 2022). Distances do not depend on the choice of cell, origin or axes; mirror images
count as equal, as they do for every network of the family.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model.crystal import reduced_formula
from model.errors import StructureError
from model.neighbors import nearest_neighbors
from model.structure import ATOMIC_NUMBERS

FloatArray = NDArray[np.float64]

NEIGHBORS = 16
# Angstrom and degrees below which coordinates, lengths and angles of two files are the same numbers.
_DECIMALS = 3


class Crystal(Protocol):
    """What is compared: a ``Structure`` or a ``CrystalGraph``."""

    @property
    def elements(self) -> tuple[str, ...]:
        """N symbols."""

    @property
    def lattice(self) -> FloatArray:
        """(3, 3), angstrom."""

    @property
    def fractional_coordinates(self) -> FloatArray:
        """(N, 3)."""


@dataclass(frozen=True, eq=False)
class Signature:
    """What a structure is recognised by.

    Attributes:
        identical: hash of cell and atoms as they are, without orientation and order of the atoms.
        kind: reduced formula, space group and atoms of the primitive cell.
        distances: (M, NEIGHBORS) angstrom, rows grouped by element; sorted within each group and column.
    """

    identical: str
    kind: tuple[str, int, int]
    distances: FloatArray


def signature(crystal: Crystal, tolerance: float = 0.01) -> Signature:
    """The signature of a structure; symmetry by spglib with the tolerance in angstrom.

    Where spglib finds no symmetry the cell is taken as it is, in space group 0.
    """
    numbers = np.array([ATOMIC_NUMBERS[symbol] for symbol in crystal.elements])
    lattice, positions, numbers_primitive, group = _primitive(crystal, numbers, tolerance)
    return Signature(
        identical=_digest(crystal, numbers),
        kind=(reduced_formula(crystal.elements), group, len(numbers_primitive)),
        distances=_distances(lattice, positions, numbers_primitive),
    )


def equal_groups(signatures: Sequence[Signature], tolerance: float = 0.01) -> list[int]:
    """For each structure the number of its group of equal ones, from 0 in order of first appearance.

    Args:
        signatures: of all structures.
        tolerance: largest difference of a distance in angstrom.
    """
    representatives: dict[tuple[str, int, int], list[tuple[int, Signature]]] = {}
    groups: list[int] = []
    count = 0
    for each in signatures:
        known = representatives.setdefault(each.kind, [])
        for number, other in known:
            if np.abs(each.distances - other.distances).max() <= tolerance:
                groups.append(number)
                break
        else:
            known.append((count, each))
            groups.append(count)
            count += 1
    return groups


def _primitive(
    crystal: Crystal, numbers: NDArray[np.int64], tolerance: float
) -> tuple[FloatArray, FloatArray, NDArray[np.int64], int]:
    """Lattice, Cartesian positions inside the cell, atomic numbers and space group of the primitive cell."""
    import spglib

    cell = (crystal.lattice, crystal.fractional_coordinates, numbers)
    found, group = None, 0
    with warnings.catch_warnings():
        # spglib announces a change of its error handling on every call.
        warnings.simplefilter("ignore")
        try:
            dataset = spglib.get_symmetry_dataset(cell, symprec=tolerance)
            if dataset is not None:
                found, group = spglib.find_primitive(cell, symprec=tolerance), int(dataset.number)
        # Which exceptions come depends on the version and its settings.
        except Exception:
            found = None
    if found is None:
        found, group = cell, 0
    lattice = np.asarray(found[0], dtype=np.float64)
    fractional = np.asarray(found[1], dtype=np.float64) % 1.0 % 1.0
    return lattice, fractional @ lattice, np.asarray(found[2], dtype=np.int64), group


def _distances(lattice: FloatArray, positions: FloatArray, numbers: NDArray[np.int64]) -> FloatArray:
    try:
        center, neighbor, image = nearest_neighbors(lattice, positions, NEIGHBORS)
    except StructureError:
        # A cell so empty that its atoms have no neighbours: nothing but kind and volume is left to compare.
        return np.full((len(numbers), NEIGHBORS), abs(float(np.linalg.det(lattice))))
    length = np.linalg.norm(positions[neighbor] + image @ lattice - positions[center], axis=1)
    order = np.lexsort((length, center))
    starts = np.searchsorted(center[order], np.arange(len(numbers)))
    nearest = length[order][starts[:, None] + np.arange(NEIGHBORS)]
    # Sorting each column by itself keeps small shifts small: rows could change places.
    return np.concatenate([np.sort(nearest[numbers == each], axis=0) for each in np.unique(numbers)])


def _digest(crystal: Crystal, numbers: NDArray[np.int64]) -> str:
    lattice = np.asarray(crystal.lattice, dtype=np.float64)
    lengths = np.linalg.norm(lattice, axis=1)
    cosines = (lattice @ lattice.T)[np.triu_indices(3, 1)] / np.outer(lengths, lengths)[np.triu_indices(3, 1)]
    # Rounded again after the wrap: 0.9999 and 0 are one place.
    places = np.round(np.round(crystal.fractional_coordinates, _DECIMALS) % 1.0, _DECIMALS) % 1.0 + 0.0
    atoms = sorted((int(number), *map(float, place)) for number, place in zip(numbers, places, strict=True))
    text = repr((np.round(lengths, _DECIMALS).tolist(), (np.round(cosines, _DECIMALS) + 0.0).tolist(), atoms))
    return hashlib.sha256(text.encode()).hexdigest()
