"""The crystal graph against jarvis-tools: bonds, angles, features; and what the type refuses."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from model.crystal import CrystalGraph, atom_features, build_graph, reduced_formula
from model.errors import StructureError
from model.neighbors import exact_distances, nearest_neighbors
from model.structure import ATOMIC_NUMBERS, ELEMENTS, Structure

SEEDS = st.integers(0, 2**32 - 1)


def unimodular(seed: int, steps: int = 4) -> np.ndarray:
    """A random integer matrix of determinant 1: another cell of the same lattice, often very oblique."""
    generator = np.random.default_rng(seed)
    matrix = np.eye(3, dtype=int)
    for _ in range(steps):
        row, other = generator.choice(3, 2, replace=False)
        matrix[row] += int(generator.integers(-2, 3)) * matrix[other]
    return matrix


def skewed(structure: Structure, seed: int) -> Structure:
    """The same crystal in another cell, atoms inside it."""
    change = unimodular(seed)
    fractional = structure.fractional_coordinates @ np.linalg.inv(change)
    return Structure(change @ structure.lattice, fractional % 1.0 % 1.0, structure.elements)


def loose_crystal(seed: int, side: int = 3) -> Structure:
    """27 atoms on a jittered grid: no ties, none near its own image, as exact symmetry would give."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3), axis=-1).reshape(-1, 3) / side
    # Whole hundredths: rounding to 5 decimals then changes neither this cell nor another of the lattice.
    lattice = (np.diag(generator.uniform(8, 10, 3)) + generator.uniform(-1, 1, (3, 3))).round(2)
    elements = generator.choice(["Ga", "N", "O"], side**3)
    return Structure(lattice, grid + generator.uniform(0.02, 0.15, grid.shape), tuple(map(str, elements)))


def signature(graph: CrystalGraph) -> tuple[np.ndarray, np.ndarray]:
    lengths = graph.bond_vectors.norm(dim=1)
    return np.sort(lengths.numpy()), np.sort(graph.angle_cosines.numpy())


def assert_same_signature(one: CrystalGraph, other: CrystalGraph) -> None:
    for ours, theirs in zip(signature(one), signature(other), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def kth_neighbor_is_clear(structure: Structure) -> bool:
    """Whether rounding a rotated cell cannot swap the 12th neighbour of any atom with the 13th."""
    far = []
    for k in (12, 13):
        center, neighbor, image = nearest_neighbors(structure.lattice, structure.positions, k)
        distance = exact_distances(structure.lattice, structure.positions, center, neighbor, image)
        far.append(np.array([distance[center == i].max() for i in range(structure.number_of_atoms)]))
    return bool((far[1] - far[0] > 1e-3).all())


@pytest.mark.parametrize("canonize", [True, False])
@pytest.mark.parametrize("k", [1, 6, 12, 25])
def test_textbook_graphs_are_those_of_jarvis(
    textbook_structure, jarvis_graph, as_atoms, assert_same_graph, k, canonize
):
    atoms = as_atoms(textbook_structure)
    expected = jarvis_graph(atoms, canonize=canonize, max_neighbors=k)
    assert_same_graph(build_graph(atoms, max_neighbors=k, canonize=canonize), expected)


@pytest.mark.parametrize("seed", range(6))
def test_skewed_cells_give_the_graphs_of_jarvis(textbook, jarvis_graph, as_atoms, assert_same_graph, seed):
    for name in ("silicon", "perovskite", "magnesium", "rocksalt"):
        structure = skewed(textbook[name], seed)
        assert_same_graph(build_graph(structure), jarvis_graph(as_atoms(structure)))


@pytest.mark.parametrize(("name", "repeats"), [("perovskite", [2, 2, 1]), ("silicon", [3, 2, 2]), ("iron", [2, 2, 2])])
def test_supercells_give_the_graphs_of_jarvis(textbook, jarvis_graph, as_atoms, assert_same_graph, name, repeats):
    """jarvis makes supercells in cartesian coordinates, which must reach the arithmetic unchanged."""
    supercell = as_atoms(textbook[name]).make_supercell(repeats)
    assert supercell.cartesian
    assert_same_graph(build_graph(supercell), jarvis_graph(supercell))


@pytest.mark.parametrize("cutoff", [2.0, 5, 8.0, 13.7])
def test_graph_does_not_depend_on_the_cutoff(textbook, jarvis_graph, as_atoms, assert_same_graph, cutoff):
    """jarvis widens its cutoff until every atom has k neighbours, and the k-th distance is what it is."""
    for name in ("graphene", "water in a box", "rocksalt"):
        expected = jarvis_graph(as_atoms(textbook[name]), cutoff=cutoff)
        assert_same_graph(build_graph(textbook[name], cutoff=cutoff), expected)


def test_coordination_of_textbook_crystals(textbook):
    """Face-centred cubic: 12 neighbours at a / sqrt 2, each bond once and once reversed for either image."""
    graph = build_graph(textbook["copper"])
    assert graph.number_of_bonds == 24
    np.testing.assert_allclose(graph.bond_vectors.norm(dim=1), 3.615 / 2**0.5, atol=1e-4)
    silicon = build_graph(textbook["silicon"], max_neighbors=4)
    assert silicon.number_of_bonds == 8
    np.testing.assert_allclose(silicon.bond_vectors.norm(dim=1), 5.4307 * 3**0.5 / 4, atol=1e-4)
    # From bond into bond: straight back (1), or on through the tetrahedral angle (-1/3).
    values, counts = np.unique(silicon.angle_cosines.numpy().round(4), return_counts=True)
    np.testing.assert_allclose(values, [-0.3333, 1])
    assert counts.tolist() == [24, 8]


def test_every_second_bond_is_the_reverse(textbook_structure):
    graph = build_graph(textbook_structure)
    assert torch.equal(graph.bond_source[0::2], graph.bond_target[1::2])
    assert torch.equal(graph.bond_target[0::2], graph.bond_source[1::2])
    assert torch.equal(graph.bond_vectors[0::2], -graph.bond_vectors[1::2])


def test_all_crystals_of_jarvis50(shared, jarvis_graph, assert_same_graph):
    from jarvis.core.atoms import Atoms

    paths = sorted((shared / "data/jarvis50/cif").glob("*.cif"))
    assert len(paths) == 50
    for path in paths:
        atoms = Atoms.from_cif(str(path), use_cif2cell=False, get_primitive_atoms=False)
        for canonize in (True, False):
            graph = build_graph(path, canonize=canonize)
            expected = jarvis_graph(atoms, canonize=canonize)
            assert_same_graph(graph, expected)
        np.testing.assert_array_equal(graph.atom_features, expected["atom_features"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["supercell", "skewed"])
def test_cells_made_of_jarvis50(shared, jarvis_graph, as_atoms, assert_same_graph, kind):
    from jarvis.core.atoms import Atoms

    for seed, path in enumerate(sorted((shared / "data/jarvis50/cif").glob("*.cif"))[::3]):
        atoms = Atoms.from_cif(str(path), use_cif2cell=False, get_primitive_atoms=False)
        if kind == "supercell":
            made = atoms.make_supercell([2, 1, 2])
        else:
            made = as_atoms(skewed(Structure(atoms.lattice_mat, atoms.frac_coords, tuple(atoms.elements)), seed))
        assert_same_graph(build_graph(made), jarvis_graph(made))


@pytest.mark.parametrize("canonize", [True, False])
def test_recorded_graphs(shared, assert_same_graph, canonize):
    recorded = np.load(shared / "oracle/graphs_extra.npz")
    names = {key.split("/")[0] for key in recorded.files}
    assert len(names) == 11
    for name in names:
        part = f"{name}/canonize{int(canonize)}/"
        fields = {key.removeprefix(part): recorded[key] for key in recorded.files if key.startswith(part)}
        elements = tuple(ELEMENTS[z - 1] for z in recorded[f"{name}/Z"])
        structure = Structure(recorded[f"{name}/lattice"], recorded[f"{name}/frac_coords"], elements)
        graph = build_graph(structure, canonize=canonize)
        if "lg_src" not in fields:
            # Angles were recorded for the smaller crystals only.
            fields |= angles_as_recorded(graph, fields)
        assert_same_graph(graph, fields)


def angles_as_recorded(graph: CrystalGraph, fields: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The line graph of the recorded bonds, in float64 by a double loop over the bonds at each atom."""
    source, target, vectors = fields["src"], fields["dst"], fields["r"].astype(float)
    pairs = np.argwhere(target[:, None] == source[None, :])
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    assert len(pairs) == graph.number_of_angles
    back, on = -vectors[pairs[:, 0]], vectors[pairs[:, 1]]
    cosine = (back * on).sum(1) / np.linalg.norm(back, axis=1) / np.linalg.norm(on, axis=1)
    return {"lg_src": pairs[:, 0], "lg_dst": pairs[:, 1], "lg_h": cosine}


def test_recorded_inputs(shared, assert_same_graph):
    recorded = np.load(shared / "oracle/inputs6.npz")
    poscars = sorted((shared / "oracle/structures").glob("POSCAR-*"))
    assert len(poscars) == 6
    for j in range(6):
        numbers = recorded[f"struct{j}/Z"]
        elements = tuple(ELEMENTS[z - 1] for z in numbers)
        structure = Structure(recorded[f"struct{j}/lattice"], recorded[f"struct{j}/frac_coords"], elements)
        fields = {key.split("/")[1]: recorded[key] for key in recorded.files if key.startswith(f"single{j}/")}
        graph = build_graph(structure)
        assert_same_graph(graph, fields)
        np.testing.assert_array_equal(graph.atom_features, fields["atom_features"])
        np.testing.assert_array_equal(graph.atomic_numbers, numbers)
        path = next(p for p in poscars if build_graph(p).number_of_atoms == len(numbers))
        assert_same_graph(build_graph(path), fields)


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_order_of_atoms_does_not_matter(seed):
    structure = loose_crystal(seed)
    order = np.random.default_rng(seed).permutation(structure.number_of_atoms)
    shuffled = Structure(
        structure.lattice,
        structure.fractional_coordinates[order],
        tuple(structure.elements[i] for i in order),
    )
    graph, other = build_graph(structure), build_graph(shuffled)
    assert_same_signature(graph, other)
    degree, other_degree = (torch.bincount(g.bond_source) for g in (graph, other))
    assert torch.equal(degree[order], other_degree)


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_translation_and_rotation_do_not_matter(seed):
    structure = loose_crystal(seed)
    assume(kth_neighbor_is_clear(structure))
    generator = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    moved = Structure(
        structure.lattice @ rotation,
        structure.fractional_coordinates + generator.uniform(-3, 3, 3),
        structure.elements,
    )
    assert_same_signature(build_graph(structure), build_graph(moved))


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_choice_of_cell_does_not_matter(seed):
    structure = loose_crystal(seed)
    assert_same_signature(build_graph(structure), build_graph(skewed(structure, seed)))


@pytest.mark.parametrize("shift", [[-1e-14, 0, 0], [-0.3, -0.2, 0.1], [0.4, -0.5, 0.2], [1.5, 0, 0], [0, -1.2, 0]])
def test_shifted_crystals_give_the_graphs_of_jarvis(textbook, jarvis_graph, as_atoms, assert_same_graph, shift):
    """The oracle wraps only where jarvis, tried on the very atoms, misses neighbours."""
    for name in ("magnesium", "rocksalt", "perovskite", "copper"):
        structure = textbook[name]
        moved = Structure(structure.lattice, structure.fractional_coordinates + shift, structure.elements)
        assert_same_graph(build_graph(moved), jarvis_graph(as_atoms(moved)))


def test_atoms_outside_the_cell_are_wrapped(textbook):
    """Quarters and whole numbers are exact in binary, so that not even the last bit moves."""
    inside = textbook["silicon"]
    outside = Structure(
        inside.lattice, inside.fractional_coordinates + np.array([[3, -2, 1], [-4, 0, 7]]), inside.elements
    )
    one, other = build_graph(inside), build_graph(outside)
    assert torch.equal(one.bond_vectors, other.bond_vectors)
    assert torch.equal(one.bond_source, other.bond_source)
    np.testing.assert_array_equal(other.fractional_coordinates, inside.fractional_coordinates)


def test_features_are_those_of_jarvis_for_every_element():
    with pytest.MonkeyPatch.context() as patch:
        # jarvis prints a warning for the elements that have none.
        patch.setattr("builtins.print", lambda *words: None)
        from jarvis.core.specie import get_node_attributes

        expected = np.array([get_node_attributes(symbol, atom_features="cgcnn") for symbol in ELEMENTS])
    np.testing.assert_array_equal(atom_features(np.arange(1, 104)), expected.astype(np.float32))


def test_formula_orders_and_reduces_as_pymatgen():
    pymatgen = pytest.importorskip("pymatgen.core", reason="pymatgen is not installed")
    for text in ("Ba2Ti2O6", "Fe4O6", "Cu", "Na3Cl3", "Ga1N1", "Mo6W1S7", "Xe1F2", "Ti8"):
        composition = pymatgen.Composition(text)
        elements = [symbol for symbol, n in composition.get_el_amt_dict().items() for _ in range(int(n))]
        assert reduced_formula(elements) == composition.reduced_formula
    # An atom stands for itself; pymatgen writes elements that form molecules as molecules.
    assert reduced_formula(["O", "O"]) == "O"


def test_labels_number_atoms_within_their_element(textbook):
    graph = build_graph(textbook["perovskite"])
    assert graph.atom_labels == ("Ba1", "Ti1", "O1", "O2", "O3")
    assert graph.formula == "BaTiO3"
    assert graph.atomic_numbers.tolist() == [ATOMIC_NUMBERS[e] for e in graph.elements]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_neighbors": 0}, "whole number of neighbours"),
        ({"max_neighbors": 2.5}, "whole number of neighbours"),
        ({"cutoff": 0.0}, "positive cutoff"),
        ({"cutoff": float("nan")}, "positive cutoff"),
        ({"cutoff": float("inf")}, "positive cutoff"),
    ],
)
def test_arguments_out_of_range_are_refused(textbook, options, words):
    with pytest.raises(StructureError, match=words):
        build_graph(textbook["silicon"], **options)


def test_overlap_names_the_file(tmp_path):
    path = tmp_path / "POSCAR"
    path.write_text("double\n1.0\n4 0 0\n0 4 0\n0 0 4\nSi\n2\ndirect\n0 0 0\n0.01 0 0\n")
    with pytest.raises(StructureError, match=r"POSCAR: expected atoms more than 0\.15 angstrom apart"):
        build_graph(path)


@pytest.mark.parametrize(
    ("field", "change", "words"),
    [
        ("bond_vectors", lambda t: t.double(), "bond_vectors of shape"),
        ("atom_features", lambda t: t[:, :91], r"atom_features of shape \(2, 92\)"),
        ("atomic_numbers", lambda t: t[:1], "atomic_numbers of shape"),
        ("bond_source", lambda t: t + 1, "bond_source between 0 and 1, got 1 to 2"),
        ("bond_target", lambda t: t - 1, "bond_target between 0 and 1, got -1 to 0"),
        ("bond_vectors", lambda t: t.abs(), "reverse of the one before"),
        ("bond_vectors", lambda t: t * float("inf"), "reverse of the one before|finite"),
        ("angle_source", lambda t: t + 10_000, "angle_source between"),
        ("angle_source", lambda t: t.flip(0), "bonds that meet"),
        ("angle_cosines", lambda t: t + 1, r"cosines in \[-1, 1\]"),
        ("angle_cosines", lambda t: t * float("nan"), r"cosines in \[-1, 1\]"),
        ("lattice", lambda a: a[:2], r"lattice \(3, 3\)"),
        ("fractional_coordinates", lambda a: a[:1], "fractional_coordinates"),
    ],
)
def test_graph_refuses_what_is_no_crystal_graph(textbook, field, change, words):
    graph = build_graph(textbook["rocksalt"])
    with pytest.raises(StructureError, match=words):
        dataclasses.replace(graph, **{field: change(getattr(graph, field))})


def test_graph_refuses_to_be_empty(textbook):
    graph = build_graph(textbook["copper"])
    none = {name: getattr(graph, name)[:0] for name in ("bond_source", "bond_target", "bond_vectors")}
    none |= {name: getattr(graph, name)[:0] for name in ("angle_source", "angle_target", "angle_cosines")}
    with pytest.raises(StructureError, match="at least one atom and one bond"):
        dataclasses.replace(graph, **none)
