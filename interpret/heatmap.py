"""One attention map at word level, in long format, ready to be drawn."""

from __future__ import annotations

from typing import Any

import torch

from interpret.measure.attention import taps_to_tokens
from interpret.record import StructureRecord
from interpret.robust import analyze_attention
from interpret.words import merge_pieces

_ORDER = ("atoms differ", "atoms collapsed", "one class", "one atom")


def preference(record: StructureRecord) -> int | None:
    """How telling a structure's map is, 0 best; None where there is no map."""
    taps = taps_to_tokens(record)
    return _ORDER.index(analyze_attention(record, taps[-1]).mode) if taps else None


def heatmap_rows(record: StructureRecord, tap: str | None = None) -> list[dict[str, Any]]:
    """Attention of each atom to each word, mean over heads: one row an (atom, word) pair.

    Weights of pieces are summed to words, special tokens included, so each atom's weights sum to 1. ``uniform`` is
    what uniform attention would give the word: its share of the pieces.
    """
    tap = tap or taps_to_tokens(record)[-1]
    values = merge_pieces(torch.from_numpy(record.values(tap)).mean(dim=0), record.words)
    return [
        {
            "id": record.id,
            "formula": record.graph.formula,
            "tap": tap,
            "atom": label,
            "orbit": int(record.orbits.labels[row]),
            "graph_class": int(record.classes.labels[row]),
            "word_index": column,
            "word": word.text,
            "category": word.category,
            "weight": float(values[row, column]),
            "uniform": len(word.pieces) / len(record.encoding.pieces),
        }
        for row, label in enumerate(record.graph.atom_labels)
        for column, word in enumerate(record.words)
    ]
