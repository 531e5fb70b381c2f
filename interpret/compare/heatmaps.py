"""Which structures' attention maps are shown side by side, and their maps at word level."""

from __future__ import annotations

import pandas as pd

from interpret.heatmap import heatmap_rows, preference
from interpret.record import StructureRecord

# Beside the most telling structure, those on whose prediction the two models disagree most.
DISAGREEING = 2
TELLING = "atoms attend most differently"
DISAGREES = "predictions disagree most"


class HeatmapPairs:
    """The maps of a few structures in both models, chosen while structures pass by."""

    def __init__(self) -> None:
        self._telling: tuple[tuple[int, str], pd.DataFrame] | None = None
        self._disagreeing: list[tuple[tuple[float, str], pd.DataFrame]] = []

    def offer(self, first: StructureRecord, second: StructureRecord, tap: str) -> None:
        """Consider one structure; ties go to the id that sorts first."""
        ranks = [preference(record) for record in (first, second)]
        rank = (sum(4 if value is None else value for value in ranks), first.id)
        if self._telling is None or rank < self._telling[0]:
            self._telling = (rank, _rows(first, second, tap, TELLING))
        apart = (-abs(second.prediction - first.prediction), first.id)
        if len(self._disagreeing) < DISAGREEING or apart < self._disagreeing[-1][0]:
            self._disagreeing.append((apart, _rows(first, second, tap, DISAGREES)))
            self._disagreeing.sort(key=lambda entry: entry[0])
            del self._disagreeing[DISAGREEING:]

    def table(self) -> pd.DataFrame:
        """One row a model (``a``, ``b``), atom and word: those of :func:`interpret.heatmap.heatmap_rows`, and why."""
        chosen = [] if self._telling is None else [self._telling[1]]
        known = {frame["id"].iloc[0] for frame in chosen}
        chosen += [frame for _, frame in self._disagreeing if frame["id"].iloc[0] not in known]
        return pd.concat(chosen, ignore_index=True) if chosen else pd.DataFrame()


def _rows(first: StructureRecord, second: StructureRecord, tap: str, why: str) -> pd.DataFrame:
    rows = [
        {"model": model, "chosen": why} | row
        for model, record in (("a", first), ("b", second))
        for row in heatmap_rows(record, tap)
    ]
    return pd.DataFrame(rows)
