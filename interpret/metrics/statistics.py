"""Uncertainty over structures: intervals, paired tests and corrections.

The arguments are vectors of one value a structure. NaN means undefined for that structure: it is left out
and counted, never taken for a number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from interpret.metrics._arrays import Array, require, shape_of, to_float64

Floats = NDArray[np.float64]
Method = Literal["BCa", "percentile"]

# Values per block of resamples (80 MB), so that memory does not grow with the number of structures.
_RESAMPLE_VALUES = 10_000_000


@dataclass(frozen=True)
class MeanWithInterval:
    """A mean over structures with its bootstrap interval.

    Attributes:
        mean, low, high: NaN where undefined.
        count: structures with a defined value.
        undefined: structures left out because their value is NaN.
        level: coverage of the interval.
        method: "BCa" or "percentile".
        reason: why `low` and `high`, or all three, are NaN; None otherwise.
    """

    mean: float
    low: float
    high: float
    count: int
    undefined: int
    level: float
    method: Method
    reason: str | None


def mean_with_interval(
    values: Array, *, level: float = 0.95, method: Method = "BCa", resamples: int = 9999, seed: int = 0
) -> MeanWithInterval:
    """Mean and bootstrap interval over structures (Efron 1987 for "BCa"), through `scipy.stats.bootstrap`.

    Values that are all equal have the interval [v, v]. The draw follows the order of the values: sort the
    structures (by id) first for a reproducible figure.

    Args:
        values: [n], NaN where undefined.
        level: coverage, between 0 and 1.
        method: "BCa" (bias-corrected and accelerated) or "percentile".
        resamples: number of bootstrap samples.
        seed: of the draw.

    Returns:
        MeanWithInterval; the interval is NaN for fewer than two defined values.

    Raises:
        MetricError: when `values` is not a vector, or an option is out of range.
    """
    require(0 < level < 1, f"Expected 'level' between 0 and 1, got {level}.")
    require(method in ("BCa", "percentile"), f"Expected 'method' to be 'BCa' or 'percentile', got {method!r}.")
    require(resamples >= 1, f"Expected at least one resample, got {resamples}.")
    known, missing = _defined(_vector(values, "values"))
    count = known.size

    def result(mean: float, low: float, high: float, reason: str | None) -> MeanWithInterval:
        return MeanWithInterval(mean, low, high, count, missing, level, method, reason)

    if count == 0:
        return result(math.nan, math.nan, math.nan, "no structure has a defined value")
    mean = math.fsum(known) / count
    if count < 2:
        return result(mean, math.nan, math.nan, "one structure has no interval")
    if np.ptp(known) == 0:
        return result(float(known[0]), float(known[0]), float(known[0]), None)
    interval = stats.bootstrap(
        (known,),
        np.mean,
        n_resamples=resamples,
        batch=_batch(count),
        confidence_level=level,
        method=method,
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    reason = None if math.isfinite(interval.low) else "too few different values for this kind of interval"
    return result(mean, float(interval.low), float(interval.high), reason)


class PermutationTest(NamedTuple):
    """Two-sided p-value, its pairs, whether all sign patterns were counted, and the reason if NaN."""

    p_value: float
    pairs: int
    exact: bool
    reason: str | None


def paired_permutation(a: Array, b: Array, *, resamples: int = 9999, seed: int = 0) -> PermutationTest:
    """Paired sign-flip permutation test of the mean difference, through `scipy.stats.permutation_test`.

    Under the null hypothesis the two values of a structure could be swapped. All 2^n sign patterns are
    counted where there are no more than `resamples`; with n pairs p is never below 2^(1 - n).

    Args:
        a, b: [n], one value a structure in the same order; pairs with a NaN are left out.
        resamples: number of random sign patterns.
        seed: of the draw.

    Returns:
        PermutationTest; p = 1 when all differences are zero, NaN for fewer than two pairs.

    Raises:
        MetricError: when the two are not vectors of one length.
    """
    first, second = _pairs(a, b)
    count = first.size
    if count < 2:
        return PermutationTest(math.nan, count, False, "fewer than two pairs")
    difference = first - second
    if not difference.any():
        return PermutationTest(1.0, count, True, None)

    def mean_difference(left: Floats, right: Floats, axis: int = -1) -> Any:
        return np.mean(left - right, axis=axis)

    test = stats.permutation_test(
        (difference, np.zeros_like(difference)),
        mean_difference,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=_batch(count),
        alternative="two-sided",
        random_state=np.random.default_rng(seed),
    )
    return PermutationTest(float(test.pvalue), count, 2**count <= resamples, None)


def benjamini_hochberg(p_values: Array) -> Floats:
    """p-values adjusted for the false discovery rate (Benjamini & Hochberg 1995), through scipy.

    Args:
        p_values: [m], NaN where a test was undefined: it stays NaN and does not count as a test.

    Returns:
        float64 [m].

    Raises:
        MetricError: when `p_values` is not a vector or holds a value outside [0, 1].

    Example:
        >>> benjamini_hochberg([0.01, 0.04, float("nan")]).tolist()
        [0.02, 0.04, nan]
    """
    values = _vector(p_values, "p_values")
    known = ~np.isnan(values)
    require(
        bool(np.all((values[known] >= 0) & (values[known] <= 1))),
        "Expected p-values between 0 and 1 (or NaN).",
    )
    adjusted = np.full(values.shape, np.nan)
    if known.any():
        adjusted[known] = stats.false_discovery_control(values[known], method="bh")
    return adjusted


class EffectSize(NamedTuple):
    """Standardised paired difference, its pairs, and a reason where it is not an ordinary quotient."""

    value: float
    pairs: int
    reason: str | None


def paired_effect_size(a: Array, b: Array) -> EffectSize:
    """Cohen's d_z, ``mean(b - a) / sd(b - a)`` with the sample standard deviation (Lakens 2013).

    Args:
        a, b: [n], one value a structure in the same order; pairs with a NaN are left out.

    Returns:
        EffectSize. Exactly 0, saying so, when all differences are zero; NaN for fewer than two pairs and
        for equal differences other than zero, which have no spread to measure them by.

    Raises:
        MetricError: when the two are not vectors of one length.
    """
    first, second = _pairs(a, b)
    difference = second - first
    if difference.size < 2:
        return EffectSize(math.nan, difference.size, "fewer than two pairs")
    if not difference.any():
        return EffectSize(0.0, difference.size, "identical: every difference is zero")
    spread = float(np.std(difference, ddof=1))
    if np.ptp(difference) == 0 or spread == 0:
        return EffectSize(math.nan, difference.size, "every structure has the same difference")
    return EffectSize(float(np.mean(difference)) / spread, difference.size, None)


@dataclass(frozen=True)
class PairedComparison:
    """One metric of two models on the same structures.

    Attributes:
        mean_a, mean_b: over the structures where both are defined.
        difference: mean of ``b - a`` with its interval; its `undefined` counts the structures left out.
        percent_change: ``100 difference / |mean_a|``, NaN where mean_a is 0.
        p_value: of the paired sign-flip test.
        effect_size: Cohen's d_z.
        structures: pairs in all of these.
        identical: whether both are exactly equal, and undefined for the same structures.
        reason: why something is NaN, or that the two are identical; None otherwise.
    """

    mean_a: float
    mean_b: float
    difference: MeanWithInterval
    percent_change: float
    p_value: float
    effect_size: float
    structures: int
    identical: bool
    reason: str | None


def compare_paired(
    a: Array,
    b: Array,
    *,
    level: float = 0.95,
    method: Method = "BCa",
    resamples: int = 9999,
    seed: int = 0,
) -> PairedComparison:
    """Means, difference with interval, percent change, p-value and effect size of two paired sets of values.

    Args:
        a, b: [n], one value a structure in the same order; pairs with a NaN are left out and counted.
        level, method, resamples, seed: as in `mean_with_interval` and `paired_permutation`.

    Raises:
        MetricError: when the two are not vectors of one length, or an option is out of range.
    """
    first, second = _pairs(a, b)
    all_a, all_b = _vector(a, "a"), _vector(b, "b")
    difference = mean_with_interval(all_b - all_a, level=level, method=method, resamples=resamples, seed=seed)
    test = paired_permutation(first, second, resamples=resamples, seed=seed)
    effect = paired_effect_size(first, second)
    count = first.size
    mean_a = math.fsum(first) / count if count else math.nan
    mean_b = math.fsum(second) / count if count else math.nan
    percent = 100 * difference.mean / abs(mean_a) if mean_a else math.nan
    reason = difference.reason or test.reason or effect.reason
    if reason is None and mean_a == 0:
        reason = "the mean of the first model is 0, so there is no percent change"
    identical = count > 0 and bool(np.array_equal(all_a, all_b, equal_nan=True))
    return PairedComparison(mean_a, mean_b, difference, percent, test.p_value, effect.value, count, identical, reason)


def _vector(values: Array, name: str) -> Floats:
    tensor = to_float64(values, name)
    require(tensor.ndim == 1, f"Expected {name!r} to be a vector, one value a structure, got {shape_of(tensor)}.")
    array: Floats = tensor.cpu().numpy()
    require(not bool(np.isinf(array).any()), f"Expected {name!r} to be finite or NaN, got infinity.")
    return array


def _defined(values: Floats) -> tuple[Floats, int]:
    known = ~np.isnan(values)
    return values[known], int((~known).sum())


def _pairs(a: Array, b: Array) -> tuple[Floats, Floats]:
    first, second = _vector(a, "a"), _vector(b, "b")
    require(
        first.shape == second.shape,
        f"Expected paired values of the same structures, got {first.size} and {second.size}.",
    )
    known = ~(np.isnan(first) | np.isnan(second))
    return first[known], second[known]


def _batch(count: int) -> int:
    return max(1, _RESAMPLE_VALUES // count)
