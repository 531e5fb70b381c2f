"""The shipped demo data against its table in tools/: structures, texts and documents."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import spglib
from ase.data import atomic_masses, atomic_numbers, covalent_radii
from jarvis.core.atoms import Atoms

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "model" / "demo_data"
GRAMS_PER_CM3 = 1.66053906660
"""One dalton per cubic angstrom."""


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def table() -> dict[str, dict[str, str]]:
    return {row["id"]: row for row in read_csv(ROOT / "tools" / "demo_compounds.csv")}


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, str]]:
    return {row["Id"]: row for row in read_csv(DATA / "description.csv")}


@pytest.fixture(scope="module")
def crystals(rows) -> dict[str, Atoms]:
    return {
        name: Atoms.from_cif(str(DATA / "cif" / row["File_Name"]), get_primitive_atoms=False, use_cif2cell=False)
        for name, row in rows.items()
    }


@pytest.fixture(scope="module")
def symmetries(crystals) -> dict[str, spglib.SpglibDataset]:
    found = {}
    for name, atoms in crystals.items():
        numbers = [atomic_numbers[element] for element in atoms.elements]
        cell = (atoms.lattice_mat, atoms.frac_coords, numbers)
        found[name] = spglib.get_symmetry_dataset(cell, symprec=1e-3)
    return found


def pair_distances(atoms: Atoms, limit: float = 4.5) -> list[tuple[str, str, float]]:
    """All pairs nearer than ``limit`` angstrom by brute force over enough images of the cell."""
    lattice = np.array(atoms.lattice_mat)
    heights = abs(np.linalg.det(lattice)) / np.linalg.norm(
        np.cross(np.roll(lattice, -1, axis=0), np.roll(lattice, -2, axis=0)), axis=1
    )
    reach = [int(np.ceil(limit / height)) + 1 for height in heights]
    images = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), -1).reshape(-1, 3)
    fractional = np.array(atoms.frac_coords)
    pairs = []
    for i, first in enumerate(atoms.elements):
        for j, second in enumerate(atoms.elements):
            distances = np.linalg.norm((fractional[j] - fractional[i] + images) @ lattice, axis=1)
            near = distances[(distances > 1e-3) & (distances < limit)]
            pairs += [(first, second, float(distance)) for distance in near]
    return pairs


def formula_counts(formula: str) -> dict[str, int]:
    return {element: int(count or 1) for element, count in re.findall(r"([A-Z][a-z]?)(\d*)", formula)}


def test_size_and_layout(table, rows):
    assert (DATA / "description.csv").read_text(encoding="utf-8").splitlines()[0] == (
        "Id,Composition,band_gap,Description,File_Name"
    )
    assert len(read_csv(DATA / "description.csv")) == len(rows) >= 120
    assert set(rows) == set(table)
    types = {row["structure_type"] for row in table.values()}
    assert len(types) >= 10
    assert {table[name]["structure_type"] for name in list(rows)[: len(types)]} == types
    files = sorted(path.name for path in (DATA / "cif").iterdir())
    assert files == sorted(row["File_Name"] for row in rows.values())
    assert all(row["File_Name"] == f"{name}.cif" for name, row in rows.items())
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) < 500_000


def test_names_are_safe_as_file_names(rows):
    assert len({name.lower() for name in rows}) == len(rows)
    assert all(re.fullmatch(r"[A-Za-z0-9-]+", name) for name in rows)


def test_crystal_files_hold_the_cell_that_the_composition_names(crystals, rows):
    for name, atoms in crystals.items():
        assert Counter(atoms.elements) == formula_counts(rows[name]["Composition"]), name
        assert atoms.num_atoms <= 14, name


def test_formula_is_the_one_of_the_table(crystals, table):
    for name, atoms in crystals.items():
        counts, wanted = Counter(atoms.elements), formula_counts(table[name]["formula"])
        ratios = {counts[element] / wanted[element] for element in wanted}
        assert set(counts) == set(wanted), name
        assert len(ratios) == 1, name


def test_space_groups(symmetries, table):
    found = {name: symmetry.number for name, symmetry in symmetries.items()}
    assert found == {name: int(row["space_group"]) for name, row in table.items()}


def test_cells_are_primitive(symmetries, crystals):
    for name, symmetry in symmetries.items():
        assert len(set(symmetry.mapping_to_primitive)) == crystals[name].num_atoms, name


def test_lattice_constants(symmetries, table):
    """The conventional cell that spglib finds has the lengths of the table."""
    for name, symmetry in symmetries.items():
        row = table[name]
        wanted = sorted(float(row[axis] or row["a"]) for axis in "abc")
        found = sorted(np.linalg.norm(symmetry.std_lattice, axis=1))
        assert found == pytest.approx(wanted, abs=1e-4), name


def test_densities(crystals, table):
    """Handbook densities do not come with the lattice constants, so a mistyped constant shows."""
    compared = 0
    for name, atoms in crystals.items():
        mass = sum(atomic_masses[atomic_numbers[element]] for element in atoms.elements)
        density = GRAMS_PER_CM3 * mass / abs(np.linalg.det(atoms.lattice_mat))
        assert 0.8 < density < 23, name
        if table[name]["density_g_cm3"]:
            assert density == pytest.approx(float(table[name]["density_g_cm3"]), rel=0.04), name
            compared += 1
    assert compared >= 100


def test_nearest_neighbours_against_covalent_radii(crystals):
    for name, atoms in crystals.items():
        nearest = dict.fromkeys(set(atoms.elements), np.inf)
        for first, second, distance in pair_distances(atoms):
            radii = covalent_radii[atomic_numbers[first]] + covalent_radii[atomic_numbers[second]]
            nearest[first] = min(nearest[first], distance / radii)
        assert all(0.8 <= ratio <= 1.25 for ratio in nearest.values()), (name, nearest)


@pytest.mark.parametrize(
    ("name", "pair", "published"),
    [
        ("Si-diamond", "Si-Si", [2.352]),
        ("NaCl-rocksalt", "Cl-Na", [2.820]),
        ("TiO2-rutile", "O-Ti", [1.946, 1.983]),
        ("TiO2-anatase", "O-Ti", [1.934, 1.980]),
        ("Al2O3-corundum", "Al-O", [1.854, 1.972]),
        ("MgAl2O4-spinel", "Al-O", [1.926]),
        ("CuInSe2-chalcopyrite", "Cu-Se", [2.424]),
        ("CuInSe2-chalcopyrite", "In-Se", [2.599]),
        ("MoS2-2H", "Mo-S", [2.417]),
        ("P-black", "P-P", [2.224, 2.244]),
        ("Te-trigonal", "Te-Te", [2.835]),
        ("Bi2Te3-tetradymite", "Bi-Te", [3.07, 3.25]),
        ("FeS2-pyrite", "Fe-S", [2.264]),
        ("W-bcc", "W-W", [2.741]),
    ],
)
def test_published_bond_lengths(crystals, name, pair, published):
    """Bond lengths as the structure reports give them: they depend on the internal parameters."""
    lengths = {
        round(distance, 4)
        for first, second, distance in pair_distances(crystals[name])
        if "-".join(sorted((first, second))) == pair
    }
    assert sorted(lengths)[: len(published)] == pytest.approx(published, abs=0.006)


def test_gaps(table, rows):
    for name, row in table.items():
        gap = float(row["band_gap_eV"])
        assert float(rows[name]["band_gap"]) == gap, name
        assert 0 <= gap <= 15, name
        assert (gap == 0) == (row["gap_kind"] in ("metal", "semimetal")), name
    gapless = sum(float(row["band_gap"]) == 0 for row in rows.values())
    assert 0.2 < gapless / len(rows) < 0.5


def test_every_number_has_a_source(table):
    known = {row["key"] for row in read_csv(ROOT / "tools" / "demo_sources.csv")}
    for name, row in table.items():
        named = {*row["lattice_source"].split(";"), *row["gap_source"].split(";")}
        assert named <= known, (name, named - known)
        no_temperature = row["gap_kind"] in ("metal", "semimetal", "transport", "exciton")
        assert row["gap_temperature_K"] or no_temperature or "temperature" in row["note"], name


def test_texts_describe_and_give_nothing_away(rows):
    for name, row in rows.items():
        text = row["Description"]
        assert "space group" in text, name
        assert all(character.isascii() or character in "Å°" for character in text), name
        assert not re.search(r"np\.|[$<>{}\\]", text), name
        assert not re.search(r"\beV\b|\b[Gg]aps?\b|conduct|insulat|[Mm]etal", text), name
        without_lengths = re.sub(r"\d+\.\d\d(-\d+\.\d\d)? Å|\(\d+\.\d\d Å\)", "", text)
        assert not re.search(r"\d\.\d", without_lengths), name
        gap = float(row["band_gap"])
        assert gap == 0 or not re.search(rf"(?<![\d.]){gap:.2f}(?!\d)", text), name


def test_texts_name_the_space_group_of_the_crystal(rows, symmetries):
    for name, row in rows.items():
        assert f" {symmetries[name].international} space group" in row["Description"], name


def test_readme_lists_every_compound_with_its_gap(table):
    text = (DATA / "README.md").read_text(encoding="utf-8")
    lines = [line.strip("|\n ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    listed = {cells[0]: cells[2].split(" ± ")[0] for cells in lines if cells[0] not in ("id", "---")}
    assert {name: float(gap) for name, gap in listed.items()} == {
        name: float(row["band_gap_eV"]) for name, row in table.items()
    }
    for row in read_csv(ROOT / "tools" / "demo_sources.csv"):
        assert f"- {row['key']}: {row['citation']}" in text


def test_documentation_table(table):
    text = (ROOT / "docs" / "demo-data.md").read_text(encoding="utf-8")
    lines = [line.strip("|\n ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    listed = {cells[0]: cells[2:] for cells in lines if cells[0] not in ("structure type", "---")}
    total = listed.pop("all")
    assert set(listed) == {row["structure_type"] for row in table.values()}
    for kind, (group, count, gapless, span) in listed.items():
        members = [row for row in table.values() if row["structure_type"] == kind]
        gaps = [float(row["band_gap_eV"]) for row in members]
        assert {row["space_group"] for row in members} == {group}
        assert (int(count), int(gapless)) == (len(gaps), gaps.count(0.0))
        assert {float(end) for end in span.split(" to ")} == {min(gaps), max(gaps)}
    assert int(total[1]) == len(table)
