"""Which atoms must have equal features: by the crystal's symmetry, and by what the graph shows of it.

Atoms of one symmetry orbit have equal features in every network that is invariant under rotations and
translations; only atoms of different orbits can show collapse. The graph of k nearest neighbours is not the
crystal, though: it can split an orbit where a tie between distances was cut, and it can make atoms of
different orbits alike. :func:`graph_classes` finds what no network of the family can tell apart on the graph
itself.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from interpret.refinement import Arrivals, cluster_values, colours_of, numbered_by_first
from model.crystal import CrystalGraph
from model.structure import ATOMIC_NUMBERS

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


class Crystal(Protocol):
    """What has a cell with atoms: ``model.structure.Structure`` and ``model.crystal.CrystalGraph``."""

    @property
    def lattice(self) -> FloatArray:
        """(3, 3) cell vectors in angstrom."""

    @property
    def fractional_coordinates(self) -> FloatArray:
        """(N, 3)."""

    @property
    def elements(self) -> tuple[str, ...]:
        """N symbols."""


@dataclass(frozen=True, eq=False)
class Orbits:
    """Symmetry-equivalent atoms.

    Attributes:
        labels: (N,) int64, the orbit of each atom, numbered from 0 by the lowest atom in it.
        space_group_symbol: short Hermann-Mauguin symbol, None where no symmetry was found out.
        space_group_number: 1 to 230, None likewise.
        tolerance: distance in angstrom within which positions count as equal.
        reason: why every atom is an orbit of its own where spglib gave no answer, else None.
    """

    labels: IntArray
    space_group_symbol: str | None
    space_group_number: int | None
    tolerance: float
    reason: str | None = None

    @property
    def number_of_orbits(self) -> int:
        """How many orbits there are."""
        return int(self.labels.max()) + 1


@dataclass(frozen=True, eq=False)
class GraphClasses:
    """Atoms and bonds that message passing on the graph cannot tell apart.

    Attributes:
        labels: (N,) int64, the class of each atom, numbered from 0 by the lowest atom in it.
        bond_labels: (E,) int64, the class of each directed bond, numbered likewise.
        rounds: rounds of refinement after which nothing split any more. A network of fewer layers may tell
            fewer atoms apart, none tells more.
        tolerance: relative for bond lengths, absolute for cosines; values closer than this are one value.
    """

    labels: IntArray
    bond_labels: IntArray
    rounds: int
    tolerance: float

    @property
    def number_of_classes(self) -> int:
        """How many classes of atoms there are."""
        return int(self.labels.max()) + 1


@dataclass(frozen=True)
class PartitionComparison:
    """Where the graph's classes and the symmetry orbits disagree; both are findings about the graph.

    Attributes:
        split_orbits: orbit to its classes, where there are several: the graph tells apart atoms that the
            crystal does not (a tie at the k-th neighbour was cut, or the structure breaks its symmetry by
            more than the tolerance of the classes).
        merged_classes: class to its orbits, where there are several: atoms that differ in the crystal have
            equal features in any network on this graph, however it was trained.
    """

    split_orbits: dict[int, tuple[int, ...]]
    merged_classes: dict[int, tuple[int, ...]]

    @property
    def agree(self) -> bool:
        """Whether the two partitions are the same."""
        return not self.split_orbits and not self.merged_classes


def orbits(structure: Crystal, tolerance: float = 0.01) -> Orbits:
    """Orbits of symmetry-equivalent atoms, by spglib (Togo, Shinohara and Tanaka, arXiv 1808.01590).

    Molecules and slabs are taken with their cell, as the network sees them. Where spglib gives no answer
    every atom is an orbit of its own, which judges too many pairs rather than too few, and the reason is
    stated.

    Args:
        structure: a structure or a graph.
        tolerance: in angstrom.

    Raises:
        ValueError: the tolerance is not positive.
    """
    import spglib

    if not tolerance > 0:
        raise ValueError(f"expected a positive tolerance in angstrom, got {tolerance}")
    numbers = [ATOMIC_NUMBERS[symbol] for symbol in structure.elements]
    reason = "spglib found no symmetry"
    with warnings.catch_warnings():
        # spglib announces a change of its error handling on every call.
        warnings.simplefilter("ignore")
        try:
            cell = (structure.lattice, structure.fractional_coordinates, numbers)
            dataset = spglib.get_symmetry_dataset(cell, symprec=tolerance)
        # Which exceptions come depends on the version and its settings.
        except Exception as error:
            dataset, reason = None, f"spglib failed: {error}"
    if dataset is None:
        alone = np.arange(len(numbers), dtype=np.int64)
        return Orbits(alone, None, None, tolerance, f"{reason} at a tolerance of {tolerance} angstrom")
    # Unlike `equivalent_atoms` these take in the symmetry that a supercell's shape breaks.
    labels = numbered_by_first(np.asarray(dataset.crystallographic_orbits))
    return Orbits(labels, str(dataset.international), int(dataset.number), tolerance)


def graph_classes(graph: CrystalGraph, tolerance: float = 1e-4, *, strict: bool = False) -> GraphClasses:
    """Atoms that no network of the family can tell apart: colour refinement of crystal graph and line graph.

    Follows an ALIGNN layer. Atoms, then bonds on the line graph, take in what arrives: the mean of the
    sources' values, weighted by gates that see source, target and link. Bonds also take in their two atoms.
    Colours start as element and features of atoms, length of bonds and cosine of angles, and are refined
    until nothing splits (Weisfeiler and Leman; Morris et al., arXiv 1810.02244; Xu et al., arXiv 1810.00826).

    A gated mean is not a sum. Where all sources have one colour it is their value, whatever the gates: in a
    crystal of one element all atoms have equal features in every such network, however different their
    surroundings. Where sources differ it depends on the multiset of (source, link) up to a common factor of
    the counts. Both hold but for the constant 1e-6 in the denominator of the mean, which a network whose
    gates are
    all but closed could use: `strict` counts multisets in full, a bound that no weights get past. Networks
    that are told the index of an atom, as positional fusion is, can tell apart what these classes join.

    Multisets are compared by hashes: two of M different ones are confused with a probability near M^2 / 2^62.

    Args:
        graph: from ``model.crystal.build_graph``.
        tolerance: bond lengths within this relative and cosines within this absolute distance are one value.
        strict: count multisets in full.

    Raises:
        ValueError: the tolerance is not positive.
    """
    if not tolerance > 0:
        raise ValueError(f"expected a positive tolerance, got {tolerance}")
    source, target = graph.bond_source.numpy(), graph.bond_target.numpy()
    first, second = graph.angle_source.numpy(), graph.angle_target.numpy()
    lengths = np.linalg.norm(graph.bond_vectors.numpy().astype(np.float64), axis=1)
    # Differences of logarithms are relative differences.
    bonds = cluster_values(np.log(lengths), tolerance)
    angles = cluster_values(graph.angle_cosines.numpy().astype(np.float64), tolerance)
    kinds = np.column_stack((graph.atomic_numbers.numpy(), graph.atom_features.numpy()))
    atoms = np.unique(kinds, axis=0, return_inverse=True)[1].reshape(-1)
    into_atoms, into_bonds = Arrivals(target, len(atoms), strict), Arrivals(second, len(bonds), strict)
    rounds, counts = 0, (-1, -1)
    while (now := (int(atoms.max()), int(bonds.max()))) != counts:
        counts, rounds = now, rounds + 1
        refined = colours_of(atoms, *into_atoms.colours(atoms[source], bonds))
        bonds = colours_of(bonds, atoms[source], atoms[target])
        bonds = colours_of(bonds, *into_bonds.colours(bonds[first], angles))
        atoms = refined
    # The last round only confirmed that nothing splits.
    return GraphClasses(numbered_by_first(atoms), numbered_by_first(bonds), rounds - 1, tolerance)


def compare_partitions(orbits: Orbits, classes: GraphClasses) -> PartitionComparison:
    """Hold the graph's classes against the symmetry orbits of the same atoms.

    Raises:
        ValueError: the two are of different numbers of atoms.
    """
    if len(orbits.labels) != len(classes.labels):
        raise ValueError(
            f"expected orbits and classes of the same crystal, got {len(orbits.labels)} and {len(classes.labels)} atoms"
        )
    return PartitionComparison(
        split_orbits=_several(orbits.labels, classes.labels),
        merged_classes=_several(classes.labels, orbits.labels),
    )


def _several(labels: IntArray, others: IntArray) -> dict[int, tuple[int, ...]]:
    """Labels whose members have more than one other label, with those."""
    pairs = np.unique(np.column_stack((labels, others)), axis=0)
    names, counts = np.unique(pairs[:, 0], return_counts=True)
    return {int(name): tuple(int(other) for other in pairs[pairs[:, 0] == name, 1]) for name in names[counts > 1]}
