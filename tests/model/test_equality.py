"""Structures that are the same crystal are recognised in any cell, and others are not taken for them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.crystal import reduced_formula
from model.dataset import CrystalDataset
from model.demo import DEMO_DATA
from model.equality import equal_groups, signature
from model.structure import Structure, read_structure

ROCK_SALT = Structure(
    np.array([[0, 2.82, 2.82], [2.82, 0, 2.82], [2.82, 2.82, 0]]),
    np.array([[0, 0, 0], [0.5, 0.5, 0.5]]),
    ("Na", "Cl"),
)
RUTILE = Structure(
    np.diag([4.594, 4.594, 2.959]),
    np.array(
        [[0, 0, 0], [0.5, 0.5, 0.5], [0.305, 0.305, 0], [0.695, 0.695, 0], [0.195, 0.805, 0.5], [0.805, 0.195, 0.5]]
    ),
    ("Ti", "Ti", "O", "O", "O", "O"),
)


def rewritten(crystal: Structure, seed: int) -> Structure:
    """The same crystal in another cell: another basis or a supercell, turned, shifted, atoms in another order."""
    generator = np.random.default_rng(seed)
    while True:
        change = generator.integers(-1, 2, size=(3, 3))
        if abs(round(np.linalg.det(change))) in (1, 2):
            break
    lattice = change @ crystal.lattice
    steps = np.array(np.meshgrid(*[range(-4, 5)] * 3)).reshape(3, -1).T
    places, symbols = [], []
    for position, symbol in zip(crystal.fractional_coordinates, crystal.elements, strict=True):
        inside = (position + steps) @ np.linalg.inv(change)
        inside = np.round(inside, 9) + 0.0
        chosen = inside[((inside >= 0) & (inside < 1)).all(axis=1)]
        places.append(chosen)
        symbols += [symbol] * len(chosen)
    found = np.concatenate(places)
    rotation, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    order = generator.permutation(len(found))
    return Structure(lattice @ rotation, (found[order] + generator.random(3)) % 1.0, tuple(symbols[i] for i in order))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([ROCK_SALT, RUTILE]))
def test_any_cell_of_a_crystal_is_the_same_crystal(seed: int, crystal: Structure) -> None:
    assert equal_groups([signature(crystal), signature(rewritten(crystal, seed))]) == [0, 0]


def test_order_orientation_and_wrapping_leave_a_structure_identical() -> None:
    rotation = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    moved = Structure(
        ROCK_SALT.lattice @ rotation,
        ROCK_SALT.fractional_coordinates[::-1] + np.array([1, -1, 0]),
        ROCK_SALT.elements[::-1],
    )
    assert signature(moved).identical == signature(ROCK_SALT).identical
    rounded = Structure(ROCK_SALT.lattice, ROCK_SALT.fractional_coordinates - 2e-5, ROCK_SALT.elements)
    assert signature(rounded).identical == signature(ROCK_SALT).identical


@pytest.mark.parametrize(
    "other",
    [
        Structure(ROCK_SALT.lattice * 1.02, ROCK_SALT.fractional_coordinates, ROCK_SALT.elements),
        Structure(ROCK_SALT.lattice, ROCK_SALT.fractional_coordinates, ("Na", "Br")),
        Structure(ROCK_SALT.lattice, np.array([[0, 0, 0], [0.25, 0.25, 0.25]]), ROCK_SALT.elements),
        Structure(np.eye(3) * 3.5, ROCK_SALT.fractional_coordinates, ROCK_SALT.elements),
    ],
)
def test_other_crystals_are_not(other: Structure) -> None:
    first, second = signature(ROCK_SALT), signature(other)
    assert first.identical != second.identical
    assert equal_groups([first, second]) == [0, 1]


def test_an_independent_judge_agrees() -> None:
    """pymatgen's StructureMatcher, a search over lattices: polymorphs, rewritten cells, stretched cells."""
    matching = pytest.importorskip("pymatgen.analysis.structure_matcher")
    pymatgen = pytest.importorskip("pymatgen.core")
    matcher = matching.StructureMatcher(ltol=0.01, stol=0.01, angle_tol=1, scale=False)
    crystals = [read_structure(sample.structure) for sample in CrystalDataset.from_directory(DEMO_DATA)]
    formulas = [reduced_formula(crystal.elements) for crystal in crystals]
    pairs = [pair for pair in combinations(range(len(crystals)), 2) if len({formulas[each] for each in pair}) == 1]
    judged = [(crystals[a], crystals[b]) for a, b in pairs]
    small = [crystal for crystal in crystals if len(crystal.elements) <= 3][::12]
    judged += [(crystal, rewritten(crystal, 5)) for crystal in small]
    stretch = np.diag([1.0, 1.0, 1.05])
    judged += [(each, Structure(each.lattice @ stretch, each.fractional_coordinates, each.elements)) for each in small]
    answers = []
    for pair in judged:
        theirs = [pymatgen.Structure(each.lattice, each.elements, each.fractional_coordinates) for each in pair]
        answers.append(equal_groups([signature(each) for each in pair]) == [0, 0])
        assert answers[-1] == bool(matcher.fit(*theirs)), pair
    assert answers.count(True) > 5
    assert answers.count(False) > 5
