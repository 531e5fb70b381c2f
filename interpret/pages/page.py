"""Everything one structure's page shows, as JSON computed once: numbers rounded as they are shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from interpret.measure.attention import taps_to_tokens
from interpret.measure.gates import atom_gate_columns, fusion_layers, gate_columns
from interpret.measure.nodes import stage_rows
from interpret.measure.structure import identity_columns
from interpret.pages.attention_maps import attention_quantities, head_rows, piece_share
from interpret.pages.crystal_view import crystal_view
from interpret.pages.quantity import Quantity, alike_rows, most_different
from interpret.pages.sentences import left_out, reading, rests_on, summary, what_if

if TYPE_CHECKING:
    from interpret.pages.other_crystals import OtherCrystals
    from interpret.record import StructureRecord
    from interpret.text_references import TextReferences
    from model.network import CrystalTextNetwork

SCHEMA_VERSION = 1
# Significant digits of every number that is not part of a quantity.
DIGITS = 6
# Of float64 sums: what is smaller depends on the order of summation, and is written as 0.
NOISE = 1e-12
# Numbers of all maps together; about six bytes each.
MOST_CELLS = 200_000
MOST_CHARACTERS = 20_000
ATOM_COLUMNS = {
    "alpha_mean": ("gate alpha, mean over channels", "share of the text let in, 0 to 1"),
    "relative_change": ("change by fusion", "length of the change over that of the atom's features"),
    "gate_high_share": ("channels with an open gate", "share of channels above 0.9"),
    "gate_low_share": ("channels with a closed gate", "share of channels below 0.1"),
}


@dataclass(frozen=True)
class PageContext:
    """What pages of one run have in common.

    Attributes:
        network, references, text_scales, others: of the run.
        target: name of the target's column, empty for none.
        counterfactuals: by id, columns ``counterfactual.*`` of a diagnosis of the same data; empty for none.
    """

    network: CrystalTextNetwork
    references: TextReferences
    text_scales: Mapping[int, float]
    others: OtherCrystals
    target: str = ""
    counterfactuals: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def build_page(record: StructureRecord, context: PageContext, extra: Sequence[Quantity] = ()) -> dict[str, Any]:
    """The page of one structure.

    Args:
        record: with the taps of :func:`interpret.pages.stream.page_taps`.
        extra: further quantities over this structure's atoms and words, of analyses of their own.
    """
    others = context.others.attention(record, taps_to_tokens(record))
    attention = attention_quantities(record, context.network, others)
    quantities = [*attention, *_atom_quantities(record), *extra]
    rows = _rows(quantities, record)
    columns = context.counterfactuals.get(record.id, {})
    outcome = {
        "prediction": record.prediction,
        "target": record.target,
        "error": record.error,
        "target_name": context.target,
        "what_if": what_if(columns, record.prediction),
    }
    read = reading(record, attention[0]) if attention else None
    segments, characters = _segments(record)
    page = {
        "schema_version": SCHEMA_VERSION,
        "id": record.id,
        "structure": identity_columns(record) | {"space_group_number": record.orbits.space_group_number},
        "outcome": outcome,
        "summary": [*summary(read, outcome), rests_on(extra, record.words)],
        "reading": read,
        "left_out": left_out(record, rows, characters, any(quantity.is_map for quantity in quantities)),
        "words": _words(record),
        "segments": segments,
        "atoms": _atoms(record),
        "rows": rows,
        "crystal": crystal_view(record.graph),
        "gates": _gates(record, context.text_scales),
        "heads": head_rows(record),
        "flow": _flow(stage_rows(record, context.references)),
    }
    first = [row[0] for row in rows]
    quantities_shown = [quantity.to_dict(first if quantity.is_map else None) for quantity in quantities]
    return {**rounded(page), "quantities": quantities_shown}


def rounded(value: Any, digits: int = DIGITS) -> Any:
    """Plain JSON with floats of so many significant digits; NaN and infinity become None."""
    if isinstance(value, Mapping):
        return {str(key): rounded(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item, digits) for item in value]
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return float(f"{value:.{digits}g}") if abs(value) >= NOISE else 0.0
    return value


def _rows(quantities: Sequence[Quantity], record: StructureRecord) -> list[list[int]]:
    """Groups of atoms whose rows are the same, in the order of orbits, as many as a page can hold."""
    maps = [quantity for quantity in quantities if quantity.is_map]
    groups = alike_rows(maps, record.classes.labels)
    most = max(8, MOST_CELLS // max(1, sum(quantity.cells for quantity in maps)))
    if len(groups) > most:
        first = maps[0].at_atoms([group[0] for group in groups])
        groups = [groups[row] for row in most_different(first[0] if first.ndim == 3 else first, most)]
    orbits = record.orbits.labels
    return sorted(groups, key=lambda group: (int(orbits[group[0]]), group[0]))


def _words(record: StructureRecord) -> dict[str, list[Any]]:
    """Columns with one entry a word; ``start`` and ``end`` are characters of the original text."""
    words = record.words
    return {
        "text": [word.text for word in words],
        "start": [word.start for word in words],
        "end": [word.end for word in words],
        "pieces": [len(word.pieces) for word in words],
        "category": [str(word.category) for word in words],
        "stop_word": [word.is_stop_word for word in words],
        "punctuation": [word.is_punctuation for word in words],
        "uniform": [float(share) for share in piece_share(record)],
    }


def _segments(record: StructureRecord) -> tuple[list[list[Any]], int]:
    """The text cut into [word or None, characters], and how many characters that is.

    What lies behind the last word of a text that is too long was cut off, or is shown in part.
    """
    text, at = record.encoding.text, 0
    segments: list[list[Any]] = []
    for index, word in enumerate(record.words):
        if word.category == "special" or word.start < at:
            continue
        if word.start > at:
            segments.append([None, text[at : word.start]])
        segments.append([index, text[word.start : word.end]])
        at = word.end
    end = max(at, min(len(text), MOST_CHARACTERS))
    if end > at:
        segments.append([None, text[at:end]])
    return segments, end


def _atoms(record: StructureRecord) -> dict[str, list[Any]]:
    graph = record.graph
    return {
        "label": list(graph.atom_labels),
        "element": list(graph.elements),
        "orbit": record.orbits.labels.tolist(),
        "graph_class": record.classes.labels.tolist(),
    }


def _atom_quantities(record: StructureRecord) -> list[Quantity]:
    found = []
    for layer in fusion_layers(record):
        rows = atom_gate_columns(record, layer)
        for column, (label, unit) in ATOM_COLUMNS.items():
            name = f"fusion.{layer}.{column}"
            values = np.array([row[name] for row in rows], dtype=np.float64)
            found.append(Quantity(name, f"{label} (fusion {layer})", unit, ("atom",), values, decimals=5))
    return found


def _gates(record: StructureRecord, text_scales: Mapping[int, float]) -> list[dict[str, Any]]:
    """The spread of alpha over atoms beside what channels that know nothing of each other would leave."""
    names = ("alpha_mean", "alpha_sd", "alpha_min", "alpha_max", "spread_null", "spread_ratio", "relative_change")
    found = []
    for layer in fusion_layers(record):
        columns = gate_columns(record, layer, text_scales.get(layer, 1.0))
        found.append({"layer": layer} | {name: columns[f"fusion.{layer}.{name}"] for name in names})
    return found


def _flow(stages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Cosine of every stage with the text, with its control, and how different atoms of different classes are."""
    columns = [name for name in (stages[0] if stages else {}) if name.endswith(".text_cosine")]
    return {
        "stages": [row["stage"].removesuffix(".nodes") for row in stages],
        "between_class_distance": [row["between_class_distance"] for row in stages],
        "texts": [
            {
                "fusion": column.removesuffix(".text_cosine"),
                "own": [row[column] for row in stages],
                "control": [row[f"{column}_control"] for row in stages],
                "control_sd": [row[f"{column}_control_sd"] for row in stages],
                "null_sd": stages[0][f"{column}_null_sd"],
            }
            for column in columns
        ],
    }
