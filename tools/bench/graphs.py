"""Building graphs: ``model.crystal.build_graph`` against jarvis-tools, on every crystal of a folder.

``python -m tools.bench.graphs [FOLDER] [--repeats N]``. Both start from the same jarvis ``Atoms`` in memory
and make the crystal graph and the line graph with its cosines; reading the files is timed apart. The two
take turns crystal by crystal, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.crystal import CrystalGraph, build_graph
from model.demo import DEMO_DATA
from model.structure import read_structure

COLUMNS = ("step", "ours ms", "jarvis ms", "ratio", "least", "most")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table of times over a folder of CIF files and whether the graphs are the same."""
    parser = argparse.ArgumentParser(description="Time build_graph against jarvis-tools on CIF files.")
    parser.add_argument("folder", nargs="?", type=Path, default=DEMO_DATA / "cif", help="folder of CIF files")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args(arguments)
    paths = sorted(options.folder.glob("*.cif"))
    if not paths:
        parser.error(f"expected CIF files in {options.folder}, found none")
    with contextlib.redirect_stdout(io.StringIO()):
        # jarvis prints on import and dgl greets; neither belongs in the table.
        from jarvis.core.atoms import Atoms
        from jarvis.core.graphs import Graph

    def read_with_jarvis(path: Path) -> Any:
        return Atoms.from_cif(str(path), use_cif2cell=False, get_primitive_atoms=False)

    crystals = [wrapped(read_with_jarvis(path)) for path in paths]
    steps: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], list[Any]]] = {
        "graph": (build_graph, Graph.atom_dgl_multigraph, crystals),
        "read": (read_structure, read_with_jarvis, paths),
        "read + graph": (build_graph, lambda path: Graph.atom_dgl_multigraph(read_with_jarvis(path)), paths),
    }
    print(f"{len(paths)} crystals of {options.folder.name}, {options.repeats} repeats, median of the totals")
    print("{:14}{:>10}{:>12}{:>8}{:>8}{:>8}".format(*COLUMNS))
    for name, (ours, theirs, inputs) in steps.items():
        print(row(name, *totals(ours, theirs, inputs, options.repeats)))
    different = [
        path.name
        for path, atoms in zip(paths, crystals, strict=True)
        if not same_graph(build_graph(atoms), *Graph.atom_dgl_multigraph(atoms))
    ]
    print(f"graphs identical: {len(paths) - len(different)} of {len(paths)} {' '.join(different)}".rstrip())


def totals(
    ours: Callable[[Any], Any], theirs: Callable[[Any], Any], inputs: Sequence[Any], repeats: int
) -> tuple[list[float], list[float]]:
    """Seconds over all inputs for each repeat, the two taking turns; the first pass is not counted."""
    spent: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + 1):
        for times, function in zip(spent, (ours, theirs), strict=True):
            gc.collect()
            begin = time.perf_counter()
            for given in inputs:
                function(given)
            if repeat:
                times.append(time.perf_counter() - begin)
    return spent


def row(name: str, ours: list[float], theirs: list[float]) -> str:
    """One line of the table: medians in milliseconds; the ratios of the repeats as median, least and most."""
    ratios = [slow / fast for fast, slow in zip(ours, theirs, strict=True)]
    return (
        f"{name:14}{1e3 * statistics.median(ours):10.1f}{1e3 * statistics.median(theirs):12.1f}"
        f"{statistics.median(ratios):8.1f}{min(ratios):8.1f}{max(ratios):8.1f}"
    )


def same_graph(graph: CrystalGraph, crystal: Any, line: Any) -> bool:
    """Whether bonds and angles are those of a DGL graph and its line graph, as multisets, vectors to 1e-5."""
    theirs = [part.numpy() for part in crystal.edges()] + [crystal.edata["r"].numpy()]
    ours = [graph.bond_source.numpy(), graph.bond_target.numpy(), graph.bond_vectors.numpy()]
    if len(theirs[0]) != len(ours[0]) or line.num_edges() != graph.number_of_angles:
        return False
    left, right = bond_table(graph, *ours), bond_table(graph, *theirs)
    if not np.array_equal(left[ranking(left)], right[ranking(right)]):
        return False
    if np.abs(ours[2][ranking(left)] - theirs[2][ranking(right)]).max() > 1e-5:
        return False
    cosines = [np.sort(graph.angle_cosines.numpy()), np.sort(line.edata["h"].numpy())]
    return bool(np.abs(cosines[0] - cosines[1]).max() <= 1e-5)


def bond_table(graph: CrystalGraph, source: Any, target: Any, vectors: Any) -> np.ndarray:
    """Source, target and image of the target (E, 5) of each bond, whole numbers."""
    fractional = graph.fractional_coordinates
    image = vectors @ np.linalg.inv(graph.lattice) + fractional[source] - fractional[target]
    return np.column_stack((source, target, np.rint(image))).astype(np.int64)


def ranking(table: np.ndarray) -> np.ndarray:
    """Order of the rows (E,)."""
    return np.lexsort(table.T[::-1])


def wrapped(atoms: Any) -> Any:
    """The crystal with its atoms inside the cell; jarvis misses neighbours of those outside."""
    fractional = np.asarray(atoms.frac_coords)
    if fractional.min() >= 0 and fractional.max() < 1:
        return atoms
    return type(atoms)(lattice_mat=atoms.lattice_mat, coords=fractional % 1.0, elements=atoms.elements, cartesian=False)


if __name__ == "__main__":
    main()
