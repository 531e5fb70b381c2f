"""How fast the layers after fusion dilute the text."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import linear_regression
from typing import NamedTuple

from interpret.metrics._arrays import Array, require, shape_of, to_float64


class Dilution(NamedTuple):
    """Layers after fusion until the excess over the control has halved.

    Attributes:
        half_life: first crossing of half the excess at fusion, interpolated between layers.
        fitted: half-life of an exponential fitted to the layers with a positive excess.
        reason, fitted_reason: why the one or the other is NaN.
    """

    half_life: float
    fitted: float
    reason: str | None
    fitted_reason: str | None


def dilution(excess: Array) -> Dilution:
    """How fast later layers dilute the text that fusion put into the nodes.

    Args:
        excess: [1 + K], cosine with the own text minus its control, at the output of the fusion and after
            each of the K layers that follow. NaN layers are skipped.

    Returns:
        Both half-lives in layers. NaN with the reason where fusion leaves no excess, where it never halves,
        and for the fit where the excess does not fall.

    Raises:
        MetricError: when `excess` is not a vector.

    Example:
        >>> dilution([0.4, 0.3, 0.1]).half_life
        1.5
    """
    values = to_float64(excess, "excess").cpu()
    require(values.ndim == 1, f"Expected 'excess' to be [layers], got {shape_of(values)}.")
    curve = [(layer, value) for layer, value in enumerate(values.tolist()) if not math.isnan(value)]
    if not curve or curve[0][0] != 0 or curve[0][1] <= 0:
        reason = "no excess over the control at the output of the fusion"
        return Dilution(math.nan, math.nan, reason, reason)
    half = curve[0][1] / 2
    half_life, reason = math.nan, f"the excess does not fall to half within {values.numel() - 1} layers"
    for (before, high), (after, low) in pairwise(curve):
        if low <= half:
            half_life = before + (high - half) / (high - low) * (after - before)
            break
    fitted = _fitted_half_life([(layer, value) for layer, value in curve if value > 0])
    return Dilution(
        half_life,
        fitted,
        reason if math.isnan(half_life) else None,
        "no exponential decay: fewer than two layers with an excess, or it does not fall"
        if math.isnan(fitted)
        else None,
    )


def _fitted_half_life(curve: list[tuple[int, float]]) -> float:
    if len(curve) < 2:
        return math.nan
    layers = [layer for layer, _ in curve]
    logs = [math.log(value) for _, value in curve]
    slope = linear_regression(layers, logs).slope
    return math.log(2) / -slope if slope < 0 else math.nan
