"""The generated tables in the documents of the demo data: text between two marker comments is replaced."""

from __future__ import annotations

from pathlib import Path

from tools.demo_compounds import Compound, Prototype


def fill(path: Path, blocks: dict[str, str]) -> str:
    """Return the text of a document with each generated block replaced.

    Raises:
        SystemExit: a block's markers are missing from the document.
    """
    text = path.read_text(encoding="utf-8")
    for name, block in blocks.items():
        begin, end = f"<!-- generated: {name} -->\n", f"<!-- end of {name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise SystemExit(f"{path}: expected the markers of {name} once each")
        before, after = text.split(begin)[0], text.split(end)[1]
        text = before + begin + block + end + after
    return text


def table(header: list[str], rows: list[list[str]]) -> str:
    """Format a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def gap_text(compound: Compound) -> str:
    """The gap with its spread, eV."""
    return f"{compound.band_gap:g} ± {compound.gap_spread:g}" if compound.band_gap > 0 else "0"


def readme_blocks(compounds: list[Compound], citations: dict[str, str]) -> dict[str, str]:
    """The table of compounds and the list of the sources that it or its notes name."""
    rows = [
        [
            c.id,
            c.structure_type,
            gap_text(c),
            c.gap_kind,
            c.gap_temperature,
            c.gap_source,
            c.lattice_source.replace(";", ", "),
            c.note,
        ]
        for c in compounds
    ]
    header = ["id", "structure type", "gap (eV)", "kind", "T (K)", "gap from", "lattice from", "note"]
    sources = "".join(f"- {key}: {citation}\n" for key, citation in sorted(citations.items()))
    return {"compounds": table(header, rows), "sources": sources}


def type_blocks(compounds: list[Compound], prototypes: dict[str, Prototype]) -> dict[str, str]:
    """The table of structure types with counts and gap ranges, in the order of the prototypes."""
    rows = []
    for name, prototype in prototypes.items():
        members = [c for c in compounds if c.structure_type == name]
        gaps = [c.band_gap for c in members]
        gap_range = f"{min(gaps):g}" if min(gaps) == max(gaps) else f"{min(gaps):g} to {max(gaps):g}"
        gapless = sum(gap == 0 for gap in gaps)
        symbol = prototype.strukturbericht or "-"
        rows.append([name, symbol, str(prototype.space_group), str(len(members)), str(gapless), gap_range])
    total = [c.band_gap for c in compounds]
    rows.append(
        [
            "all",
            "",
            "",
            str(len(total)),
            str(sum(gap == 0 for gap in total)),
            f"{min(total):g} to {max(total):g}",
        ]
    )
    header = ["structure type", "Strukturbericht", "space group", "compounds", "of them gapless", "gap (eV)"]
    return {"structure types": table(header, rows)}
