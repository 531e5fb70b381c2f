"""Write the data set that the package ships: ``python -m tools.make_demo_data``, with the extra ``tools``.

From ``demo_compounds.csv`` (measured lattice constants and band gaps with their sources) and
``demo_prototypes.csv`` (occupied sites of each structure type) it builds primitive cells, describes them with
robocrystallographer, checks everything (see :mod:`tools.demo_checks`) and writes ``model/demo_data`` and the
generated tables of its documents. Nothing is written when a check fails. The same versions of spglib,
pymatgen and robocrys give the same bytes: ``--check`` compares instead of writing. Describing takes minutes.
"""

from __future__ import annotations

import argparse
import csv
import io
import re
import sys
import warnings
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import spglib

from tools import demo_checks, demo_tables
from tools.demo_compounds import Compound, Prototype, read_citations, read_compounds, read_prototypes

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "model" / "demo_data"
README = DATA / "README.md"
DOCUMENTATION = ROOT / "docs" / "demo-data.md"

SYMMETRY_TOLERANCE = 1e-4
"""Angstrom; the positions come from exact symmetry operations, so only rounding has to be covered."""

MIXTURE = re.compile(r"a mixture of (?P<distorted>distorted )?(?P<kinds>[a-z, ]+)-sharing")


@dataclass(frozen=True)
class Cell:
    """A primitive cell as it stands in the CIF: six cell parameters, elements, rounded positions."""

    parameters: tuple[float, ...]
    elements: tuple[str, ...]
    positions: np.ndarray

    @property
    def composition(self) -> str:
        """Atoms in the cell in file order of the elements, as in the JARVIS tables: ``Ga1As1``."""
        return "".join(f"{element}{count}" for element, count in Counter(self.elements).items())


def conventional_lattice(compound: Compound) -> np.ndarray:
    """Rows are the lattice vectors, angstrom [3, 3]; trigonal groups in hexagonal axes."""
    a, b, c = compound.lengths
    if 143 <= compound.space_group <= 194:
        return np.array([[a, 0.0, 0.0], [-a / 2, a * np.sqrt(3) / 2, 0.0], [0.0, 0.0, c]])
    return np.diag([a, b, c])


def site_positions(compound: Compound, prototype: Prototype) -> tuple[list[str], np.ndarray]:
    """Elements and fractional positions of the conventional cell, every site spread by the space group."""
    operations = spglib.get_symmetry_from_database(prototype.hall_number)
    element_of = dict(zip("ABC", compound.elements, strict=False))
    elements: list[str] = []
    positions: list[np.ndarray] = []
    for role, expressions in prototype.sites:
        site = [compound.internal[e] if e in compound.internal else float(Fraction(e)) for e in expressions]
        orbit: list[np.ndarray] = []
        for rotation, translation in zip(operations["rotations"], operations["translations"], strict=True):
            image = (rotation @ site + translation) % 1.0
            if not any(np.allclose((image - seen + 0.5) % 1.0, 0.5, atol=1e-6) for seen in orbit):
                orbit.append(image)
        positions.extend(orbit)
        elements.extend([element_of[role]] * len(orbit))
    return elements, np.array(positions)


def cell_parameters(lattice: np.ndarray) -> tuple[float, ...]:
    """Lengths (angstrom) and angles (degree) of the rows of a lattice [3, 3], rounded as in the file."""
    lengths = np.linalg.norm(lattice, axis=1)
    unit = lattice / lengths[:, None]
    cosines = [unit[1] @ unit[2], unit[0] @ unit[2], unit[0] @ unit[1]]
    return tuple(round(float(value), 8) for value in [*lengths, *np.degrees(np.arccos(cosines))])


def build_cell(compound: Compound, prototype: Prototype) -> Cell:
    """Build the primitive cell; atoms are ordered by element as the table lists them, then by position."""
    elements, positions = site_positions(compound, prototype)
    numbers = [compound.elements.index(element) + 1 for element in elements]
    primitive = spglib.standardize_cell(
        (conventional_lattice(compound), positions, numbers), to_primitive=True, symprec=SYMMETRY_TOLERANCE
    )
    if primitive is None:
        raise SystemExit(f"{compound.id}: spglib finds no primitive cell; check the site parameters")
    lattice, positions, numbers = primitive
    # rounding before the modulo keeps 0.999999999 from becoming 1.00000000; adding 0 turns -0 into 0
    positions = np.round(np.round(positions, 8) % 1.0, 8) + 0.0
    order = sorted(range(len(numbers)), key=lambda atom: (numbers[atom], *positions[atom]))
    return Cell(
        cell_parameters(lattice),
        tuple(compound.elements[numbers[atom] - 1] for atom in order),
        positions[order],
    )


def cif_text(compound: Compound, cell: Cell) -> str:
    """Format a P1 CIF as the JARVIS files are, which jarvis-tools' own parser reads."""
    counts = Counter(cell.elements)
    lines = ["# written by tools/make_demo_data.py of crystal-interpret", f"data_{compound.id}"]
    lines.append("_symmetry_space_group_name_H-M   'P 1'")
    names = ["length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"]
    lines += [f"_cell_{name}   {value:.8f}" for name, value in zip(names, cell.parameters, strict=True)]
    lines.append("_symmetry_Int_Tables_number   1")
    lines.append(f"_chemical_formula_structural   {compound.formula}")
    lines.append(f"_chemical_formula_sum   '{' '.join(f'{e}{n}' for e, n in counts.items())}'")
    lines += ["loop_", " _symmetry_equiv_pos_site_id", " _symmetry_equiv_pos_as_xyz", "  1  'x, y, z'"]
    columns = ["type_symbol", "label", "symmetry_multiplicity", "fract_x", "fract_y", "fract_z", "occupancy"]
    lines += ["loop_", *(f" _atom_site_{column}" for column in columns)]
    for index, (element, (x, y, z)) in enumerate(zip(cell.elements, cell.positions, strict=True)):
        lines.append(f"  {element}  {element}{index}  1  {x:.8f}  {y:.8f}  {z:.8f}  1")
    return "\n".join(lines) + "\n"


def plain_integers(value: Any) -> Any:
    """Turn numpy scalars in nested containers into Python's: robocrys writes their ``repr`` into the text."""
    if isinstance(value, dict):
        return {key: plain_integers(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain_integers(item) for item in value)
    return value.item() if isinstance(value, np.generic) else value


def ordered_mixture(match: re.Match[str]) -> str:
    """Put the kinds of sharing in alphabetical order: ``a mixture of distorted corner and edge-sharing``."""
    kinds = sorted(re.findall(r"corner|edge|face", match["kinds"]))
    joined = " and ".join(kinds) if len(kinds) == 2 else f"{', '.join(kinds[:-1])}, and {kinds[-1]}"
    return f"a mixture of {match['distorted'] or ''}{joined}-sharing"


def describe(compounds: list[Compound], structures: dict[str, Any]) -> dict[str, str]:
    """Describe pymatgen structures by robocrystallographer with its defaults, as JARVIS's texts were made."""
    from robocrys import StructureCondenser, StructureDescriber

    condenser, describer = StructureCondenser(), StructureDescriber()
    texts = {}
    for compound in compounds:
        condensed = condenser.condense_structure(structures[compound.id].copy())
        # its list of common formulas has IK1 for KI
        condensed["formula"] = compound.formula
        text = " ".join(describer.describe(plain_integers(condensed)).split())
        # robocrys takes them from a set of strings, whose order changes from run to run
        texts[compound.id] = MIXTURE.sub(ordered_mixture, text)
    return texts


def interleaved(compounds: list[Compound]) -> list[Compound]:
    """One compound of each structure type in turn, so that the first rows are a cross-section."""
    turn: Counter[str] = Counter()
    keyed = []
    for compound in compounds:
        keyed.append((turn[compound.structure_type], compound))
        turn[compound.structure_type] += 1
    return [compound for _, compound in sorted(keyed, key=lambda pair: pair[0])]


def description_csv(compounds: list[Compound], cells: dict[str, Cell], texts: dict[str, str]) -> str:
    """The table ``Id,Composition,band_gap,Description,File_Name`` in the layout that users have."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["Id", "Composition", "band_gap", "Description", "File_Name"])
    for compound in interleaved(compounds):
        writer.writerow(
            [
                compound.id,
                cells[compound.id].composition,
                repr(compound.band_gap),
                texts[compound.id],
                f"{compound.id}.cif",
            ]
        )
    return stream.getvalue()


def build(compounds: list[Compound]) -> tuple[dict[str, Cell], dict[str, str], dict[str, str]]:
    """Cells, CIF texts and descriptions by id.

    Raises:
        SystemExit: a check failed; the message lists what is wrong.
    """
    from pymatgen.core import Structure

    prototypes = read_prototypes()
    stop_at(demo_checks.check_table(compounds, prototypes, read_citations()))
    cells = {c.id: build_cell(c, prototypes[c.structure_type]) for c in compounds}
    cifs = {c.id: cif_text(c, cells[c.id]) for c in compounds}
    structures = {name: Structure.from_str(text, fmt="cif") for name, text in cifs.items()}
    stop_at(demo_checks.check_structures(compounds, structures))
    texts = describe(compounds, structures)
    stop_at(demo_checks.check_texts(compounds, texts))
    return cells, cifs, texts


def stop_at(problems: list[str]) -> None:
    """End the run with the list of problems, if there are any."""
    if problems:
        raise SystemExit("\n".join(problems))


def stale_files(files: dict[Path, str]) -> list[Path]:
    """Crystal files on disk that the table no longer has."""
    return [path for path in sorted((DATA / "cif").glob("*.cif")) if path not in files]


def compare(files: dict[Path, str]) -> list[str]:
    """Say which files on disk are not, byte for byte, what this script would write."""
    changed = [p for p, text in files.items() if not p.is_file() or p.read_bytes() != text.encode()]
    return [f"{path.relative_to(ROOT)}: not what this script writes" for path in [*stale_files(files), *changed]]


def write(files: dict[Path, str]) -> None:
    """Write all files and remove crystals that are no longer in the table."""
    (DATA / "cif").mkdir(parents=True, exist_ok=True)
    for path in stale_files(files):
        path.unlink()
    for path, text in files.items():
        path.write_bytes(text.encode())


def main(arguments: list[str] | None = None) -> None:
    """Build, check, then write, or compare with ``--check``; any problem ends the run with exit status 1."""
    parser = argparse.ArgumentParser(description="Write model/demo_data from the tables in tools/.")
    parser.add_argument("--check", action="store_true", help="compare with the files on disk, write nothing")
    options = parser.parse_args(arguments)

    compounds = read_compounds()
    # pymatgen reports each 1/3 that it restores from 0.33333333, robocrys what it deprecates
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cells, cifs, texts = build(compounds)
    files = {DATA / "cif" / f"{name}.cif": text for name, text in cifs.items()}
    files[DATA / "description.csv"] = description_csv(compounds, cells, texts)
    files[README] = demo_tables.fill(README, demo_tables.readme_blocks(compounds, read_citations()))
    files[DOCUMENTATION] = demo_tables.fill(DOCUMENTATION, demo_tables.type_blocks(compounds, read_prototypes()))
    stop_at(demo_checks.check_size(files, DATA))
    if options.check:
        stop_at(compare(files))
    else:
        write(files)
    types = {compound.structure_type for compound in compounds}
    sys.stdout.write(f"{len(compounds)} compounds of {len(types)} structure types\n")


if __name__ == "__main__":
    main()
