"""Which facts of the text a prediction rests on, and whether the graph already had them.

Exact Shapley values over the kinds of part that a text has (:mod:`interpret.modality.parts`), in three games on the
same predictions: with the crystal there, with the mean crystal in its place, and with the crystal as one more player.
A part that moves predictions without the crystal and no longer with it says what the graph already had.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from interpret.modality.parts import Part, TextPart, keep_parts, kinds, text_parts
from interpret.modality.shapley import exact_shapley

if TYPE_CHECKING:
    from interpret.modality.items import Item
    from interpret.modality.passes import Crystal, FusedPasses
    from interpret.modality.share import Baselines
    from model.encoder import TextEncoder, TextEncoding

GRAPH = "graph"


def coalition_texts(text: str, parts: Sequence[TextPart], players: Sequence[Part]) -> list[str]:
    """The text of every coalition of players, 2^n of them, numbered as :func:`exact_shapley` expects."""
    return [
        keep_parts(text, parts, [part for i, part in enumerate(players) if number >> i & 1])
        for number in range(1 << len(players))
    ]


def part_rows(
    passes: FusedPasses, item: Item, crystal: Crystal, baselines: Baselines, encoder: TextEncoder
) -> list[dict[str, Any]]:
    """A row a kind of part, and one for the graph; none for an empty text.

    Columns, in the unit of the prediction: ``joint`` (graph and parts as players; all rows of a structure sum to
    ``f(g,t) - f(-,-)``), ``with_graph`` and ``without_graph`` (parts as players), ``left_out`` (loss when the part
    alone is missing), ``alone`` (gain of the part over an empty text). The text is encoded anew for every coalition.
    """
    text = item.sample.text
    parts = text_parts(text) if text.strip() else ()
    players = kinds(parts)
    if not players:
        return []
    encodings = [baselines.empty_text, *encoder.encode(coalition_texts(text, parts, players)[1:-1]), item.encoding]
    with_graph, without = _values(passes, crystal, baselines, encodings)
    # The graph is the last player: its bit is the highest.
    joint = exact_shapley(np.concatenate([without, with_graph]))
    given, alone = exact_shapley(with_graph), exact_shapley(without)
    full = len(with_graph) - 1
    rows = []
    for number, part in enumerate(players):
        stretches = [p for p in parts if p.part == part]
        rows.append(
            {
                "id": item.sample.id,
                "part": part,
                "characters": sum(p.end - p.start for p in stretches),
                "joint": float(joint[number]),
                "with_graph": float(given[number]),
                "without_graph": float(alone[number]),
                "left_out": float(with_graph[full] - with_graph[full & ~(1 << number)]),
                "alone": float(with_graph[1 << number] - with_graph[0]),
            }
        )
    nan = float("nan")
    graph = {"with_graph": nan, "without_graph": nan, "left_out": float(with_graph[full] - without[full])}
    alone_value = float(with_graph[0] - without[0])
    rows.append(
        {"id": item.sample.id, "part": GRAPH, "characters": 0, "joint": float(joint[-1]), **graph, "alone": alone_value}
    )
    return rows


def _values(
    passes: FusedPasses, crystal: Crystal, baselines: Baselines, encodings: Sequence[TextEncoding]
) -> tuple[np.ndarray, np.ndarray]:
    """Predictions of every coalition of parts with the crystal, and with the mean crystal."""
    pairs = [(c, encoding) for c in (crystal, baselines.mean_crystal) for encoding in encodings]
    values = passes.predict(pairs)
    return values[: len(encodings)], values[len(encodings) :]
