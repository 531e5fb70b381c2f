"""Figures of a modality analysis over structures, with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from interpret.checks.estimates import Estimate, mean_of, ratio_of
from interpret.modality.part_shares import GRAPH
from interpret.modality.parts import PARTS
from interpret.modality.share import BASELINES

Floats = npt.NDArray[np.float64]
# The control that edits are held against: as many places changed, as small, and nothing else said.
CONTROL_EDIT = "reworded"
# Values over all resamples of a correlation: 2000 resamples up to 10,000 structures, fewer beyond.
_RESAMPLES, _RESAMPLED_VALUES = 2000, 20_000_000


def at_baseline(modality: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Rows of one baseline by id, so that a bootstrap does not follow the order of the data set."""
    rows = modality[modality["baseline"] == baseline]
    return rows.sort_values("id", kind="stable", ignore_index=True)


def values(table: pd.DataFrame, name: str) -> Floats:
    """A column, [n] float64."""
    return np.asarray(table[name], dtype=np.float64)


def share_of_text(rows: pd.DataFrame) -> Estimate:
    """``sum |text| / sum (|graph| + |text|)`` over structures, of Shapley values."""
    text, graph = np.abs(values(rows, "text_shapley")), np.abs(values(rows, "graph_shapley"))
    return ratio_of(text, text + graph)


def main_effects(rows: pd.DataFrame) -> Floats:
    """``|f(g,-) - f(-,-)| + |f(-,t) - f(-,-)|``: what graph and text do one by one."""
    text_alone = values(rows, "text_shapley") - values(rows, "interaction") / 2
    graph_alone = values(rows, "graph_shapley") - values(rows, "interaction") / 2
    return np.abs(text_alone) + np.abs(graph_alone)


def share_of_interaction(rows: pd.DataFrame) -> Estimate:
    """``sum |interaction| / sum (|interaction| + |graph alone| + |text alone|)``."""
    interaction = np.abs(values(rows, "interaction"))
    return ratio_of(interaction, interaction + main_effects(rows))


def covariance_share(rows: pd.DataFrame) -> float:
    """``cov(text, whole) / var(whole)``: the part of the differences between predictions that the text makes.

    With that of the graph it sums to 1; below 0 where the text pulls against the graph. NaN where nothing differs.
    """
    text, whole = values(rows, "text_shapley"), values(rows, "whole")
    known = np.isfinite(text) & np.isfinite(whole)
    if known.sum() < 2 or np.ptp(whole[known]) == 0:
        return math.nan
    covariance = np.cov(text[known], whole[known])
    return float(covariance[0, 1] / covariance[1, 1])


def error_correlation(rows: pd.DataFrame) -> Estimate:
    """Rank correlation of a structure's text share with its absolute error."""
    return correlation_of(values(rows, "text_share"), values(rows, "absolute_error"))


def correlation_of(first: Floats, second: Floats, seed: int = 0) -> Estimate:
    """Spearman correlation with its bootstrap interval (percentiles); pairs with a NaN are left out."""
    known = np.isfinite(first) & np.isfinite(second)
    left, right, count = first[known], second[known], int(known.sum())
    if count < 3 or np.ptp(left) == 0 or np.ptp(right) == 0:
        return Estimate(math.nan, math.nan, math.nan, count)
    resamples = min(_RESAMPLES, max(200, _RESAMPLED_VALUES // count))
    generator = np.random.default_rng(seed)
    drawn = [_rank_correlation(left, right, generator.integers(count, size=count)) for _ in range(resamples)]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Estimate(float(stats.spearmanr(left, right).statistic), float(low), float(high), count)


def _rank_correlation(left: Floats, right: Floats, rows: npt.NDArray[np.int64]) -> float:
    """Spearman's of some rows, ranked among themselves; NaN where one of the two does not vary."""
    a, b = (stats.rankdata(values[rows]) for values in (left, right))
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale > 0 else math.nan


def summarize(tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Figures of every table by name; each with its 95 % interval and the number of structures."""
    modality = tables["modality"]
    shares = {}
    for baseline, meaning in BASELINES.items():
        rows = at_baseline(modality, baseline)
        shares[baseline] = {
            "without": meaning,
            "text_share": _plain(share_of_text(rows)),
            "interaction_share": _plain(share_of_interaction(rows)),
            "text_covariance_share": covariance_share(rows),
            "error_correlation": _plain(error_correlation(rows)),
        }
    return {
        "shares": shares,
        "parts": _parts(tables["text_parts"]),
        "edits": _edits(tables["text_edits"]),
        "leakage": _leakage(tables["leakage"], tables["leakage_words"]),
    }


def _parts(table: pd.DataFrame) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if not len(table):
        return found
    total = table.assign(joint=table["joint"].abs()).groupby("id")["joint"].sum()
    for part in (GRAPH, *PARTS):
        rows = table[table["part"] == part].sort_values("id", kind="stable")
        if not len(rows):
            continue
        joint, whole = np.abs(values(rows, "joint")), np.asarray(total.loc[rows["id"]], dtype=np.float64)
        found[part] = {"share": _plain(ratio_of(joint, whole)), "mean_joint": _plain(mean_of(joint))}
        if part != GRAPH:
            with_graph, without = np.abs(values(rows, "with_graph")), np.abs(values(rows, "without_graph"))
            found[part] |= {
                "mean_with_graph": _plain(mean_of(with_graph)),
                "mean_without_graph": _plain(mean_of(without)),
                "kept_with_graph": _plain(ratio_of(with_graph, without)),
            }
    return found


def _edits(table: pd.DataFrame) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if not len(table):
        return found
    changes = table.assign(change=table["change"].abs()).pivot(index="id", columns="edit", values="change").sort_index()
    for name, rows in table.groupby("edit", sort=False):
        own = np.asarray(changes[name], dtype=np.float64)
        found[str(name)] = {
            "control": bool(rows["control"].iloc[0]),
            "mean_change": _plain(mean_of(own)),
            "mean_signed_change": _plain(mean_of(values(rows.sort_values("id", kind="stable"), "change"))),
            "words_changed": float(rows["words_changed"].mean()),
            "behind_truncation": int((~rows["reaches_encoder"].astype(bool)).sum()),
        }
        if CONTROL_EDIT in changes:
            control = np.asarray(changes[CONTROL_EDIT], dtype=np.float64)
            found[str(name)]["over_control"] = _plain(ratio_of(own, control))
    return found


def _leakage(table: pd.DataFrame, words: pd.DataFrame) -> dict[str, Any]:
    rows = table.sort_values("id", kind="stable")
    found: dict[str, Any] = {
        "labelled": int(rows["match"].notna().sum()),
        "match": _plain(mean_of(values(rows, "match"))),
        "chance": _plain(mean_of(values(rows, "chance"))),
        "with_property_words": int((rows["property_words"] != "").sum()),
    }
    found["words"] = words.to_dict("records")
    return found


def _plain(estimate: Estimate) -> dict[str, float | int]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "structures": estimate.count}
