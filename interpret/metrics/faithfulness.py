"""Whether an explanation names what the prediction depends on: figures from values under removal.

DeYoung et al., ACL 2020 (ERASER); Samek et al., IEEE TNNLS 2017 (area over the perturbation curve); Jain and Wallace,
NAACL 2019. For regression a change counts by its size, in the unit of the prediction: ERASER's signed difference takes
a prediction that rises for one that stayed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from interpret.metrics._arrays import Array, require, to_float64

Floats = NDArray[np.float64]

# Shares of the players that ERASER takes out.
SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)
# Values this close, as a share of the largest, are a tie: the same sum in another order differs by more than rounding.
TIE = 1e-9


def tie_levels(values: Floats) -> Floats:
    """Sizes of values in steps of a tie, [P]: atoms that symmetry makes the same differ by rounding, which is no order.

    Example:
        >>> tie_levels(np.array([-0.5, 1.0, 1.0 + 1e-15])).tolist()
        [500000000.0, 1000000000.0, 1000000000.0]
    """
    sizes = np.abs(values)
    largest = sizes.max(initial=0.0)
    return np.round(sizes / largest / TIE) if largest > 0 else np.zeros_like(sizes)


def removal_counts(players: int, shares: Sequence[float] = SHARES) -> NDArray[np.int64]:
    """Players that each share is: rounded up, at least one, at most all.

    Raises:
        MetricError: there is no player, or a share is not within (0, 1].

    Example:
        >>> removal_counts(60).tolist()
        [1, 3, 6, 12, 30]
    """
    require(players >= 1, f"Expected at least one player, got {players}.")
    require(all(0 < share <= 1 for share in shares), f"Expected shares within (0, 1], got {list(shares)}.")
    return np.array([min(players, max(1, math.ceil(share * players - 1e-9))) for share in shares], dtype=np.int64)


def comprehensiveness(full: Array, without: Array) -> Floats:
    """``|m(x) - m(x without r)|``: what is lost without the most important players; large for a faithful explanation.

    Args:
        full: [...] or a number, the prediction with everyone.
        without: [..., S], the prediction without the first players of each of S shares.

    Example:
        >>> comprehensiveness(10.0, [6.0, 3.0, 1.0]).tolist()
        [4.0, 7.0, 9.0]
    """
    return _change(full, without)


def sufficiency(full: Array, only: Array) -> Floats:
    """``|m(x) - m(r)|``: what is lost with nothing but the most important players; small for a faithful explanation.

    Args:
        full: [...] or a number. only: [..., S], the prediction with the first players of each of S shares alone.
    """
    return _change(full, only)


def _change(full: Array, other: Array) -> Floats:
    whole, part = to_float64(full, "full").numpy(), to_float64(other, "other").numpy()
    require(
        part.ndim == whole.ndim + 1 and part.shape[:-1] == whole.shape,
        f"Expected one value a share for each prediction, got {whole.shape} and {part.shape}.",
    )
    difference: Floats = np.abs(whole[..., None] - part)
    return difference


def aopc(changes: Array) -> Floats:
    """Mean over shares [..., S] of comprehensiveness or sufficiency: the area over the perturbation curve."""
    mean: Floats = to_float64(changes, "changes").numpy().mean(axis=-1)
    return mean


def curve_area(shares: Sequence[float], changes: Array) -> float:
    """Area under a deletion or insertion curve, trapezoids between the shares; in the unit of the changes.

    Args:
        shares: [S] ascending, from 0 to 1.
        changes: [S], size of the change of the prediction at each.

    Raises:
        MetricError: the shares do not ascend from 0 to 1, or there is not one change a share.
    """
    x, y = np.asarray(shares, dtype=np.float64), to_float64(changes, "changes").numpy()
    require(x.shape == y.shape, f"Expected one change a share, got {y.shape} for {x.shape}.")
    require(
        len(x) > 1 and x[0] == 0 and x[-1] == 1 and bool((np.diff(x) > 0).all()),
        f"Expected shares that ascend from 0 to 1, got {x.tolist()}.",
    )
    return float(((y[1:] + y[:-1]) / 2 * np.diff(x)).sum())


class RankAgreement(NamedTuple):
    """Kendall's tau, and the reason where it is NaN."""

    tau: float
    reason: str | None


def rank_agreement(a: Array, b: Array) -> RankAgreement:
    """Kendall's tau-b between the sizes of two explanations of the same players, [P] each; rounding makes no order.

    Raises:
        MetricError: the two are not vectors of one length.
    """
    first, second = (tie_levels(to_float64(values, name).numpy()) for values, name in ((a, "a"), (b, "b")))
    require(
        first.ndim == 1 and first.shape == second.shape,
        f"Expected two explanations of the same players, got {first.shape} and {second.shape}.",
    )
    if len(first) < 2:
        return RankAgreement(math.nan, "fewer than two players")
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return RankAgreement(math.nan, "an explanation is the same for every player")
    return RankAgreement(float(stats.kendalltau(first, second).statistic), None)


def characterization_score(comprehensiveness: Array, sufficiency: Array, *, weight: float = 0.5) -> NDArray[np.float64]:
    """Weighted harmonic mean of comprehensiveness and one minus sufficiency (Amara et al., arXiv 2206.09677).

    Args:
        comprehensiveness, sufficiency: [...] as shares of the whole change of the prediction, within [0, 1].
        weight: of comprehensiveness.

    Returns:
        float64 [...] in [0, 1]; NaN where a share is outside of [0, 1], which players that cancel bring about.

    Raises:
        MetricError: the two do not have one shape, or the weight is not within (0, 1).
    """
    require(0 < weight < 1, f"Expected 'weight' within (0, 1), got {weight}.")
    positive = to_float64(comprehensiveness, "comprehensiveness").numpy()
    rest = 1 - to_float64(sufficiency, "sufficiency").numpy()
    require(positive.shape == rest.shape, f"Expected one shape, got {positive.shape} and {rest.shape}.")
    with np.errstate(divide="ignore", invalid="ignore"):
        score = np.where((positive == 0) | (rest == 0), 0.0, 1 / (weight / positive + (1 - weight) / rest))
    inside = (positive >= 0) & (positive <= 1) & (rest >= 0) & (rest <= 1)
    return np.where(inside, score, np.nan)


def fidelity_curve_area(comprehensiveness: Array, sufficiency: Array, x: Array) -> float:
    """Area under ``comprehensiveness / (1 - sufficiency)`` over x, all [S] (Amara et al., arXiv 2206.09677).

    Raises:
        MetricError: the three are not vectors of one length, x does not ascend, or a sufficiency is 1 or more.
    """
    positive, negative, at = (
        to_float64(values, name).numpy()
        for values, name in ((comprehensiveness, "comprehensiveness"), (sufficiency, "sufficiency"), (x, "x"))
    )
    require(
        positive.ndim == 1 and positive.shape == negative.shape == at.shape,
        f"Expected vectors of one length, got {positive.shape}, {negative.shape} and {at.shape}.",
    )
    require(bool((np.diff(at) > 0).all()), f"Expected 'x' to ascend, got {at.tolist()}.")
    require(bool((negative < 1).all()), "Expected every sufficiency below 1: the curve has no value there.")
    y = positive / (1 - negative)
    return float(((y[1:] + y[:-1]) / 2 * np.diff(at)).sum())
