"""The crystal as it is drawn: cell, atoms, and the bonds a chemist would draw."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from model.crystal import CrystalGraph
from model.structure import ELEMENTS

# Sums of Slater radii are bond lengths to about 0.1 angstrom.
BOND_FACTOR = 1.15
MOST_BONDS = 12_000
BOND_RULE = (
    f"neighbours closer than {BOND_FACTOR} times the sum of their Slater radii (J. Chem. Phys. 41, 3199, 1964), "
    "no two metals where there is a non-metal; the network's own graph has more"
)
NON_METALS = frozenset(
    ("H", "B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Ge", "As", "Se", "Br",
     "Sb", "Te", "I", "At", "He", "Ne", "Ar", "Kr", "Xe", "Rn")
)  # fmt: skip
_UNKNOWN_RADIUS = 1.5
_DECIMALS = 5


def crystal_view(graph: CrystalGraph) -> dict[str, Any]:
    """Cell, atoms and bonds of a graph, as JSON.

    Returns:
        ``cell``: 3 x 3 in angstrom, rows are vectors; ``positions``: fractional, in the cell; ``radii``: Slater, in
        angstrom, by element; ``bonds``: flat, five whole numbers a bond: atom, atom, and the cell of the second atom
        relative to that of the first; ``bond_rule``: which bonds these are; ``bonds_left_out``: how many more.
    """
    inside = np.round(graph.fractional_coordinates % 1.0, _DECIMALS) % 1.0
    bonds = _bonds(graph, inside)
    return {
        "cell": np.round(graph.lattice, _DECIMALS).tolist(),
        "positions": inside.tolist(),
        "radii": {symbol: slater_radius(symbol) for symbol in sorted(set(graph.elements))},
        "bonds": bonds[:MOST_BONDS].reshape(-1).tolist(),
        "bonds_left_out": max(0, len(bonds) - MOST_BONDS),
        "bond_rule": BOND_RULE,
    }


def slater_radius(symbol: str) -> float:
    """Slater's radius of an element in angstrom, as jarvis-tools has it; 1.5 where there is none."""
    return _radii()[symbol]


@cache
def _radii() -> dict[str, float]:
    content = json.loads(files("jarvis.core").joinpath("Elements.json").read_text(encoding="utf-8"))
    known = {symbol: float(content.get(symbol, {}).get("atom_rad", -1.0)) for symbol in ELEMENTS}
    return {symbol: radius if radius > 0 else _UNKNOWN_RADIUS for symbol, radius in known.items()}


def _bonds(graph: CrystalGraph, inside: np.ndarray) -> np.ndarray:
    """[B, 5] int: each bond once."""
    source, target = graph.bond_source.numpy()[::2], graph.bond_target.numpy()[::2]
    vectors = graph.bond_vectors.numpy().astype(np.float64)[::2]
    radii = np.array([slater_radius(symbol) for symbol in graph.elements])
    near = np.linalg.norm(vectors, axis=1) < BOND_FACTOR * (radii[source] + radii[target])
    metal = np.array([symbol not in NON_METALS for symbol in graph.elements])
    if not metal.all():
        near &= ~(metal[source] & metal[target])
    source, target, vectors = source[near], target[near], vectors[near]
    steps = np.linalg.solve(graph.lattice.T, vectors.T).T - inside[target] + inside[source]
    return np.column_stack([source, target, np.rint(steps).astype(np.int64)])
