"""All rows of one structure, for the four result tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from interpret.lexicon import CATEGORIES
from interpret.measure.attention import attention_rows, taps_to_tokens
from interpret.measure.gates import atom_gate_columns, cross_modal_gate_columns, fusion_layers, gate_columns
from interpret.measure.nodes import partition_columns, stage_rows
from interpret.record import StructureRecord
from interpret.robust import RankedWord, analyze_attention
from interpret.text_references import TextReferences

TOP_WORDS = 3
Rows = dict[str, list[dict[str, Any]]]


def measure_structure(
    record: StructureRecord,
    references: TextReferences,
    text_scales: dict[int, float],
    *,
    stop_words: bool = False,
    punctuation: bool = False,
) -> Rows:
    """Rows by table name; every row starts with the structure's id.

    Args:
        references: texts of other structures, the control of the text flow.
        text_scales: by middle-fusion layer, the factor on the transformed text.
        stop_words, punctuation: keep them among the top words.
    """
    structure = identity_columns(record)
    atoms = [
        {"atom": number, "label": label, "element": element, "orbit": int(orbit), "graph_class": int(cls)}
        for number, (label, element, orbit, cls) in enumerate(
            zip(
                record.graph.atom_labels,
                record.graph.elements,
                record.orbits.labels,
                record.classes.labels,
                strict=True,
            )
        )
    ]
    heads: list[dict[str, Any]] = []
    for layer in fusion_layers(record):
        structure |= gate_columns(record, layer, text_scales.get(layer, 1.0))
        _extend(atoms, atom_gate_columns(record, layer))
    structure |= cross_modal_gate_columns(record)
    for tap in taps_to_tokens(record):
        rows = attention_rows(record, tap)
        structure |= rows.structure
        heads += rows.heads
        _extend(atoms, rows.atoms)
        structure |= _robust(record, tap, atoms, stop_words, punctuation)
    structure |= record.counterfactuals
    rows_by_table = {
        "structures": [structure],
        "atoms": atoms,
        "heads": heads,
        "layers": stage_rows(record, references),
    }
    return {name: [{"id": record.id} | row for row in rows] for name, rows in rows_by_table.items()}


def identity_columns(record: StructureRecord) -> dict[str, Any]:
    """What a structure is, what was lost of it, and what the network says of it."""
    encoding, graph = record.encoding, record.graph
    return {
        "formula": graph.formula,
        "atoms": graph.number_of_atoms,
        "bonds": graph.number_of_bonds,
        "angles": graph.number_of_angles,
        "space_group": record.orbits.space_group_symbol or "",
        "orbits": record.orbits.number_of_orbits,
        "graph_classes": record.classes.number_of_classes,
        **partition_columns(record),
        "tokens": len(encoding.pieces),
        "tokens_total": encoding.pieces_total,
        "truncated": encoding.truncated,
        "words": len(record.words),
        "characters_lost": encoding.normalized.lost_characters,
        "target": record.target,
        "prediction": record.prediction,
        "error": record.error,
        "absolute_error": abs(record.error),
    }


def _robust(
    record: StructureRecord, tap: str, atoms: list[dict[str, Any]], stop_words: bool, punctuation: bool
) -> dict[str, Any]:
    analysis = analyze_attention(record, tap, stop_words=stop_words, punctuation=punctuation)
    for number, row in enumerate(atoms):
        words = analysis.top(number, TOP_WORDS) if analysis.per_atom else ()
        row[f"{tap}.top_words"] = _written(words)
    shares: dict[str, float] = dict.fromkeys(CATEGORIES, 0.0)
    for word in analysis.ranking:
        shares[word.category] += word.weight
    columns: dict[str, Any] = {
        "mode": analysis.mode,
        "mode_reason": analysis.reason,
        "top_words": _written(analysis.top(count=5)),
        "removed_share": analysis.removed_share,
    }
    columns |= {f"share.{category}": share for category, share in shares.items()}
    return {f"{tap}.{name}": value for name, value in columns.items()}


def _written(words: Sequence[RankedWord]) -> str:
    """Word, attention, and how many times what uniform attention gives to as many pieces."""
    return "; ".join(f"{word.word} {word.weight:.4f} (x{word.ratio:.2f})" for word in words)


def _extend(rows: list[dict[str, Any]], columns: list[dict[str, float]]) -> None:
    for row, more in zip(rows, columns, strict=True):
        row.update(more)
