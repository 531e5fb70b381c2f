"""Textbook crystals, and the graphs that jarvis-tools builds of them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from model.crystal import CrystalGraph
from model.structure import Structure


def cell(lattice: Any, coordinates: Any, elements: str) -> Structure:
    return Structure(np.array(lattice, float), np.array(coordinates, float), tuple(elements.split()))


def textbook_structures() -> dict[str, Structure]:
    fcc = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    hexagonal = np.array([[1, 0, 0], [-0.5, 3**0.5 / 2, 0], [0, 0, 0]])
    third = 1 / 3
    return {
        "copper": cell(1.8075 * fcc, [[0, 0, 0]], "Cu"),
        "copper cubic": cell(
            3.615 * np.eye(3), [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]], "Cu Cu Cu Cu"
        ),
        "polonium": cell(3.359 * np.eye(3), [[0, 0, 0]], "Po"),
        "iron": cell(2.8665 * np.eye(3), [[0, 0, 0], [0.5, 0.5, 0.5]], "Fe Fe"),
        "silicon": cell(2.71535 * fcc, [[0, 0, 0], [0.25, 0.25, 0.25]], "Si Si"),
        "rocksalt": cell(2.82 * fcc, [[0, 0, 0], [0.5, 0.5, 0.5]], "Na Cl"),
        "magnesium": cell(
            3.2094 * hexagonal + np.diag([0, 0, 5.2105]),
            [[third, 2 * third, 0.25], [2 * third, third, 0.75]],
            "Mg Mg",
        ),
        "perovskite": cell(
            4.0 * np.eye(3), [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
            "Ba Ti O O O",
        ),
        "graphene": cell(
            2.461 * hexagonal + np.diag([0, 0, 20.0]),
            [[third, 2 * third, 0.5], [2 * third, third, 0.5]],
            "C C",
        ),
        "water in a box": cell(
            12.0 * np.eye(3), [[0.5, 0.5, 0.5], [0.563, 0.549, 0.5], [0.437, 0.549, 0.5]], "O H H"
        ),
        "outside the cell": cell(
            [[5.1, 0, 0], [1.3, 4.7, 0], [-0.4, 0.9, 6.2]], [[-0.31, 1.4, 0.2], [2.2, -1.05, 0.77]], "Ga N"
        ),
    }  # fmt: skip


@pytest.fixture(scope="session")
def textbook() -> dict[str, Structure]:
    """Crystals small enough to check by hand: one atom, layered, molecular, outside the cell."""
    return textbook_structures()


@pytest.fixture(scope="session", params=sorted(textbook_structures()))
def textbook_structure(request: pytest.FixtureRequest) -> Structure:
    """Each textbook crystal in turn."""
    return textbook_structures()[request.param]


def bond_rows(graph: CrystalGraph, source: Any, target: Any, vectors: Any) -> np.ndarray:
    """Source, target and image of each bond as whole numbers: its identity, free of rounding."""
    fractional = graph.fractional_coordinates
    image = np.asarray(vectors, float) @ np.linalg.inv(graph.lattice) + fractional[source] - fractional[target]
    assert np.abs(image - np.rint(image)).max() < 1e-3
    return np.column_stack((source, target, np.rint(image))).astype(int)


def check_same_graph(graph: CrystalGraph, recorded: dict[str, np.ndarray]) -> None:
    """Assert that bonds and angles are those recorded (src, dst, r, lg_src, lg_dst, lg_h), as multisets."""
    ours = bond_rows(graph, graph.bond_source, graph.bond_target, graph.bond_vectors)
    theirs = bond_rows(graph, recorded["src"], recorded["dst"], recorded["r"])
    kinds, inverse = np.unique(np.concatenate((ours, theirs)), axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    our_kind, their_kind = inverse[: len(ours)], inverse[len(ours) :]
    assert np.array_equal(np.sort(our_kind), np.sort(their_kind))
    assert len(kinds) <= len(ours)
    our_order, their_order = np.argsort(our_kind), np.argsort(their_kind)
    np.testing.assert_allclose(graph.bond_vectors.numpy()[our_order], recorded["r"][their_order], rtol=0, atol=1e-5)
    sides = (
        (our_kind[graph.angle_source], our_kind[graph.angle_target], graph.angle_cosines.numpy()),
        (their_kind[recorded["lg_src"]], their_kind[recorded["lg_dst"]], recorded["lg_h"]),
    )
    (a, b, ours_cosine), (c, d, their_cosine) = ([part[np.lexsort(side[1::-1])] for part in side] for side in sides)
    assert np.array_equal(a, c)
    assert np.array_equal(b, d)
    np.testing.assert_allclose(ours_cosine, their_cosine, rtol=0, atol=1e-5)


@pytest.fixture(scope="session")
def assert_same_graph() -> Callable[[CrystalGraph, dict[str, np.ndarray]], None]:
    """The assertion that a graph has the bonds and angles of a record."""
    return check_same_graph


@pytest.fixture(scope="session")
def jarvis_graph() -> Callable[..., dict[str, np.ndarray]]:
    """The graph of jarvis-tools as arrays; skips where dgl, which it needs, has no wheel."""
    pytest.importorskip("dgl", reason="jarvis-tools builds its graphs with dgl")
    with contextlib.redirect_stdout(io.StringIO()):
        from jarvis.core.graphs import Graph

    def build(atoms: Any, *, canonize: bool = True, **options: Any) -> dict[str, np.ndarray]:
        graph, line = Graph.atom_dgl_multigraph(wrapped(atoms), use_canonize=canonize, **options)
        (source, target), (first, second) = graph.edges(), line.edges()
        tensors = (source, target, graph.edata["r"], first, second, line.edata["h"])
        names = ("src", "dst", "r", "lg_src", "lg_dst", "lg_h")
        features = {"atom_features": graph.ndata["atom_features"].numpy()}
        return features | {name: part.numpy() for name, part in zip(names, tensors, strict=True)}

    return build


def wrapped(atoms: Any) -> Any:
    """The crystal with its atoms inside the cell where jarvis misses neighbours of those outside."""
    inside = type(atoms)(
        lattice_mat=atoms.lattice_mat, coords=np.asarray(atoms.frac_coords) % 1.0, elements=atoms.elements
    )
    found, all_of_them = ([len(near) for near in a.get_all_neighbors(r=8.0)] for a in (atoms, inside))
    return atoms if found == all_of_them else inside


@pytest.fixture(scope="session")
def as_atoms() -> Callable[[Structure], Any]:
    """A structure as jarvis ``Atoms``."""
    from jarvis.core.atoms import Atoms

    def convert(structure: Structure) -> Any:
        return Atoms(
            lattice_mat=np.array(structure.lattice),
            coords=np.array(structure.fractional_coordinates),
            elements=list(structure.elements),
        )

    return convert
