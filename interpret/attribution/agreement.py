"""How far explanations agree: of two explainers, and of one explainer before and after weights are drawn anew."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from interpret.attribution.over_structures import SIDES, by_players, by_structure, in_order, interval, of_method
from interpret.metrics.faithfulness import rank_agreement

Pair = tuple[str, str]

AGREEMENT_COLUMNS = ("side", "kind", "method", "other", "tau", "low", "high", "structures", "undefined")
RANDOMISATION_COLUMNS = (
    "side",
    "method",
    "depth",
    "stage",
    "spearman",
    "low",
    "high",
    "structures",
    "undefined",
    "untrained_pair",
    "untrained_pair_low",
    "untrained_pair_high",
    "untrained_pair_structures",
)


def pair_agreements(rows: pd.DataFrame, methods: Sequence[str]) -> dict[str, dict[Pair, float]]:
    """Kendall's tau-b between the sizes of the values of each pair of explainers, by structure.

    Args:
        rows: of the attribution table, of one kind of players.
        methods: explainers to compare, in the order in which pairs name them.

    Returns:
        By id, in the order of ids; pairs of which a structure has both explanations. NaN where one says the same of
        every player, or there is but one. Values within a tie of each other are equal.
    """
    rows = rows[rows["method"].isin(methods)]
    found: dict[str, dict[Pair, float]] = {}
    for identifier, own in rows.groupby("id", sort=True):
        values = {
            str(method): part.sort_values("player")["value"].to_numpy(dtype=np.float64)
            for method, part in own.groupby("method", sort=True)
        }
        present = [method for method in methods if method in values]
        found[str(identifier)] = {(a, b): rank_agreement(values[a], values[b]).tau for a, b in combinations(present, 2)}
    return found


def explainer_agreement(attribution: pd.DataFrame) -> pd.DataFrame:
    """One row a (players, pair of explainers): mean tau over structures with its 95 % interval.

    Explainers that know nothing of the network are among them; the random one is not in the attribution table.
    ``undefined`` counts the structures left out. A pair that no structure defines has NaN.
    """
    found: list[dict[str, Any]] = []
    for side, kind, rows in by_players(attribution):
        methods = in_order(rows["method"])
        by_id = pair_agreements(rows, methods)
        for pair in combinations(methods, 2):
            tau = interval(np.array([own.get(pair, np.nan) for own in by_id.values()]))
            found.append(
                {
                    "side": side,
                    "kind": kind,
                    "method": pair[0],
                    "other": pair[1],
                    "tau": tau.mean,
                    "low": tau.low,
                    "high": tau.high,
                    "structures": tau.count,
                    "undefined": tau.undefined,
                }
            )
    return pd.DataFrame(found, columns=list(AGREEMENT_COLUMNS))


def randomisation_summary(randomisation: pd.DataFrame) -> pd.DataFrame:
    """One row a (side, method, stage from the output): mean Spearman over structures with its 95 % interval.

    ``untrained_pair`` is the mean of the control, the correlation between the explanations of two untrained networks:
    the same at each stage of a method.
    """
    found: list[dict[str, Any]] = []
    if len(randomisation):
        # The order from the output to the input is that of the depth.
        stages = randomisation[["depth", "stage"]].drop_duplicates().sort_values("depth")
        for side in in_order(randomisation["side"], SIDES):
            rows = randomisation[randomisation["side"] == side]
            for method in in_order(rows["method"]):
                for depth, stage in stages.itertuples(index=False):
                    part = rows[(rows["method"] == method) & (rows["stage"] == stage)]
                    if len(part):
                        names = {"side": side, "method": method, "depth": int(depth), "stage": stage}
                        found.append(names | _stage(part, method))
    return pd.DataFrame(found, columns=list(RANDOMISATION_COLUMNS))


def _stage(rows: pd.DataFrame, method: str) -> dict[str, float]:
    own = interval(of_method(by_structure(rows, "spearman"), method))
    pair = interval(of_method(by_structure(rows, "untrained_pair"), method))
    return {
        "spearman": own.mean,
        "low": own.low,
        "high": own.high,
        "structures": own.count,
        "undefined": own.undefined,
        "untrained_pair": pair.mean,
        "untrained_pair_low": pair.low,
        "untrained_pair_high": pair.high,
        "untrained_pair_structures": pair.count,
    }
