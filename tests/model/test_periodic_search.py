"""The search for pairs: against all images one by one, in cells of any shape, and where vesin alone would die."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model import periodic_search
from model.crystal import build_graph
from model.errors import StructureError
from model.neighbors import nearest_neighbors
from model.periodic_search import refuse_overlap, search_pairs
from model.structure import Structure


def pair_rows(lattice, positions, radius) -> dict[tuple[int, ...], float]:
    pairs, shifts, distances = search_pairs(lattice, positions, radius)
    assert (np.diff(pairs[:, 0]) >= 0).all()
    rows = zip(pairs.tolist(), shifts.tolist(), distances.tolist(), strict=True)
    found = {(*pair, *shift): distance for pair, shift, distance in rows if distance <= radius}
    assert len(found) == int((distances <= radius).sum())
    return found


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_pairs_are_those_of_all_images(seed):
    generator = np.random.default_rng(seed)
    lattice = np.diag(generator.uniform(2, 4, 3)) + generator.uniform(-1, 1, (3, 3))
    positions = np.array([[0.1, 0.1, 0.1], generator.uniform(0.4, 0.7, 3)]) @ lattice
    expected = {}
    for image in itertools.product(range(-6, 7), repeat=3):
        for i, j in itertools.product(range(2), repeat=2):
            distance = float(np.linalg.norm(positions[j] + np.array(image) @ lattice - positions[i]))
            if 1e-9 < distance <= 4.0:
                expected[(i, j, *image)] = distance
    found = pair_rows(lattice, positions, 4.0)
    assert found.keys() == expected.keys()
    np.testing.assert_allclose([found[key] for key in expected], list(expected.values()), atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-300, 300), min_size=6, max_size=6))
def test_oblique_cells_give_the_pairs_of_the_upright_one(shears):
    """Images count in the cell as given: S times the cell is the shift in space."""
    upright = np.array([[3.0, 0, 0], [0.5, 3.5, 0], [0.2, -0.4, 4.0]])
    change = np.eye(3, dtype=int)
    for (row, other), shear in zip(itertools.permutations(range(3), 2), shears[:3], strict=False):
        change[row] += shear * change[other]
    positions = np.array([[0.1, 0.1, 0.1], [1.4, 1.6, 2.1]])
    expected = pair_rows(upright, positions, 4.5)
    found = pair_rows(change @ upright, positions, 4.5)
    back = {(i, j, *(np.array(image) @ change).tolist()): d for (i, j, *image), d in found.items()}
    assert back.keys() == expected.keys()


@pytest.mark.parametrize(
    "lattice",
    [
        np.diag([1e4, 3, 3]),
        np.diag([1e4, 1e4, 3]),
        1e3 * np.eye(3),
        [[3, 0, 0], [1e4, 3, 0], [1e4, 1e4, 3]],
        [[3, 0, 1], [1e3, 3, 2], [1e3, 1e3, 3]],
        np.diag([0.16, 5, 5]),
    ],
    ids=["long", "flat", "empty", "oblique", "oblique and long", "thin"],
)
def test_extreme_cells_have_a_graph(lattice):
    """vesin divides by zero, or does not come back, on some of these when it is given them as they are."""
    graph = build_graph(Structure(np.array(lattice, float), np.array([[0.25, 0.5, 0.5]]), ("Cu",)))
    assert float(graph.bond_vectors.norm(dim=1).min()) > 0.15
    assert graph.number_of_bonds >= 24


def test_bins_are_never_too_many(monkeypatch):
    """A wider search where the cell would have more bins than vesin bears returns at least what was asked."""
    positions = np.array([[0.0, 0, 0], [1.1, 0, 0], [11.0, 0, 0]])
    expected = pair_rows(40.0 * np.eye(3), positions, 2.0)
    monkeypatch.setattr(periodic_search, "_MOST_BINS", 30)
    pairs, _, distances = search_pairs(40.0 * np.eye(3), positions, 2.0)
    assert len(pairs) > len(expected) == 2
    assert sorted(distances)[:2] == pytest.approx([1.1, 1.1])


@pytest.mark.parametrize(
    ("lattice", "positions", "words"),
    [
        (5.0 * np.eye(3), [[0, 0, 0], [0.1, 0, 0]], r"atom 1 at 0\.100 angstrom from atom 2"),
        (5.0 * np.eye(3), [[0.05, 1, 1], [4.98, 1, 1]], r"atom 1 at 0\.070 angstrom from atom 2"),
        (np.diag([0.12, 5.0, 5.0]), [[0, 0, 0]], r"atom 1 at 0\.120 angstrom from its own periodic image"),
    ],
)
def test_atoms_on_top_of_each_other_are_refused(lattice, positions, words):
    with pytest.raises(StructureError, match=words):
        refuse_overlap(lattice, np.array(positions, float))
    with pytest.raises(StructureError, match=words):
        nearest_neighbors(lattice, np.array(positions, float), 12)


def test_atoms_just_apart_pass():
    refuse_overlap(5.0 * np.eye(3), np.array([[0, 0, 0], [0.16, 0, 0]]))
    center, _, _ = nearest_neighbors(5.0 * np.eye(3), np.array([[0, 0, 0], [0.16, 0, 0]]), 1)
    assert center.tolist() == [0, 1]
