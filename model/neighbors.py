"""Bonds and bond angles of a periodic crystal, with the arithmetic of jarvis-tools at ties.

The k-nearest graph keeps, for every atom, all neighbours not farther than its k-th one. Symmetric distances
tie, so which of them are kept depends on the last bit of the arithmetic; everything here that decides is
therefore computed as ``jarvis.core.atoms.Atoms.get_all_neighbors`` and ``jarvis.core.graphs`` compute it.
Only the search for candidates is free to differ, and a C library (vesin) does it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from model.errors import StructureError
from model.periodic_search import SAME_ATOM_DISTANCE, search_pairs

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

# jarvis-tools rounds the cell, and its reciprocal, to this many decimals; image shifts use the unrounded
# cell.
LATTICE_DECIMALS = 5
# How far a distance from vesin may be from jarvis' (angstrom): both are float64, 1e-12 was the most seen.
_ARITHMETIC_SLACK = 1e-6
# The first radius holds this many times `max_neighbors` atoms at the mean density. Tuned on 50 JARVIS
# crystals.
_FIRST_RADIUS_OCCUPANCY = 1.6
# Where vacuum makes the mean density small, matter is still as dense as elsewhere (angstrom).
_LARGEST_FIRST_RADIUS = 7.0
_RADIUS_GROWTH = 1.3
# A crystal so empty that this many candidates do not do is not searched further (memory, not physics).
_MOST_CANDIDATES = 30_000_000


def nearest_neighbors(
    lattice: FloatArray, positions: FloatArray, max_neighbors: int
) -> tuple[IntArray, IntArray, FloatArray]:
    """All neighbours of each atom up to the distance of its `max_neighbors`-th, ties included.

    jarvis-tools starts from a cutoff and widens it until every atom has enough neighbours within it; the k-th
    distance does not depend on that cutoff, so the result here needs none.

    Args:
        lattice: (3, 3) rows are the cell vectors in angstrom, unrounded (jarvis shifts images by these).
        positions: (N, 3) cartesian coordinates in angstrom of atoms inside the cell.
        max_neighbors: k, at least 1.

    Returns:
        Central atom (M,), neighbour (M,) and image of the neighbour (M, 3), a whole number of cell vectors.

    Raises:
        StructureError: two atoms, or an atom and its own image, are within 0.15 angstrom.
    """
    number_of_atoms = len(positions)
    volume = abs(float(np.linalg.det(lattice)))
    occupancy = _FIRST_RADIUS_OCCUPANCY * max_neighbors
    radius = (3 * occupancy * volume / (4 * math.pi * number_of_atoms)) ** (1 / 3)
    radius = min(radius, _LARGEST_FIRST_RADIUS)
    while True:
        pairs, shifts, _ = search_pairs(lattice, positions, radius)
        center, neighbor = pairs[:, 0], pairs[:, 1]
        count = np.bincount(center, minlength=number_of_atoms)
        if count.min() >= max_neighbors:
            image = shifts.astype(np.float64)
            distance = exact_distances(lattice, positions, center, neighbor, image)
            kth = _kth_distance(center, distance, count, max_neighbors)
            # Within the slack of the radius vesin may miss what jarvis' arithmetic puts inside.
            if kth.max() <= radius - 2 * _ARITHMETIC_SLACK:
                kept = np.flatnonzero(distance <= kth.take(center))
                return center.take(kept), neighbor.take(kept), image.take(kept, axis=0)
        if len(pairs) > _MOST_CANDIDATES / _RADIUS_GROWTH**3:
            raise StructureError(
                f"expected {max_neighbors} neighbours around every atom, got a crystal so empty in places "
                f"that {radius:.0f} angstrom do not hold them; use fewer neighbours or a smaller cell"
            )
        radius *= _RADIUS_GROWTH


def exact_distances(
    lattice: FloatArray, positions: FloatArray, center: IntArray, neighbor: IntArray, image: FloatArray
) -> FloatArray:
    """Distances (M,) in angstrom, bit for bit those of ``Atoms.get_all_neighbors``.

    jarvis shifts the cell by ``np.dot(image, lattice)``, one image at a time, which is a matrix-vector
    product in BLAS. A stack of one-row products takes the same route; a single matrix product may round
    otherwise.
    """
    shift = np.matmul(image[:, None, :], lattice)[:, 0]
    square = ((shift + positions.take(neighbor, axis=0)) - positions.take(center, axis=0)) ** 2
    root: FloatArray = ((square[:, 0] + square[:, 1]) + square[:, 2]) ** 0.5
    return root


def jarvis_finds(
    lattice: FloatArray,
    fractional: FloatArray,
    positions: FloatArray,
    relations: tuple[IntArray, IntArray, FloatArray],
    cutoff: float,
) -> bool:
    """Whether jarvis-tools, starting from this cutoff, tries the images in which all these neighbours lie.

    It does for atoms inside the cell. Along each axis it tries ``floor(min) - m`` to ``ceil(max) + m - 1``,
    where m cells hold the cutoff; atoms outside may have neighbours in others.

    Args:
        lattice: (3, 3) cell vectors in angstrom, unrounded.
        fractional, positions: (N, 3) coordinates of the atoms in both systems.
        relations: from :func:`nearest_neighbors`.
        cutoff: in angstrom; widened as jarvis-tools widens it where an atom has too few neighbours.
    """
    if fractional.min() >= 0 and fractional.max() < 1:
        return True
    cell = lattice.round(LATTICE_DECIMALS)
    farthest = exact_distances(lattice, positions, *relations).max()
    longest = round(float(np.sqrt((cell**2).sum(axis=1)).max()), 6)
    while cutoff < farthest:
        cutoff = longest if cutoff < longest else 2 * cutoff
    reciprocal = (2 * math.pi * np.linalg.inv(cell).T).round(LATTICE_DECIMALS)
    density = np.sqrt((reciprocal**2).sum(axis=1)).round(6) / (2 * math.pi)
    cells = np.ceil((cutoff + SAME_ATOM_DISTANCE) * density)
    low = np.floor(fractional.min(axis=0)) - cells
    high = np.ceil(fractional.max(axis=0)) + cells
    return bool(((relations[2] >= low) & (relations[2] < high)).all())


def undirected_bonds(
    center: IntArray, neighbor: IntArray, image: FloatArray, number_of_atoms: int, *, canonize: bool
) -> tuple[IntArray, IntArray, FloatArray]:
    """The bonds that neighbour relations make, each once, in a fixed order (atom, atom, image).

    Args:
        center, neighbor, image: from :func:`nearest_neighbors`.
        number_of_atoms: N.
        canonize: True merges i -> j with j -> i into one bond whose first atom has the lower index; False
            keeps every relation as a bond of its own, so that mutual neighbours are bonded twice. A bond of
            an atom to its own image is kept once for the image and once for the opposite image in both cases.

    Returns:
        First atom (K,), second atom (K,) and image of the second (K, 3) of each bond.
    """
    cells = image.astype(np.int64)
    reach = int(np.abs(cells).max())
    atom, digit = (number_of_atoms - 1).bit_length(), (2 * reach).bit_length()
    if 2 * atom + 3 * digit > 62:
        return _distinct_rows(center, neighbor, cells, canonize)
    # A relation as one number sorts many times faster than as a row. Images count from -reach.
    places = np.array([1 << 2 * digit, 1 << digit, 1])
    origin = reach * int(places.sum())
    shift = cells @ places
    key = ((center << atom | neighbor) << 3 * digit) + (origin + shift)
    if canonize:
        reverse = ((neighbor << atom | center) << 3 * digit) + (origin - shift)
        key = np.where(neighbor < center, reverse, key)
    key.sort()
    different = np.empty(len(key), dtype=bool)
    different[0] = True
    np.not_equal(key[1:], key[:-1], out=different[1:])
    key = key[different]
    pair = key >> 3 * digit
    digits = (key[:, None] >> np.array([2 * digit, digit, 0])) & ((1 << digit) - 1)
    return pair >> atom, pair & ((1 << atom) - 1), (digits - reach).astype(np.float64)


def line_graph(source: IntArray, target: IntArray, number_of_atoms: int) -> tuple[IntArray, IntArray]:
    """Pairs of bonds that meet: (e1, e2) with ``target[e1] == source[e2]`` and ``e1 != e2``.

    A bond and its reverse are such a pair (backtracking is part of the line graph of dgl and of ALIGNN).

    Args:
        source, target: (E,) atoms of each directed bond.
        number_of_atoms: N.

    Returns:
        First bond (A,) and second bond (A,) of each angle, sorted by the first.
    """
    leaving = np.argsort(source, kind="stable")
    degree = np.bincount(source, minlength=number_of_atoms)
    count = degree.take(target)
    end = np.cumsum(count)
    first = np.repeat(np.arange(len(source)), count)
    # Position of the angle among the bonds that leave the shared atom, counted from that atom's first bond.
    offset = (np.cumsum(degree) - degree).take(target) - (end - count)
    second = leaving.take(np.arange(len(first)) + np.repeat(offset, count))
    if (source == target).any():
        distinct = first != second
        first, second = first[distinct], second[distinct]
    return first, second


def bond_cosines(vectors: NDArray[np.float32], angle_source: IntArray, angle_target: IntArray) -> NDArray[np.float32]:
    """Cosine (A,) of the angle at the shared atom: ``-r1 . r2 / (|r1| |r2|)`` in float32, within [-1, 1]."""
    # By columns: three gathers of contiguous numbers are several times faster than one of rows.
    x, y, z = np.ascontiguousarray(vectors.T)
    length = np.sqrt(x * x + y * y + z * z)
    dot = x.take(angle_source) * x.take(angle_target)
    dot += y.take(angle_source) * y.take(angle_target)
    dot += z.take(angle_source) * z.take(angle_target)
    cosine = -dot / (length.take(angle_source) * length.take(angle_target))
    clamped: NDArray[np.float32] = np.clip(cosine, np.float32(-1), np.float32(1))
    return clamped


def _kth_distance(center: IntArray, distance: FloatArray, count: IntArray, k: int) -> FloatArray:
    """The k-th smallest distance (N,) of each atom, for pairs sorted by `center`, `count` of them each."""
    number_of_atoms, width = len(count), int(count.max())
    # A table with a row for each atom, filled up with infinity.
    shift = np.arange(number_of_atoms) * width - (np.cumsum(count) - count)
    table = np.full(number_of_atoms * width, np.inf)
    table[np.arange(len(center)) + shift.take(center)] = distance
    rows = table.reshape(number_of_atoms, width)
    rows.partition(k - 1, axis=1)
    kth: FloatArray = rows[:, k - 1]
    return kth


def _distinct_rows(
    center: IntArray, neighbor: IntArray, cells: IntArray, canonize: bool
) -> tuple[IntArray, IntArray, FloatArray]:
    """:func:`undirected_bonds` for numbers too large to be packed into 64 bits."""
    swapped = (neighbor < center) & canonize
    first, second = np.where(swapped, neighbor, center), np.where(swapped, center, neighbor)
    rows = np.column_stack((first, second, np.where(swapped[:, None], -cells, cells)))
    rows = np.unique(rows, axis=0)
    return rows[:, 0], rows[:, 1], rows[:, 2:].astype(np.float64)
