"""The crystal graph and its line graph: what an ALIGNN network sees of a structure.

The graph is the one that jarvis-tools builds (``jarvis.core.graphs.Graph.atom_dgl_multigraph`` with k-nearest
neighbours and cgcnn atom features): the same multiset of bonds and of angles. Choudhary and DeCost, npj
Comput. Mater. 7, 185 (2021); atom features of Xie and Grossman, Phys. Rev. Lett. 120, 145301 (2018).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import InitVar, dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.errors import StructureError
from model.neighbors import bond_cosines, jarvis_finds, line_graph, nearest_neighbors, undirected_bonds
from model.structure import ELEMENTS, Structure, as_structure

ATOM_FEATURES = 92
# jarvis-tools has cgcnn features up to fermium and gives the heavier elements those of fermium.
_LAST_WITH_FEATURES = 100


@dataclass(frozen=True, eq=False)
class CrystalGraph:
    """A crystal as tensors on the CPU: atoms, directed bonds, and angles between bonds.

    Bonds 2k and 2k + 1 are exact reverses of each other. An angle joins a bond to one that leaves the atom it
    arrives at.

    Attributes:
        elements: N symbols.
        atomic_numbers: (N,) int64.
        atom_features: (N, 92) float32, cgcnn.
        bond_source, bond_target: (E,) int64, atoms of each bond.
        bond_vectors: (E, 3) float32 in angstrom, from source to target.
        angle_source, angle_target: (A,) int64, bonds of each angle.
        angle_cosines: (A,) float32 in [-1, 1].
        lattice: (3, 3) float64, rows are the cell vectors in angstrom.
        fractional_coordinates: (N, 3) float64, those between which the bonds run.
        check: whether to verify all of this on construction.

    Raises:
        StructureError: shapes, types, indices or values that no crystal graph has.
    """

    elements: tuple[str, ...]
    atomic_numbers: Tensor
    atom_features: Tensor
    bond_source: Tensor
    bond_target: Tensor
    bond_vectors: Tensor
    angle_source: Tensor
    angle_target: Tensor
    angle_cosines: Tensor
    lattice: NDArray[np.float64]
    fractional_coordinates: NDArray[np.float64]
    check: InitVar[bool] = True

    def __post_init__(self, check: bool) -> None:
        # The builder's own graphs are right by construction and held to jarvis-tools by tests; checking them
        # again would cost an eighth of building them.
        if check:
            self._check_shapes()
            self._check_indices()

    @property
    def number_of_atoms(self) -> int:
        """N."""
        return len(self.elements)

    @property
    def number_of_bonds(self) -> int:
        """E, directed bonds."""
        return int(self.bond_source.shape[0])

    @property
    def number_of_angles(self) -> int:
        """A, ordered pairs of bonds."""
        return int(self.angle_source.shape[0])

    @property
    def formula(self) -> str:
        """Reduced formula, elements by electronegativity, as in ``BaTiO3``."""
        return reduced_formula(self.elements)

    @property
    def atom_labels(self) -> tuple[str, ...]:
        """Element and running number within the element, as in ``("Ba1", "Ti1", "O1", "O2", "O3")``."""
        seen: Counter[str] = Counter()
        labels = []
        for symbol in self.elements:
            seen[symbol] += 1
            labels.append(f"{symbol}{seen[symbol]}")
        return tuple(labels)

    def _check_shapes(self) -> None:
        atoms, bonds, angles = self.number_of_atoms, self.number_of_bonds, self.number_of_angles
        expected = {
            "atomic_numbers": ((atoms,), torch.int64),
            "atom_features": ((atoms, ATOM_FEATURES), torch.float32),
            "bond_source": ((bonds,), torch.int64),
            "bond_target": ((bonds,), torch.int64),
            "bond_vectors": ((bonds, 3), torch.float32),
            "angle_source": ((angles,), torch.int64),
            "angle_target": ((angles,), torch.int64),
            "angle_cosines": ((angles,), torch.float32),
        }
        for name, (shape, dtype) in expected.items():
            tensor = getattr(self, name)
            if tensor.shape != shape or tensor.dtype != dtype:
                raise StructureError(
                    f"expected {name} of shape {shape} and {dtype}, got {tuple(tensor.shape)} and {tensor.dtype}"
                )
        if self.lattice.shape != (3, 3) or self.fractional_coordinates.shape != (atoms, 3):
            raise StructureError(
                f"expected lattice (3, 3) and fractional_coordinates ({atoms}, 3), "
                f"got {self.lattice.shape} and {self.fractional_coordinates.shape}"
            )
        if not atoms or not bonds:
            raise StructureError(f"expected at least one atom and one bond, got {atoms} and {bonds}")

    def _check_indices(self) -> None:
        source, target = self.bond_source.numpy(), self.bond_target.numpy()
        first, second = self.angle_source.numpy(), self.angle_target.numpy()
        for name, index, size in (
            ("bond_source", source, self.number_of_atoms),
            ("bond_target", target, self.number_of_atoms),
            ("angle_source", first, self.number_of_bonds),
            ("angle_target", second, self.number_of_bonds),
        ):
            # A negative index is a huge one without its sign.
            if len(index) and index.view(np.uint64).max() >= size:
                raise StructureError(f"expected {name} between 0 and {size - 1}, got {index.min()} to {index.max()}")
        # The sum of a vector and its reverse is 0, and neither NaN nor infinite.
        vectors = self.bond_vectors.numpy()
        with np.errstate(invalid="ignore"):
            paired = len(source) % 2 == 0 and not (
                (source[0::2] != target[1::2]).any()
                or (target[0::2] != source[1::2]).any()
                or (vectors[0::2] + vectors[1::2]).any()
            )
        if not paired:
            raise StructureError("expected finite bonds, every second one the reverse of the one before it, got others")
        if (target.take(first) != source.take(second)).any():
            raise StructureError("expected every angle to join bonds that meet at an atom, got others")
        # Written so that NaN fails too.
        if not np.abs(self.angle_cosines.numpy()).max(initial=0.0) <= 1:
            raise StructureError("expected cosines in [-1, 1], got others")


def build_graph(
    structure: object, *, cutoff: float = 8.0, max_neighbors: int = 12, canonize: bool = True
) -> CrystalGraph:
    """Build the k-nearest-neighbour graph of a crystal and its line graph.

    Coordinates outside the cell are wrapped into it where jarvis-tools would miss neighbours of such atoms
    and left alone where it finds them all, because wrapping can decide which of two tied bonds is kept.

    Args:
        structure: whatever :func:`model.structure.read_structure` takes.
        cutoff: radius in angstrom from which jarvis-tools starts. Where an atom has fewer than
            `max_neighbors` within it, jarvis-tools widens it until none has, so the bonds of atoms inside
            the cell do not depend on it.
        max_neighbors: k. Every neighbour up to the distance of the k-th is bonded, ties included.
        canonize: merge the relations a to b and b to a into one pair of opposite bonds (``use_canonize`` of
            jarvis-tools). With False, mutual neighbours are bonded twice.

    Raises:
        StructureError: the structure cannot be read, an argument is out of range, or atoms overlap.
    """
    if not (math.isfinite(cutoff) and cutoff > 0):
        raise StructureError(f"expected a positive cutoff in angstrom, got {cutoff!r}")
    if not (max_neighbors >= 1 and max_neighbors == int(max_neighbors)):
        raise StructureError(f"expected a whole number of neighbours, at least 1, got {max_neighbors!r}")
    crystal = as_structure(structure)
    try:
        return _graph(crystal, float(cutoff), int(max_neighbors), canonize)
    except StructureError as error:
        if isinstance(structure, (str, Path)):
            raise StructureError(f"{structure}: {error}") from None
        raise


def reduced_formula(elements: Sequence[str]) -> str:
    """The formula with counts divided by their greatest common divisor, least electronegative element
    first.
    """
    counts = Counter(elements)
    divisor = math.gcd(*counts.values())
    strength = _electronegativities()
    ordered = sorted(counts, key=lambda symbol: (strength[symbol], symbol))
    return "".join(symbol + (str(counts[symbol] // divisor) if counts[symbol] != divisor else "") for symbol in ordered)


def atom_features(atomic_numbers: NDArray[np.int64]) -> NDArray[np.float32]:
    """The 92 cgcnn features (N, 92) of each atom, as jarvis-tools ships them."""
    return _feature_table().take(atomic_numbers, axis=0)


def _graph(structure: Structure, cutoff: float, max_neighbors: int, canonize: bool) -> CrystalGraph:
    number_of_atoms = structure.number_of_atoms
    rounded = structure.rounded_lattice
    fractional, positions = structure.fractional_coordinates, structure.positions
    relations = nearest_neighbors(structure.lattice, positions, max_neighbors)
    if not jarvis_finds(structure.lattice, fractional, positions, relations, cutoff):
        fractional = fractional % 1.0
        positions = np.dot(fractional, rounded)
        relations = nearest_neighbors(structure.lattice, positions, max_neighbors)
    first, second, image = undirected_bonds(*relations, number_of_atoms, canonize=canonize)
    vector = np.dot(fractional.take(second, axis=0) + image - fractional.take(first, axis=0), rounded)
    bonds = 2 * len(first)
    source, target = np.empty(bonds, dtype=np.int64), np.empty(bonds, dtype=np.int64)
    vectors = np.empty((bonds, 3), dtype=np.float32)
    source[0::2], source[1::2] = first, second
    target[0::2], target[1::2] = second, first
    vectors[0::2], vectors[1::2] = vector, -vector
    angle_source, angle_target = line_graph(source, target, number_of_atoms)
    numbers = structure.atomic_numbers
    return CrystalGraph(
        elements=structure.elements,
        atomic_numbers=torch.from_numpy(numbers),
        atom_features=torch.from_numpy(atom_features(numbers)),
        bond_source=torch.from_numpy(source),
        bond_target=torch.from_numpy(target),
        bond_vectors=torch.from_numpy(vectors),
        angle_source=torch.from_numpy(angle_source),
        angle_target=torch.from_numpy(angle_target),
        angle_cosines=torch.from_numpy(bond_cosines(vectors, angle_source, angle_target)),
        lattice=structure.lattice,
        fractional_coordinates=fractional,
        check=False,
    )


@cache
def _feature_table() -> NDArray[np.float32]:
    """Features by atomic number (104, 92); row 0 belongs to no element."""
    content = json.loads(files("jarvis.core").joinpath("atom_init.json").read_text(encoding="utf-8"))
    table = np.zeros((len(ELEMENTS) + 1, ATOM_FEATURES), dtype=np.float32)
    for number in range(1, len(table)):
        table[number] = content[str(min(number, _LAST_WITH_FEATURES))]
    return table


@cache
def _electronegativities() -> dict[str, float]:
    """Pauling electronegativity by symbol; noble gases without one come last, as in a formula."""
    content = json.loads(files("jarvis.core").joinpath("Elements.json").read_text(encoding="utf-8"))
    return {symbol: float(content[symbol]["X"]) or math.inf for symbol in ELEMENTS}
