"""The hand-made tables behind the demo data: compounds with their sources, structure types, citations."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

TABLES = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Prototype:
    """A structure type: Hall number in spglib and occupied sites ``(role, (x, y, z) expressions)``."""

    structure_type: str
    strukturbericht: str
    space_group: int
    hall_number: int
    sites: tuple[tuple[str, tuple[str, str, str]], ...]


@dataclass(frozen=True)
class Compound:
    """A row of ``demo_compounds.csv``; lengths in angstrom, gaps in eV, density in g/cm3 or None."""

    id: str
    structure_type: str
    space_group: int
    elements: tuple[str, ...]
    formula: str
    lengths: tuple[float, float, float]
    internal: dict[str, float]
    density: float | None
    band_gap: float
    gap_spread: float
    gap_temperature: str
    gap_kind: str
    lattice_source: str
    gap_source: str
    note: str


def read_rows(name: str) -> list[dict[str, str]]:
    """Read a CSV table that lies beside this module."""
    with (TABLES / name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def read_prototypes() -> dict[str, Prototype]:
    """Read the structure types by name."""
    prototypes = {}
    for row in read_rows("demo_prototypes.csv"):
        sites = []
        for site in row["sites"].split(";"):
            role, x, y, z = site.split()
            sites.append((role, (x, y, z)))
        prototypes[row["structure_type"]] = Prototype(
            row["structure_type"],
            row["strukturbericht"],
            int(row["space_group"]),
            int(row["hall_number"]),
            tuple(sites),
        )
    return prototypes


def read_compounds() -> list[Compound]:
    """Read the compounds in file order. A missing b or c equals a, as the crystal system demands."""
    compounds = []
    for row in read_rows("demo_compounds.csv"):
        a = float(row["a"])
        internal = dict(item.split("=") for item in row["internal"].split(";") if item)
        compounds.append(
            Compound(
                id=row["id"],
                structure_type=row["structure_type"],
                space_group=int(row["space_group"]),
                elements=tuple(row["elements"].split()),
                formula=row["formula"],
                lengths=(a, float(row["b"] or a), float(row["c"] or a)),
                internal={name: float(value) for name, value in internal.items()},
                density=float(row["density_g_cm3"]) if row["density_g_cm3"] else None,
                band_gap=float(row["band_gap_eV"]),
                gap_spread=float(row["gap_spread_eV"]),
                gap_temperature=row["gap_temperature_K"],
                gap_kind=row["gap_kind"],
                lattice_source=row["lattice_source"],
                gap_source=row["gap_source"],
                note=row["note"],
            )
        )
    return compounds


def read_citations() -> dict[str, str]:
    """Read the sources by key."""
    return {row["key"]: row["citation"] for row in read_rows("demo_sources.csv")}
