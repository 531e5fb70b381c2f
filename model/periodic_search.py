"""Pairs of atoms within a radius in a periodic cell, by vesin (a C library)."""

from __future__ import annotations

import math
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from model.errors import StructureError

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

# jarvis takes two atoms as close as this (angstrom) for one and drops their bond without a word.
SAME_ATOM_DISTANCE = 0.15
# vesin sorts atoms into bins of the size of the radius; with more than 1e5 it can divide by zero and end the
# process.
_MOST_BINS = 5e4
# Atoms farther apart than this (angstrom) need not be looked at to find those on top of each other.
_OVERLAP_RADIUS = 2.0
_IDENTITY = np.eye(3)


def search_pairs(lattice: FloatArray, positions: FloatArray, radius: float) -> tuple[IntArray, IntArray, FloatArray]:
    """Every pair of atoms, images included, within a radius, and some farther ones in very empty cells.

    Args:
        lattice: (3, 3) cell vectors in angstrom, however oblique.
        positions: (N, 3) cartesian positions in angstrom.
        radius: in angstrom.

    Returns:
        Atoms (M, 2) of each pair, sorted by the first; cell vectors (M, 3) by which the second is shifted,
        whole numbers; distance (M,) in angstrom. Every pair is there both ways.

    Raises:
        StructureError: names the closest two atoms where jarvis-tools would take them for one.
    """
    from vesin import NeighborList  # brings torch with it

    cell, change, lengths = _reduced(lattice)
    while math.prod(max(1.0, length / radius) for length in lengths) > _MOST_BINS:
        radius *= 1.3
    search = NeighborList(cutoff=radius, full_list=True, sorted=True, n_threads=1)
    pairs, shifts, distance = search.compute(positions, cell, True, "PSd")
    shifts = shifts.astype(np.int64)
    pairs = pairs.view(np.int64)
    if len(distance) and distance.min() <= SAME_ATOM_DISTANCE:
        closest = int(distance.argmin())
        _refuse(int(pairs[closest, 0]), int(pairs[closest, 1]), float(distance[closest]))
    return pairs, shifts if change is None else shifts @ change, distance


def refuse_overlap(lattice: FloatArray, positions: FloatArray) -> None:
    """Raise where jarvis-tools would take two atoms, or an atom and its own image, for one.

    Args:
        lattice: (3, 3) cell vectors in angstrom.
        positions: (N, 3) cartesian positions in angstrom.

    Raises:
        StructureError: names the closest two atoms and their distance.
    """
    # A radius far below one atom's share of the volume makes the search slower, not faster.
    volume = abs(float(np.linalg.det(lattice)))
    radius = min((3 * volume / (4 * math.pi * len(positions))) ** (1 / 3), _OVERLAP_RADIUS)
    search_pairs(lattice, positions, max(radius, 2 * SAME_ATOM_DISTANCE))


def _reduced(lattice: FloatArray) -> tuple[FloatArray, IntArray | None, list[float]]:
    """A short cell of the same lattice, the whole numbers that make it of the given one, and its lengths.

    vesin tries every image in a box around the cutoff, which for very oblique cells is all but endless. Pairs
    of vectors are reduced as Lagrange did until none gets shorter; None where none does at once.

    Raises:
        StructureError: the lattice has a vector so short that an atom is on its own image.
    """
    change: IntArray | None = None
    cell = lattice
    while True:
        gram = cell @ cell.T
        length = gram.diagonal()
        # How often vector j fits into vector i; half a vector more or less makes nothing shorter.
        fits = np.rint((gram / length - _IDENTITY) * (1 - 1e-9))
        if not fits.any():
            break
        row, column = divmod(int(np.abs(gram * fits).argmax()), 3)
        change = np.eye(3, dtype=np.int64) if change is None else change
        change[row] -= int(fits[row, column]) * change[column]
        cell = change @ lattice
    lengths = np.sqrt(length).tolist()
    if min(lengths) <= SAME_ATOM_DISTANCE:
        _refuse(0, 0, min(lengths))
    return cell, change, lengths


def _refuse(first: int, second: int, distance: float) -> NoReturn:
    other = "its own periodic image" if first == second else f"atom {second + 1}"
    raise StructureError(
        f"expected atoms more than {SAME_ATOM_DISTANCE} angstrom apart, got atom {first + 1} at "
        f"{distance:.3f} angstrom from {other}; remove the duplicate or correct the cell"
    )
