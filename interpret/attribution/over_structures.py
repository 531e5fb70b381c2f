"""From rows of an attribution run to one value a structure, and from those to a mean with its interval."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from interpret.attribution.explanation import Floats
from interpret.attribution.methods import METHODS
from interpret.attribution.players import KINDS
from interpret.metrics.statistics import MeanWithInterval, mean_with_interval

SIDES = ("text", "graph")
RESAMPLES = 2000


def by_players(table: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Side, kind and rows of each kind of players: words and sentences are both text, and are never averaged."""
    if not len(table):
        return
    found = {(str(side), str(kind)): rows for (side, kind), rows in table.groupby(["side", "kind"], sort=True)}
    kinds = in_order((kind for _, kind in found), tuple(KINDS))
    for side in in_order((side for side, _ in found), SIDES):
        yield from ((side, kind, found[side, kind]) for kind in kinds if (side, kind) in found)


def in_order(names: Iterable[object], known: Iterable[str] = tuple(METHODS)) -> tuple[str, ...]:
    """The different names: known ones (methods, if nothing else is said) in their order, others behind by spelling."""
    place = {name: number for number, name in enumerate(known)}
    return tuple(sorted({str(name) for name in names}, key=lambda name: (place.get(name, len(place)), name)))


def by_structure(rows: pd.DataFrame, figure: str) -> pd.DataFrame:
    """A figure by structure (rows, by id) and method (columns); the random explainer is the mean of its seeds.

    Sums are made in the order of the values, so that the order of the rows does not decide the last digit.
    """
    ordered = rows.sort_values(["id", "method", figure], kind="stable")
    table: pd.DataFrame = ordered.groupby(["id", "method"], sort=True)[figure].mean().unstack("method")
    return table.sort_index()


def of_method(table: pd.DataFrame, method: str) -> Floats:
    """A method's values, [n] by id; NaN where the table lacks the method."""
    if method not in table:
        return np.full(len(table), np.nan)
    return np.asarray(table[method], dtype=np.float64)


def interval(values: Floats) -> MeanWithInterval:
    """Mean and 95 % percentile interval over structures, [n] by id; NaN is left out and counted."""
    return mean_with_interval(values, resamples=RESAMPLES, method="percentile")
