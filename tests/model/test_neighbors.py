"""Neighbours, bonds and angles against jarvis-tools, dgl and plain loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model import neighbors
from model.errors import StructureError
from model.neighbors import (
    bond_cosines,
    exact_distances,
    line_graph,
    nearest_neighbors,
    undirected_bonds,
)

SEEDS = st.integers(0, 2**32 - 1)


def random_crystal(seed: int, atoms: int) -> tuple[np.ndarray, np.ndarray]:
    """A cell of random shape with atoms on a jittered grid, so that none are close."""
    generator = np.random.default_rng(seed)
    lattice = np.diag(generator.uniform(2.5, 9, 3)) + generator.uniform(-1.5, 1.5, (3, 3))
    side = int(np.ceil(atoms ** (1 / 3)))
    grid = np.array(list(itertools.product(range(side), repeat=3)))[:atoms] / side
    fractional = (grid + generator.uniform(0, 0.5 / side, (atoms, 3))) % 1.0
    return lattice, fractional @ lattice


def neighbors_by_loop(lattice: np.ndarray, positions: np.ndarray, k: int) -> set[tuple[int, ...]]:
    """Every neighbour up to the k-th distance over all images within reach, one at a time."""
    reach = range(-6, 7)
    found = set()
    for i, center in enumerate(positions):
        rows = []
        for image in itertools.product(reach, repeat=3):
            shift = np.dot(np.array(image, float), lattice)
            rows += [
                (float(((shift + position - center) ** 2).sum() ** 0.5), (i, j, *image))
                for j, position in enumerate(positions)
            ]
        rows = sorted(row for row in rows if row[0] > 0.15)
        found |= {row for distance, row in rows if distance <= rows[k - 1][0]}
    return found


@settings(max_examples=10, deadline=None)
@given(SEEDS, st.integers(1, 3), st.sampled_from([1, 5, 12]))
def test_neighbors_are_those_of_a_plain_loop(seed, atoms, k):
    lattice, positions = random_crystal(seed, atoms)
    center, neighbor, image = nearest_neighbors(lattice, positions, k)
    ours = {(int(i), int(j), *map(int, cell)) for i, j, cell in zip(center, neighbor, image, strict=True)}
    assert len(ours) == len(center)
    assert ours == neighbors_by_loop(lattice, positions, k)


@pytest.mark.parametrize("order", ["C", "F"])
@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_distances_have_the_bits_of_jarvis_arithmetic(order, seed):
    generator = np.random.default_rng(seed)
    lattice = np.asarray(generator.normal(0, 4, (3, 3)), order=order)
    positions = generator.uniform(0, 9, (7, 3))
    center, neighbor = generator.integers(0, 7, (2, 200))
    image = generator.integers(-5, 6, (200, 3)).astype(float)
    expected = []
    for i, j, cell in zip(center, neighbor, image, strict=True):
        # The lines of jarvis.core.atoms.Atoms.get_all_neighbors, one image at a time.
        coords = np.dot(tuple(cell), lattice) + positions
        z = (coords[:, None, :] - positions[None, :, :]) ** 2
        expected.append((np.sum(z, axis=-1) ** 0.5)[j, i])
    assert np.array_equal(exact_distances(lattice, positions, center, neighbor, image), np.array(expected))


@pytest.mark.parametrize("occupancy", [0.01, 0.5, 30.0])
def test_first_radius_does_not_matter(monkeypatch, textbook_structure, occupancy):
    inside = textbook_structure.fractional_coordinates % 1.0 @ textbook_structure.lattice
    expected = nearest_neighbors(textbook_structure.lattice, inside, 12)
    monkeypatch.setattr(neighbors, "_FIRST_RADIUS_OCCUPANCY", occupancy)
    found = nearest_neighbors(textbook_structure.lattice, inside, 12)
    rows = [{tuple(row) for row in np.column_stack(arrays).tolist()} for arrays in (expected, found)]
    assert rows[0] == rows[1]


def test_crystal_too_empty_to_search_is_refused(monkeypatch):
    monkeypatch.setattr(neighbors, "_MOST_CANDIDATES", 500)
    positions = np.vstack((np.random.default_rng(0).uniform(0, 9, (40, 3)), [[60.0, 60.0, 60.0]]))
    with pytest.raises(StructureError, match="expected 30 neighbours around every atom"):
        nearest_neighbors(100.0 * np.eye(3), positions, 30)


def test_bond_to_own_image_is_there_for_both_images():
    """Simple cubic, 6 neighbours: each of +a, -a, +b, ... is a bond, and each bond has its reverse."""
    center, neighbor, image = nearest_neighbors(3.0 * np.eye(3), np.zeros((1, 3)), 6)
    first, second, images = undirected_bonds(center, neighbor, image, 1, canonize=True)
    assert len(first) == 6
    assert {tuple(row) for row in images.astype(int).tolist()} == {
        (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)
    }  # fmt: skip
    assert not first.any()
    assert not second.any()


def test_canonize_merges_mutual_neighbours_only():
    """Atoms on a line: 1 is nearest to both 0 and 2, 0 is nearest to 1; 2's relation is one-sided."""
    center, neighbor = np.array([0, 1, 2]), np.array([1, 0, 1])
    image = np.zeros((3, 3))
    merged = undirected_bonds(center, neighbor, image, 3, canonize=True)
    kept = undirected_bonds(center, neighbor, image, 3, canonize=False)
    assert list(zip(merged[0].tolist(), merged[1].tolist(), strict=True)) == [(0, 1), (1, 2)]
    assert list(zip(kept[0].tolist(), kept[1].tolist(), strict=True)) == [(0, 1), (1, 0), (2, 1)]


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.booleans(), st.sampled_from([1, 40, 2**21]))
def test_bonds_are_the_distinct_relations(seed, canonize, reach):
    """The packed keys against sets, also where the numbers do not fit into 64 bits together."""
    generator = np.random.default_rng(seed)
    center, neighbor = generator.integers(0, 5, (2, 60))
    image = generator.integers(-reach, reach + 1, (60, 3)) * generator.integers(0, 2, (60, 1))
    expected = set()
    for i, j, cell in zip(center.tolist(), neighbor.tolist(), image.tolist(), strict=True):
        relation = (i, j, *cell)
        if canonize and j < i:
            relation = (j, i, *(-c for c in cell))
        expected.add(relation)
    first, second, images = undirected_bonds(center, neighbor, image.astype(float), 5, canonize=canonize)
    found = [(i, j, *map(int, cell)) for i, j, cell in zip(first, second, images, strict=True)]
    assert found == sorted(expected)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(1, 6), st.integers(1, 25))
def test_line_graph_is_that_of_a_double_loop(seed, atoms, bonds):
    source, target = np.random.default_rng(seed).integers(0, atoms, (2, bonds))
    first, second = line_graph(source, target, atoms)
    expected = [
        (a, b) for a in range(bonds) for b in range(bonds) if target[a] == source[b] and a != b
    ]  # fmt: skip
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == expected


def test_line_graph_is_that_of_dgl():
    dgl = pytest.importorskip("dgl", reason="no dgl wheel for this Python")
    source, target = np.random.default_rng(3).integers(0, 9, (2, 80))
    line = dgl.graph((source, target), num_nodes=9).line_graph()
    first, second = line_graph(source, target, 9)
    theirs = sorted(zip(*(part.tolist() for part in line.edges()), strict=True))
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == theirs


def test_cosines_are_those_of_the_angle_at_the_shared_atom():
    """Bonds 0 -> 1 along x and 1 -> 2 at a right angle, at 120 degrees, straight on and straight back."""
    turn = np.deg2rad(60)
    vectors = np.array([[2, 0, 0], [0, 3, 0], [np.cos(turn), np.sin(turn), 0], [0.7, 0, 0], [-5, 0, 0]], np.float32)
    cosines = bond_cosines(vectors, np.zeros(4, int), np.array([1, 2, 3, 4]))
    np.testing.assert_allclose(cosines, [0, np.cos(np.deg2rad(120)), -1, 1], atol=1e-7)


def test_cosines_stay_within_one():
    vectors = np.random.default_rng(0).normal(0, 3, (500, 3)).astype(np.float32)
    forth_and_back = np.concatenate((vectors, -vectors))
    first, second = np.arange(500), np.arange(500) + 500
    cosines = bond_cosines(forth_and_back, first, second)
    assert cosines.max() <= 1
    np.testing.assert_allclose(cosines, 1, atol=1e-6)
