"""How much of each prediction comes from the graph and how much from the text: exact Shapley values of the two.

Two baselines for "without", both stated in every row:

``references``  in place of the crystal (or the text) that of another structure, mean over several drawn ones. The
                whole is what sets a prediction apart from that of the average structure.
``empty``       in place of the text an empty one, in place of the crystal the mean crystal, whose atoms, bonds and
                angles are all the mean ones of the data set. The whole is what sets it apart from knowing nothing.

The first keeps every input one that the network has seen, but pairs crystals with texts that do not belong to them; the
second pairs nothing wrongly, but no training sample looks like it. Where they disagree the share depends on the choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from interpret.modality.shapley import TwoPlayer, text_share, two_player

if TYPE_CHECKING:
    from interpret.modality.items import Item
    from interpret.modality.passes import Crystal, FusedPasses
    from model.crystal import CrystalGraph
    from model.encoder import TextEncoding

Floats = npt.NDArray[np.float64]
REFERENCES, EMPTY, UNTRAINED = "references", "empty", "untrained"
# What "without" means under each name; the last is the control, another network under the first baseline.
BASELINES = {
    REFERENCES: "in place of crystal or text that of another structure, mean over several",
    EMPTY: "an empty text; a crystal whose atoms, bonds and angles are all the mean ones of the data set",
    UNTRAINED: "as references, for a network of this architecture that was never trained",
}


@dataclass(frozen=True, eq=False)
class Baselines:
    """What stands in for a crystal or a text that is taken away, for one network.

    Attributes:
        ids: of the reference structures. crystals, texts: theirs.
        reference_predictions: [R, R] float64, crystal by text; the diagonal is the references as they are.
        mean_crystal: all atoms, bonds and angles alike.
        empty_text: the encoding of "".
        nothing: prediction for these two.
        each: references that each structure is held against: its own is left out.
    """

    ids: tuple[str, ...]
    crystals: tuple[Crystal, ...]
    texts: tuple[TextEncoding, ...]
    reference_predictions: Floats
    mean_crystal: Crystal
    empty_text: TextEncoding
    nothing: float
    each: int

    @classmethod
    def of(
        cls,
        passes: FusedPasses,
        references: Sequence[Item],
        averaged: Sequence[CrystalGraph],
        empty_text: TextEncoding,
        each: int,
    ) -> Baselines:
        """Run the references.

        Args:
            references: structures that stand in for others, one more than ``each`` where there are enough.
            averaged: graphs whose atoms, bonds and angles the mean crystal is made of.
            empty_text: the encoding of "".
            each: references a structure.
        """
        crystals = tuple(passes.crystals([item.graph for item in references]))
        texts = tuple(item.encoding for item in references)
        predictions = passes.predict([(crystal, text) for crystal in crystals for text in texts])
        mean_crystal = passes.mean_crystal(averaged)
        return cls(
            ids=tuple(item.sample.id for item in references),
            crystals=crystals,
            texts=texts,
            reference_predictions=predictions.reshape(len(crystals), len(texts)),
            mean_crystal=mean_crystal,
            empty_text=empty_text,
            nothing=float(passes.predict([(mean_crystal, empty_text)])[0]),
            each=each,
        )

    def chosen(self, item: Item) -> list[int]:
        """The first references that are not the structure itself."""
        others = [
            i for i, name in enumerate(self.ids) if name != item.sample.id or self.texts[i].text != item.sample.text
        ]
        return others[: self.each]


def share_rows(
    passes: FusedPasses, items: Sequence[Item], crystals: Sequence[Crystal], baselines: Baselines
) -> list[dict[str, Any]]:
    """A row a structure and baseline.

    Args:
        items, crystals: structures and their crystals, in one order.
    """
    own = passes.predict([(crystal, item.encoding) for item, crystal in zip(items, crystals, strict=True)])
    against = _against_references(passes, items, crystals, baselines, own)
    without_text = passes.predict([(crystal, baselines.empty_text) for crystal in crystals])
    without_graph = passes.predict([(baselines.mean_crystal, item.encoding) for item in items])
    empty = two_player(own, without_text, without_graph, baselines.nothing)
    rows = []
    for number, item in enumerate(items):
        found = {REFERENCES: against[number], EMPTY: empty.at(number)}
        for baseline, shares in found.items():
            rows.append(_row(item, baseline, float(own[number]), shares))
    return rows


def reference_rows(
    passes: FusedPasses, items: Sequence[Item], crystals: Sequence[Crystal], baselines: Baselines, label: str
) -> list[dict[str, Any]]:
    """Rows of the baseline ``references`` alone under another label: for another network as control."""
    own = passes.predict([(crystal, item.encoding) for item, crystal in zip(items, crystals, strict=True)])
    against = _against_references(passes, items, crystals, baselines, own)
    return [_row(item, label, float(own[i]), against[i]) for i, item in enumerate(items)]


def _against_references(
    passes: FusedPasses, items: Sequence[Item], crystals: Sequence[Crystal], baselines: Baselines, own: Floats
) -> list[TwoPlayer]:
    chosen = [baselines.chosen(item) for item in items]
    pairs: list[tuple[Crystal, TextEncoding]] = []
    for item, crystal, references in zip(items, crystals, chosen, strict=True):
        pairs += [(crystal, baselines.texts[i]) for i in references]
        pairs += [(baselines.crystals[i], item.encoding) for i in references]
    values = passes.predict(pairs)
    result, at = [], 0
    for number, references in enumerate(chosen):
        count = len(references)
        graph_only, text_only = values[at : at + count], values[at + count : at + 2 * count]
        at += 2 * count
        neither = baselines.reference_predictions[references, references]
        result.append(two_player(own[number], graph_only, text_only, neither).mean(axis=0) if count else _undefined())
    return result


def _undefined() -> TwoPlayer:
    return TwoPlayer(*(np.array(np.nan) for _ in TwoPlayer._fields))


def _row(item: Item, baseline: str, prediction: float, shares: TwoPlayer) -> dict[str, Any]:
    return {
        "id": item.sample.id,
        "formula": item.graph.formula,
        "baseline": baseline,
        "target": item.sample.target,
        "prediction": prediction,
        "absolute_error": abs(prediction - item.sample.target),
        "graph_shapley": float(shares.graph),
        "text_shapley": float(shares.text),
        "interaction": float(shares.interaction),
        "whole": float(shares.whole),
        "text_given_graph": float(shares.text_given_graph),
        "text_alone": float(shares.text_alone),
        "text_share": float(text_share(shares.graph, shares.text)),
    }


def mismatched_rows(baselines: Baselines) -> list[dict[str, Any]]:
    """What share and interaction are where text and crystal do not belong together: each pair of two references.

    The control of the interaction: one that a pair that belongs together has as much of as any other pair is no sign
    that the network compares the two.
    """
    grid, count = baselines.reference_predictions, len(baselines.ids)
    rows = []
    for g in range(count):
        for t in range(count):
            others = [i for i in range(count) if i not in (g, t)]
            if g == t or not others:
                continue
            shares = two_player(grid[g, t], grid[g, others], grid[others, t], grid[others, others]).mean(axis=0)
            rows.append(
                {
                    "crystal_id": baselines.ids[g],
                    "text_id": baselines.ids[t],
                    "prediction": float(grid[g, t]),
                    "graph_shapley": float(shares.graph),
                    "text_shapley": float(shares.text),
                    "interaction": float(shares.interaction),
                    "whole": float(shares.whole),
                }
            )
    return rows
