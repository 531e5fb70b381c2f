"""Errors of both models on the labelled structures, where they disagree, and whether sharper attention errs less."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from interpret.compare.catalogue import GLOBAL, metrics_of
from interpret.compare.differences import Inference, paired_interval, paired_row
from interpret.compare.pairing import Run, Values
from interpret.metrics.statistics import benjamini_hochberg

FEWEST_FOR_CORRELATION = 5


def prediction_table(first: Run, second: Run) -> pd.DataFrame:
    """One row a structure, those on which the two disagree most first.

    Columns: ``id``, ``formula``, ``target``, ``prediction_a``, ``prediction_b``, ``error_a``, ``error_b`` (absolute,
    NaN without a target), ``disagreement`` (``b - a``, 0 below the resolution).
    """
    left, right = first.structures, second.structures
    a, b = (frame["prediction"].to_numpy(dtype=np.float64) for frame in (left, right))
    b = first.resolution.snap(a, b)
    target = left["target"].to_numpy(dtype=np.float64)
    table = pd.DataFrame(
        {
            "id": left["id"],
            "formula": left["formula"],
            "target": target,
            "prediction_a": a,
            "prediction_b": b,
            "error_a": np.abs(a - target),
            "error_b": np.abs(b - target),
            "disagreement": b - a,
        }
    )
    order = np.argsort(-np.abs(table["disagreement"].to_numpy()), kind="stable")
    return table.iloc[order].reset_index(drop=True)


def compare_errors(predictions: pd.DataFrame, run: Run, inference: Inference | None = None) -> pd.DataFrame:
    """Mean absolute and root mean square error of both, with a paired interval of the difference ``b - a``.

    The p-value of the second is that of the mean square error, whose sign is the same. A row ``mean_predictor`` is
    what predicting the mean of these very targets gives: the yardstick.

    Returns:
        Rows ``mean_absolute_error`` and ``root_mean_square_error``: ``a``, ``b``, ``difference``, ``ci_low``,
        ``ci_high``, ``p_value``, ``mean_predictor``, ``labelled``, ``gap``.
    """
    inference = inference or Inference()
    own = predictions.dropna(subset=["target"]).sort_values("id", kind="stable")
    a, b, target = (own[name].to_numpy(dtype=np.float64) for name in ("error_a", "error_b", "target"))
    columns = ["measure", "a", "b", "difference", "ci_low", "ci_high", "p_value", "mean_predictor", "labelled", "gap"]
    if len(own) < 2:
        names = ("mean_absolute_error", "root_mean_square_error")
        gap = f"{len(own)} of {len(predictions)} structures have a target: at least two are needed"
        return pd.DataFrame([{"measure": n, "labelled": len(own), "gap": gap} for n in names], columns=columns)
    spread = target - target.mean()
    absolute = paired_row(a, b, run.resolution, inference)
    squares = paired_row(a**2, b**2, run.resolution, inference)
    low, high = _root_interval(a, b, inference)
    rows = [
        {
            "measure": "mean_absolute_error",
            "a": absolute["mean_a"],
            "b": absolute["mean_b"],
            "difference": absolute["difference"],
            "ci_low": absolute["ci_low"],
            "ci_high": absolute["ci_high"],
            "p_value": absolute["p_value"],
            "mean_predictor": float(np.abs(spread).mean()),
        },
        {
            "measure": "root_mean_square_error",
            "a": _root(a),
            "b": _root(b),
            "difference": _root(b) - _root(a),
            "ci_low": low,
            "ci_high": high,
            "p_value": squares["p_value"],
            "mean_predictor": _root(spread),
        },
    ]
    return pd.DataFrame([row | {"labelled": len(own), "gap": ""} for row in rows], columns=columns)


def _root(values: Values) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _root_interval(a: Values, b: Values, inference: Inference) -> tuple[float, float]:
    if np.array_equal(a, b):
        return 0.0, 0.0

    def statistic(first: Values, second: Values, axis: int = -1) -> Any:
        return np.sqrt(np.mean(second**2, axis=axis)) - np.sqrt(np.mean(first**2, axis=axis))

    return paired_interval(statistic, a, b, inference)


def attention_against_error(pairs: pd.DataFrame, predictions: pd.DataFrame, first: Run, second: Run) -> pd.DataFrame:
    """Does sharper attention go with smaller error: Spearman's correlation of global statistics and absolute error.

    Of each model over structures, and of the changes from a to b: where attention became sharper, did the error become
    smaller? A correlation over structures says nothing of a cause: a hard crystal may have a long text.

    Returns:
        One row a metric and ``of`` (``a``, ``b``, ``change``): ``correlation``, ``p_value``, ``p_adjusted`` over the
        table, ``structures``, ``gap``.
    """
    errors = predictions.set_index("id")
    by_metric = {str(name): own.set_index("id") for name, own in pairs.groupby("metric", sort=False)}
    rows: list[dict[str, object]] = []
    for metric in metrics_of(first, second):
        if metric.phenomenon != GLOBAL or metric.name not in by_metric:
            continue
        own = by_metric[metric.name]
        error_a, error_b = (errors[name].reindex(own.index) for name in ("error_a", "error_b"))
        series = (("a", own["a"], error_a), ("b", own["b"], error_b), ("change", own["difference"], error_b - error_a))
        rows += [{"metric": metric.name, "of": of} | _spearman(x, y) for of, x, y in series]
    columns = ["metric", "of", "correlation", "p_value", "p_adjusted", "structures", "gap"]
    table = pd.DataFrame(rows, columns=columns)
    table["p_adjusted"] = benjamini_hochberg(table["p_value"].to_numpy(dtype=np.float64))
    return table


def _spearman(x: pd.Series[float], y: pd.Series[float]) -> dict[str, object]:
    known = (x.notna() & y.notna()).to_numpy()
    a, b = x.to_numpy(dtype=np.float64)[known], y.to_numpy(dtype=np.float64)[known]
    gap = ""
    if len(a) < FEWEST_FOR_CORRELATION:
        gap = f"{len(a)} structures with a target and a figure, at least {FEWEST_FOR_CORRELATION} are needed"
    elif np.ptp(a) == 0 or np.ptp(b) == 0:
        gap = "one of the two is the same for all structures"
    if gap:
        return {"correlation": np.nan, "p_value": np.nan, "structures": len(a), "gap": gap}
    found = stats.spearmanr(a, b)
    return {"correlation": float(found.statistic), "p_value": float(found.pvalue), "structures": len(a), "gap": ""}
