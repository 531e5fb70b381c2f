"""What a prediction loses as players are taken out or put in, in the order of each explainer."""

from __future__ import annotations

from typing import Any

import pandas as pd

from interpret.attribution.over_structures import by_players, by_structure, in_order, interval, of_method
from interpret.metrics.faithfulness import SHARES

# Each curve and the columns of the faithfulness table that hold its points.
CURVES = {"deletion": "comprehensiveness", "insertion": "sufficiency"}
COLUMNS = (
    "side",
    "kind",
    "method",
    "curve",
    "percent",
    "mean",
    "low",
    "high",
    "structures",
    "undefined",
    "beyond_uniform",
    "beyond_uniform_low",
    "beyond_uniform_high",
    "beyond_uniform_structures",
)


def faithfulness_curves(faithfulness: pd.DataFrame) -> pd.DataFrame:
    """One row a (players, method, curve, share of the players): mean over structures in the unit of the target.

    Deletion is ``|m(all) - m(without the first)|``, which goes from 0 to the change ``|m(all) - m(none)|`` as more are
    taken out; insertion is ``|m(all) - m(only the first)|``, which goes from that change to 0 as more are put in (Samek
    et al., IEEE TNNLS 2017; Petsiuk et al., BMVC 2018). The area under the mean, by trapezoids, is the mean of the
    areas in the faithfulness table: both leave out the same structures.

    Args:
        faithfulness: a row for each structure, kind of players and method, as
            :func:`interpret.attribution.faithfulness.measure` gives it; the random explainer once a seed.

    Returns:
        ``percent`` is the share of players, 0 to 100. ``mean`` comes with a 95 % interval over ``structures``;
        ``undefined`` counts those left out, which have fewer than two players or no explanation by this method.
        ``beyond_uniform`` is the difference to the uniform explainer, paired by structure. What is undefined is NaN.
    """
    found: list[dict[str, Any]] = []
    for side, kind, rows in by_players(faithfulness):
        for curve in CURVES:
            points = curve_points(rows, curve)
            for method in in_order(rows["method"]):
                found += [
                    {"side": side, "kind": kind, "method": method, "curve": curve, "percent": percent}
                    | _point(table, method)
                    for percent, table in points.items()
                ]
    return pd.DataFrame(found, columns=list(COLUMNS))


def curve_points(rows: pd.DataFrame, curve: str) -> dict[float, pd.DataFrame]:
    """A curve's values by structure (rows, by id) and method (columns), at each percentage of the players.

    Args:
        rows: of the faithfulness table, of one kind of players.
        curve: ``deletion`` or ``insertion``.
    """
    percents = [round(100 * share, 9) for share in SHARES]
    within = {percent: by_structure(rows, f"{CURVES[curve]}_{percent:g}") for percent in percents}
    change = by_structure(rows, "change")
    known = change.notna()
    for table in within.values():
        known &= table.notna()
    # A structure without an order has no curve, though the ends would be known.
    ends = (0 * change, change) if curve == "deletion" else (change, 0 * change)
    points = {0.0: ends[0], **within, 100.0: ends[1]}
    return {percent: table.where(known) for percent, table in points.items()}


def _point(table: pd.DataFrame, method: str) -> dict[str, float]:
    own = interval(of_method(table, method))
    beyond = interval(of_method(table, method) - of_method(table, "uniform"))
    return {
        "mean": own.mean,
        "low": own.low,
        "high": own.high,
        "structures": own.count,
        "undefined": own.undefined,
        "beyond_uniform": beyond.mean,
        "beyond_uniform_low": beyond.low,
        "beyond_uniform_high": beyond.high,
        "beyond_uniform_structures": beyond.count,
    }
