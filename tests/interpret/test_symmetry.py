"""Orbits against the textbook, classes of the graph against networks and an independent refinement."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from interpret.symmetry import (
    GraphClasses,
    Orbits,
    PartitionComparison,
    compare_partitions,
    graph_classes,
    orbits,
)
from model.crystal import CrystalGraph, build_graph
from model.structure import Structure


def cell(lattice, coordinates, elements: str) -> Structure:
    return Structure(np.array(lattice, float), np.array(coordinates, float), tuple(elements.split()))


HEXAGONAL = np.array([[1, 0, 0], [-0.5, 3**0.5 / 2, 0], [0, 0, 0]])
CUBIC = 4.0 * np.eye(3)
PEROVSKITE = cell(CUBIC, [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]], "Ba Ti O O O")
RUTILE = cell(
    np.diag([4.594, 4.594, 2.959]),
    [[0, 0, 0], [0.5, 0.5, 0.5], [0.305, 0.305, 0], [0.695, 0.695, 0], [0.195, 0.805, 0.5], [0.805, 0.195, 0.5]],
    "Ti Ti O O O O",
)
GRAPHENE = cell(2.461 * HEXAGONAL + np.diag([0, 0, 20.0]), [[1 / 3, 2 / 3, 0.5], [2 / 3, 1 / 3, 0.5]], "C C")
WATER = cell(12 * np.eye(3), [[0.5, 0.5, 0.5], [0.563, 0.549, 0.5], [0.437, 0.549, 0.5]], "O H H")
SILICON = cell(2.71535 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]), [[0, 0, 0], [0.25, 0.25, 0.25]], "Si Si")
XENON = cell(6.2 * np.eye(3), [[0, 0, 0]], "Xe")
# A chain of three layers: the middle one differs from the outer ones, which mirror each other.
SLAB = cell(np.diag([2.87, 2.87, 25.0]), [[0, 0, 0.4], [0.5, 0.5, 0.46], [0, 0, 0.52]], "Fe Fe Fe")


def loose(seed: int = 0, atoms: int = 12, elements: str = "C") -> Structure:
    """Atoms without any symmetry, of these elements in turn."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3), axis=-1).reshape(-1, 3)[:atoms] / 3
    symbols = tuple(elements.split()[i % len(elements.split())] for i in range(atoms))
    return Structure(9 * np.eye(3), grid + generator.uniform(0, 0.12, grid.shape), symbols)


@pytest.mark.parametrize(
    ("structure", "symbol", "number", "labels"),
    [
        (PEROVSKITE, "Pm-3m", 221, [0, 1, 2, 2, 2]),
        (RUTILE, "P4_2/mnm", 136, [0, 0, 1, 1, 1, 1]),
        (GRAPHENE, "P6/mmm", 191, [0, 0]),
        (SILICON, "Fd-3m", 227, [0, 0]),
        (XENON, "Pm-3m", 221, [0]),
        (WATER, "Pmm2", 25, [0, 1, 1]),
        (SLAB, "P4/mmm", 123, [0, 1, 0]),
        (loose(), "P1", 1, list(range(12))),
    ],
    ids=["perovskite", "rutile", "graphene", "silicon", "xenon", "water", "slab", "no symmetry"],
)
def test_orbits_are_those_of_the_textbook(structure, symbol, number, labels):
    for crystal in (structure, build_graph(structure)):
        found = orbits(crystal)
        assert found.labels.tolist() == labels
        assert found.number_of_orbits == max(labels) + 1
        assert (found.space_group_symbol, found.space_group_number) == (symbol, number)
        assert found.reason is None


def test_orbits_are_numbered_by_their_lowest_atom():
    order = [4, 1, 0, 3, 2]
    shuffled = Structure(
        PEROVSKITE.lattice,
        PEROVSKITE.fractional_coordinates[order],
        tuple(PEROVSKITE.elements[i] for i in order),
    )
    assert orbits(shuffled).labels.tolist() == [0, 1, 2, 0, 0]


def test_supercell_orbits_join_the_copies():
    copies = np.concatenate([PEROVSKITE.fractional_coordinates / [2, 1, 1] + [x, 0, 0] for x in (0, 0.5)])
    double = Structure(PEROVSKITE.lattice * [[2], [1], [1]], copies, PEROVSKITE.elements * 2)
    assert orbits(double).labels.tolist() == [0, 1, 2, 2, 2] * 2


def test_tolerance_decides_what_is_equal():
    moved = PEROVSKITE.fractional_coordinates.copy()
    moved[1, 2] += 0.005
    distorted = Structure(CUBIC, moved, PEROVSKITE.elements)
    assert orbits(distorted, tolerance=0.001).space_group_number == 99
    assert orbits(distorted, tolerance=0.1).space_group_number == 221


@pytest.mark.parametrize("how", ["none", "raises"])
def test_failure_of_spglib_makes_every_atom_an_orbit(monkeypatch, how):
    def fail(*arguments, **options):
        if how == "raises":
            raise RuntimeError("no cell")

    monkeypatch.setattr("spglib.get_symmetry_dataset", fail)
    found = orbits(PEROVSKITE)
    assert found.labels.tolist() == [0, 1, 2, 3, 4]
    assert found.space_group_symbol is None
    assert found.space_group_number is None
    assert found.reason is not None
    assert "spglib" in found.reason
    assert "0.01 angstrom" in found.reason


def test_atoms_closer_than_the_tolerance_have_a_reason():
    close = Structure(CUBIC, np.array([[0, 0, 0], [0.2, 0, 0]]), ("H", "H"))
    found = orbits(close, tolerance=2.0)
    assert found.labels.tolist() == [0, 1]
    assert found.reason == "spglib found no symmetry at a tolerance of 2.0 angstrom"


@pytest.mark.parametrize("tolerance", [0.0, -1.0, float("nan")])
def test_tolerance_must_be_positive(tolerance):
    with pytest.raises(ValueError, match="positive tolerance"):
        orbits(PEROVSKITE, tolerance=tolerance)
    with pytest.raises(ValueError, match="positive tolerance"):
        graph_classes(build_graph(XENON), tolerance=tolerance)


class EdgeGated(nn.Module):
    """An edge-gated convolution written from the formulas of the paper, float64, without batch norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gates = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
        self.source, self.own = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, source: Tensor, target: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        message = self.gates[0](x)[source] + self.gates[1](x)[target] + self.gates[2](y)
        gate = torch.sigmoid(message)
        total = torch.zeros_like(x).index_add(0, target, gate)
        mixed = torch.zeros_like(x).index_add(0, target, gate * self.source(x)[source]) / (total + 1e-6)
        return x + torch.tanh(self.own(x) + mixed), y + torch.tanh(message)


def random_features(graph: CrystalGraph, seed: int, layers: int = 6, width: int = 8) -> np.ndarray:
    """Atom features (N, width) after layers of message passing with random weights, on graph and line graph."""
    torch.manual_seed(seed)
    with torch.no_grad():
        embed = nn.Linear(92, width).double()
        x = torch.tanh(embed(graph.atom_features.double()))
        centers = torch.linspace(0, 8, width, dtype=torch.float64)
        y = torch.exp(-((graph.bond_vectors.double().norm(dim=1)[:, None] - centers) ** 2))
        z = torch.cos(graph.angle_cosines.double()[:, None] * torch.arange(1, width + 1))
        for _ in range(layers):
            atoms, bonds = EdgeGated(width).double(), EdgeGated(width).double()
            x, y = atoms(graph.bond_source, graph.bond_target, x, y)
            y, z = bonds(graph.angle_source, graph.angle_target, y, z)
        return x.numpy()


def assert_classes_are_what_networks_see(graph: CrystalGraph, classes: GraphClasses, apart: float) -> None:
    """Equal within a class for every network; for each pair of classes some network tells them apart."""
    features = [random_features(graph, seed) for seed in range(3)]
    largest = np.max([np.abs(f[:, None] - f[None, :]).max(axis=2) for f in features], axis=0)
    same = classes.labels[:, None] == classes.labels[None, :]
    assert largest[same].max() < 1e-6
    assert largest[~same].min(initial=np.inf) > apart


CRYSTALS = {
    "perovskite": PEROVSKITE, "rutile": RUTILE, "graphene": GRAPHENE, "water": WATER, "silicon": SILICON,
    "xenon": XENON, "slab": SLAB, "one element": loose(), "no symmetry": loose(elements="Ga N O"),
}  # fmt: skip


@pytest.mark.parametrize("canonize", [True, False])
@pytest.mark.parametrize("name", CRYSTALS)
def test_classes_are_what_networks_can_tell_apart(name, canonize):
    graph = build_graph(CRYSTALS[name], canonize=canonize)
    assert_classes_are_what_networks_see(graph, graph_classes(graph, tolerance=1e-5), apart=1e-5)


def test_classes_of_the_published_backbone(make_network):
    """The package's own ALIGNN layers in float32, random weights and batch-norm statistics."""
    network = make_network(alignn_layers=2, gcn_layers=1)
    from model.alignn import AlignnLayer

    layers = [module for module in network.modules() if isinstance(module, AlignnLayer)]
    assert len(layers) == 2
    graph = build_graph(loose(3, elements="Ga N O"))
    width = layers[0].node_update.src_gate.in_features
    for crystal in (build_graph(RUTILE), graph):
        torch.manual_seed(0)
        with torch.no_grad():
            x = crystal.atom_features @ torch.randn(92, width)
            y = torch.exp(-((crystal.bond_vectors.norm(dim=1)[:, None] - torch.linspace(0, 8, width)) ** 2))
            z = torch.exp(-((crystal.angle_cosines[:, None] - torch.linspace(-1, 1, width)) ** 2))
            for layer in layers:
                x, y, z = layer(
                    (crystal.bond_source, crystal.bond_target), (crystal.angle_source, crystal.angle_target),
                    x, y, z,
                )  # fmt: skip
        labels = graph_classes(crystal).labels
        difference = (x[:, None] - x[None, :]).abs().amax(dim=2).numpy() / float(x.abs().max())
        same = labels[:, None] == labels[None, :]
        assert difference[same].max() < 1e-5
        assert difference[~same].min() > 1e-4


@pytest.mark.parametrize("name", ["perovskite", "rutile", "water", "slab", "silicon"])
def test_classes_are_those_of_networkx(name):
    """Weisfeiler-Leman on atoms, bonds and angles as nodes joined by their roles, by an independent program."""
    graph = build_graph(CRYSTALS[name], max_neighbors=4)
    joined = nx.Graph()
    joined.add_nodes_from((("atom", i), {"kind": e}) for i, e in enumerate(graph.elements))
    lengths = graph.bond_vectors.norm(dim=1).numpy().round(3)
    pairs = zip(graph.bond_source.tolist(), graph.bond_target.tolist(), lengths, strict=True)
    for bond, (source, target, length) in enumerate(pairs):
        joined.add_node(("bond", bond), kind=f"bond {length}")
        for role, atom in (("from", source), ("to", target)):
            joined.add_node((role, bond), kind=role)
            joined.add_edge(("bond", bond), (role, bond))
            joined.add_edge((role, bond), ("atom", atom))
    angles = zip(graph.angle_source.tolist(), graph.angle_target.tolist(), graph.angle_cosines, strict=True)
    for angle, (first, second, cosine) in enumerate(angles):
        joined.add_node(("angle", angle), kind=f"angle {round(float(cosine), 3) + 0.0}")
        for role, bond in (("into", first), ("out of", second)):
            joined.add_node((role, angle), kind=role)
            joined.add_edge(("angle", angle), (role, angle))
            joined.add_edge((role, angle), ("bond", bond))
    hashes = nx.weisfeiler_lehman_subgraph_hashes(joined, node_attr="kind", iterations=12)
    theirs = [hashes[("atom", i)][-1] for i in range(graph.number_of_atoms)]
    expected = [sorted(set(theirs), key=theirs.index).index(label) for label in theirs]
    assert graph_classes(graph, strict=True).labels.tolist() == expected


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(CRYSTALS)))
def test_classes_do_not_depend_on_the_order_of_atoms(seed, name):
    """Renaming the atoms of one graph, ties and all, renames the classes and nothing else."""
    graph = build_graph(CRYSTALS[name])
    order = np.random.default_rng(seed).permutation(graph.number_of_atoms)
    place = torch.from_numpy(np.argsort(order))
    renamed = CrystalGraph(
        elements=tuple(graph.elements[i] for i in order),
        atomic_numbers=graph.atomic_numbers[order],
        atom_features=graph.atom_features[order],
        bond_source=place[graph.bond_source],
        bond_target=place[graph.bond_target],
        bond_vectors=graph.bond_vectors,
        angle_source=graph.angle_source,
        angle_target=graph.angle_target,
        angle_cosines=graph.angle_cosines,
        lattice=graph.lattice,
        fractional_coordinates=graph.fractional_coordinates[order],
    )
    one, other = graph_classes(graph), graph_classes(renamed)
    pairs = set(zip(one.labels[order].tolist(), other.labels.tolist(), strict=True))
    assert len(pairs) == one.number_of_classes == other.number_of_classes
    assert one.rounds == other.rounds


def test_noise_below_the_tolerance_is_no_difference():
    """1e-5 angstrom, what a CIF of six digits leaves, in a crystal whose ties were cut before it came."""
    graph = build_graph(SILICON)
    noise = 1e-5 * torch.randn(graph.number_of_bonds // 2, 3, generator=torch.Generator().manual_seed(0))
    shaken = graph.bond_vectors + torch.stack((noise, -noise), dim=1).reshape(-1, 3)
    noisy = CrystalGraph(**(graph.__dict__ | {"bond_vectors": shaken}))
    assert graph_classes(noisy).labels.tolist() == graph_classes(graph).labels.tolist()
    assert graph_classes(noisy, tolerance=1e-7).bond_labels.max() > graph_classes(graph).bond_labels.max()


def test_rounds_count_how_far_news_travels():
    """A row of equal atoms, k = 2: the two ends differ at first, and each round reaches one or two farther."""
    row = cell(np.diag([80.0, 30, 30]), [[(10 + 3 * i) / 80, 0.5, 0.5] for i in range(11)], " ".join(["Na"] * 11))
    classes = graph_classes(build_graph(row, max_neighbors=2), strict=True)
    assert classes.labels.tolist() == [0, 1, 2, 3, 4, 5, 4, 3, 2, 1, 0]
    assert classes.rounds >= 2
    assert classes.number_of_classes == 6


def test_a_thousand_atoms_without_symmetry_are_all_told_apart():
    generator = np.random.default_rng(1)
    grid = np.stack(np.meshgrid(*[np.arange(10)] * 3), axis=-1).reshape(-1, 3) / 10
    structure = Structure(25 * np.eye(3), grid + generator.uniform(0, 0.03, grid.shape), ("Si", "O") * 500)
    classes = graph_classes(build_graph(structure))
    assert classes.number_of_classes == 1000
    assert classes.rounds <= 3


def test_comparison_names_what_is_split_and_what_is_merged():
    found = Orbits(np.array([0, 0, 1, 2, 2, 3]), "P1", 1, 0.01)
    classes = GraphClasses(np.array([0, 1, 2, 2, 2, 3]), np.array([0]), 1, 1e-4)
    comparison = compare_partitions(found, classes)
    assert comparison.split_orbits == {0: (0, 1)}
    assert comparison.merged_classes == {2: (1, 2)}
    assert not comparison.agree
    with pytest.raises(ValueError, match="got 6 and 5 atoms"):
        compare_partitions(found, GraphClasses(np.arange(5), np.array([0]), 1, 1e-4))


def test_graph_of_a_symmetric_crystal_agrees_with_its_orbits():
    for structure in (PEROVSKITE, RUTILE, GRAPHENE, SILICON, XENON, WATER):
        comparison = compare_partitions(orbits(structure), graph_classes(build_graph(structure)))
        assert comparison == PartitionComparison({}, {})
        assert comparison.agree


def test_one_element_is_one_class():
    """A gated mean of equal values is that value: the surroundings of a pure element's atoms leave no trace."""
    for structure in (SLAB, loose()):
        graph = build_graph(structure)
        assert graph_classes(graph).number_of_classes == 1
        assert graph_classes(graph, strict=True).number_of_classes == orbits(structure).number_of_orbits
        assert np.ptp(random_features(graph, 0), axis=0).max() < 1e-6
    comparison = compare_partitions(orbits(SLAB), graph_classes(build_graph(SLAB)))
    assert comparison == PartitionComparison(split_orbits={}, merged_classes={0: (0, 1)})


def test_second_shell_that_nobody_reaches_is_merged():
    """Two carbon atoms that differ only in what lies beyond their one neighbour's bonds: no network sees it."""
    structure = cell(
        np.diag([30.0, 30, 30]), [[0.1, 0.5, 0.5], [0.15, 0.5, 0.5], [0.5, 0.5, 0.5], [0.55, 0.5, 0.5]], "C C C C"
    )
    structure = Structure(
        structure.lattice,
        np.vstack((structure.fractional_coordinates, [[0.7, 0.8, 0.9], [0.7, 0.8, 0.94]])),
        (*structure.elements, "O", "O"),
    )
    graph = build_graph(structure, max_neighbors=1)
    comparison = compare_partitions(orbits(structure), graph_classes(graph))
    assert comparison.split_orbits == {}
    assert comparison.merged_classes == {0: (0, 1, 2, 3), 1: (4, 5)}


def test_ties_cut_by_the_arithmetic_split_an_orbit(shared):
    """Ag2IO6: the six oxygen atoms are equivalent, and get different bonds from jarvis' exact comparison."""
    path = shared / "data/jarvis50/cif/JVASP-90228.cif"
    graph = build_graph(path)
    found, classes = orbits(graph), graph_classes(graph)
    assert found.space_group_symbol == "R-3"
    oxygen = [i for i, element in enumerate(graph.elements) if element == "O"]
    assert len({int(found.labels[i]) for i in oxygen}) == 1
    degrees = torch.bincount(graph.bond_source)[oxygen]
    assert len(set(degrees.tolist())) > 1
    assert list(compare_partitions(found, classes).split_orbits) == [int(found.labels[oxygen[0]])]
    features = random_features(graph, 0)
    spread = np.abs(features[oxygen][:, None] - features[oxygen][None, :]).max()
    assert spread > 1e-3


@pytest.mark.slow
def test_classes_of_jarvis50_are_what_networks_see(shared):
    """Atoms of one class agree to the noise of the coordinates, on all fifty crystals."""
    for path in sorted((shared / "data/jarvis50/cif").glob("*.cif")):
        graph = build_graph(path)
        labels = graph_classes(graph).labels
        features = random_features(graph, 0)
        difference = np.abs(features[:, None] - features[None, :]).max(axis=2)
        assert difference[labels[:, None] == labels[None, :]].max() < 1e-3, path.name
