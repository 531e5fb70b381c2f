"""The checks of ``tools.make_demo_data``: each returns a list of sentences, empty when all is well."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import spglib

from tools.demo_compounds import Compound, Prototype

MINIMUM_COMPOUNDS = 120
MINIMUM_TYPES = 10
MAXIMUM_GAP = 15.0
MAXIMUM_BYTES = 500_000

GAP_KINDS = (
    "direct",
    "indirect",
    "optical",
    "exciton",
    "photoconductivity",
    "transport",
    "metal",
    "semimetal",
)
GAPLESS_KINDS = ("metal", "semimetal")

DISTANCE_RATIO = (0.8, 1.25)
"""Nearest-neighbour distance over the sum of the covalent radii of Cordero et al., Dalton Trans. 2832 (2008).

The range is wide because these are radii of single bonds: dioxides of actinides and compounds of transition
metals fall below 1, metals with twelve neighbours and lead chalcogenides above. There is no exception.
"""

DENSITY_RANGE = (0.8, 23.0)
"""g/cm3, from sodium to just above the densest element."""

DENSITY_TOLERANCE = 0.04
"""Relative; handbook densities are measured on real samples and often given to two figures only."""

SYMMETRY_TOLERANCE = 1e-3
"""Angstrom; what graph builders and robocrystallographer use is ten times looser."""

LEAKING_WORDS = re.compile(r"\beV\b|\b[Gg]aps?\b|conduct|insulat|[Mm]etal")
"""Case matters: GaP is no gap."""

LENGTHS = re.compile(r"\d+\.\d+(?:-\d+\.\d+)? Å")
DECIMAL_NUMBER = re.compile(r"\d+\.\d+")


def check_table(compounds: list[Compound], prototypes: dict[str, Prototype], citations: dict[str, str]) -> list[str]:
    """Check what the table says before anything is built from it."""
    problems = [
        f"{name}: {count} rows have this id" for name, count in Counter(c.id for c in compounds).items() if count > 1
    ]
    types = {c.structure_type for c in compounds}
    if len(compounds) < MINIMUM_COMPOUNDS:
        problems.append(f"{len(compounds)} compounds, at least {MINIMUM_COMPOUNDS} wanted")
    if len(types) < MINIMUM_TYPES:
        problems.append(f"{len(types)} structure types, at least {MINIMUM_TYPES} wanted")
    for c in compounds:
        prototype = prototypes.get(c.structure_type)
        if prototype is None:
            problems.append(f"{c.id}: unknown structure type {c.structure_type}")
            continue
        hall_group = spglib.get_spacegroup_type(prototype.hall_number).number
        if not c.space_group == prototype.space_group == hall_group:
            problems.append(
                f"{c.id}: space group {c.space_group}, prototype {prototype.space_group}, Hall {hall_group}"
            )
        words = {word for _, site in prototype.sites for word in site if word.isalpha()}
        if words != set(c.internal):
            problems.append(f"{c.id}: site parameters {sorted(c.internal)}, {sorted(words)} wanted")
        if not 0 <= c.band_gap <= MAXIMUM_GAP:
            problems.append(f"{c.id}: band gap {c.band_gap} eV is outside 0 to {MAXIMUM_GAP}")
        if c.gap_kind not in GAP_KINDS:
            problems.append(f"{c.id}: gap kind {c.gap_kind}, one of {GAP_KINDS} wanted")
        if (c.gap_kind in GAPLESS_KINDS) != (c.band_gap == 0):
            problems.append(f"{c.id}: a {c.gap_kind} with a gap of {c.band_gap} eV")
        if c.band_gap > 0 and c.gap_spread <= 0:
            problems.append(f"{c.id}: the spread of published gaps is missing")
        for key in [*c.lattice_source.split(";"), *c.gap_source.split(";")]:
            if key not in citations:
                problems.append(f"{c.id}: source {key} has no citation")
    return problems


def nearest_ratios(structure: Any) -> np.ndarray:
    """For each atom the smallest ratio of distance to sum of covalent radii, neighbours within 6 angstrom."""
    from pymatgen.analysis.molecule_structure_comparator import CovalentRadius

    radii = np.array([CovalentRadius.radius[site.specie.symbol] for site in structure])
    ratios = np.full(len(structure), np.inf)
    source, target, _, distances = structure.get_neighbor_list(6.0)
    np.minimum.at(ratios, source, distances / (radii[source] + radii[target]))
    return ratios


def check_structures(compounds: list[Compound], structures: dict[str, Any]) -> list[str]:
    """Check structures read back from the CIF text: symmetry, distances, density, formula, duplicates."""
    from pymatgen.core import Composition

    problems = []
    for c in compounds:
        structure = structures[c.id]
        cell = (structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers)
        found = spglib.get_symmetry_dataset(cell, symprec=SYMMETRY_TOLERANCE)
        if found is None or found.number != c.space_group:
            problems.append(f"{c.id}: space group {found and found.number}, {c.space_group} in the table")
        if found is not None and len(set(found.mapping_to_primitive)) != len(structure):
            problems.append(f"{c.id}: the cell is not primitive")
        if structure.composition.reduced_formula != Composition(c.formula).reduced_formula:
            problems.append(f"{c.id}: built {structure.composition.reduced_formula}, {c.formula} in the table")
        ratios = nearest_ratios(structure)
        low, high = DISTANCE_RATIO
        if not (ratios.min() >= low and ratios.max() <= high):
            problems.append(
                f"{c.id}: nearest neighbours at {ratios.min():.2f} to {ratios.max():.2f} of the covalent "
                f"radii, {low} to {high} wanted"
            )
        density = float(structure.density)
        if not DENSITY_RANGE[0] <= density <= DENSITY_RANGE[1]:
            problems.append(f"{c.id}: density {density:.2f} g/cm3")
        if c.density is not None and abs(density / c.density - 1) > DENSITY_TOLERANCE:
            problems.append(f"{c.id}: density {density:.3f} g/cm3, {c.density} in the table")
    return problems + duplicates(compounds, structures)


def duplicates(compounds: list[Compound], structures: dict[str, Any]) -> list[str]:
    """Name pairs that pymatgen's structure matcher takes for the same material."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    matcher = StructureMatcher()
    problems = []
    for position, first in enumerate(compounds):
        for second in compounds[position + 1 :]:
            if set(first.elements) == set(second.elements) and matcher.fit(structures[first.id], structures[second.id]):
                problems.append(f"{first.id} and {second.id} are the same structure")
    return problems


def check_texts(compounds: list[Compound], texts: dict[str, str]) -> list[str]:
    """Check that the texts are plain and cannot give the target away.

    The only decimal numbers allowed are lengths in angstrom, and none of them may equal the gap as written.
    """
    problems = []
    for c in compounds:
        text = texts[c.id]
        strange = sorted({character for character in text if not (character.isascii() or character in "Å°")})
        if len(text) < 60 or strange or "np." in text or re.search(r"[$<>{}\\]", text):
            problems.append(f"{c.id}: the text is not plain: {strange} {text[:80]}")
        if LEAKING_WORDS.search(text):
            problems.append(f"{c.id}: the text speaks of the target: {text}")
        if DECIMAL_NUMBER.search(LENGTHS.sub("", text)):
            problems.append(f"{c.id}: the text holds a decimal number that is no length: {text}")
        gap_as_written = re.compile(rf"(?<![\d.]){re.escape(f'{c.band_gap:.2f}')}(?!\d)")
        if c.band_gap > 0 and gap_as_written.search(text):
            problems.append(f"{c.id}: a length in the text equals the gap of {c.band_gap} eV")
    return problems


def check_size(files: dict[Path, str], folder: Path) -> list[str]:
    """Keep what is shipped small."""
    total = sum(len(text.encode()) for path, text in files.items() if folder in path.parents)
    return [f"{total} bytes, at most {MAXIMUM_BYTES} wanted"] if total > MAXIMUM_BYTES else []
