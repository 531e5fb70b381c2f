"""Intervals and tests against enumeration, coverage by simulation, and published examples."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from interpret.metrics import MetricError
from interpret.metrics.statistics import (
    benjamini_hochberg,
    compare_paired,
    mean_with_interval,
    paired_effect_size,
    paired_permutation,
)


def test_percentile_interval_is_that_of_all_bootstrap_samples():
    values = np.array([0.0, 1.0, 5.0, 7.0])
    every = [np.mean(sample) for sample in itertools.product(values, repeat=4)]
    result = mean_with_interval(values, method="percentile", resamples=60000, seed=3)
    low, high = np.quantile(every, [0.025, 0.975])
    assert result.mean == values.mean()
    assert result.low == pytest.approx(low, abs=0.26)
    assert result.high == pytest.approx(high, abs=0.26)
    assert (result.count, result.undefined, result.level, result.method) == (4, 0, 0.95, "percentile")


@pytest.mark.parametrize("method", ["BCa", "percentile"])
def test_interval_covers_the_mean_as_often_as_it_says(method):
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        interval = mean_with_interval(rng.normal(3, 2, size=40), method=method, level=0.9, resamples=400, seed=seed)
        covered += interval.low <= 3 <= interval.high
    # 180 expected; the bootstrap is slightly narrow for 40 values, and the count has sd 4.2.
    assert 160 <= covered <= 192


def test_interval_repeats_with_its_seed_and_widens_with_its_level():
    values = np.random.default_rng(1).exponential(size=30)
    one, again = mean_with_interval(values, seed=5), mean_with_interval(values, seed=5)
    assert one == again
    assert one != mean_with_interval(values, seed=6)
    wide = mean_with_interval(values, level=0.99, seed=5)
    assert wide.low < one.low < one.mean < one.high < wide.high


def test_undefined_values_are_left_out_and_counted():
    values = np.array([1.0, np.nan, 2.0, 4.0, np.nan])
    result = mean_with_interval(values)
    clean = mean_with_interval(values[~np.isnan(values)])
    assert (result.mean, result.low, result.high) == (clean.mean, clean.low, clean.high)
    assert (result.count, result.undefined) == (3, 2)


def test_too_few_values_have_no_interval():
    one = mean_with_interval([2.0, math.nan])
    assert one.mean == 2
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert one.reason == "one structure has no interval"
    for nothing in ([], [math.nan]):
        result = mean_with_interval(nothing)
        assert math.isnan(result.mean)
        assert result.reason == "no structure has a defined value"


def test_equal_values_have_an_interval_of_no_width():
    result = mean_with_interval([0.1] * 7)
    assert (result.mean, result.low, result.high, result.reason) == (0.1, 0.1, 0.1, None)


def test_interval_options_are_checked():
    with pytest.raises(MetricError, match="'level'"):
        mean_with_interval([1.0, 2.0], level=95)
    with pytest.raises(MetricError, match="'BCa' or 'percentile'"):
        mean_with_interval([1.0, 2.0], method="bca")
    with pytest.raises(MetricError, match="one resample"):
        mean_with_interval([1.0, 2.0], resamples=0)
    with pytest.raises(MetricError, match="a vector"):
        mean_with_interval([[1.0, 2.0]])
    with pytest.raises(MetricError, match="infinity"):
        mean_with_interval([1.0, math.inf])


def enumerated_p(difference):
    observed = abs(np.mean(difference))
    signs = itertools.product([-1, 1], repeat=len(difference))
    return np.mean([abs(np.mean(s * difference)) >= observed - 1e-12 for s in map(np.array, signs)])


@given(st.lists(st.integers(-8, 8), min_size=2, max_size=8))
@settings(max_examples=60, deadline=None)
def test_exact_p_value_is_the_count_over_all_signs(difference):
    difference = np.array(difference, dtype=float)
    # Whole numbers: the differences are exact, and so are ties between sign patterns.
    base = np.arange(1, len(difference) + 1, dtype=float)
    result = paired_permutation(base + difference, base)
    assert result.p_value == pytest.approx(enumerated_p((base + difference) - base), abs=1e-12)
    assert result.exact
    assert result.pairs == len(difference)


def test_random_signs_agree_with_the_t_test_for_many_pairs():
    rng = np.random.default_rng(2)
    a = rng.normal(size=60)
    b = a + rng.normal(0.25, 1, size=60)
    result = paired_permutation(a, b, resamples=20000, seed=1)
    assert not result.exact
    assert result.p_value == pytest.approx(stats.ttest_rel(a, b).pvalue, abs=0.015)
    assert result == paired_permutation(a, b, resamples=20000, seed=1)


def test_p_values_of_pairs_without_difference_are_uniform():
    rng = np.random.default_rng(3)
    values = [paired_permutation(*rng.normal(size=(2, 20)), resamples=400, seed=s).p_value for s in range(150)]
    assert stats.kstest(values, "uniform").pvalue > 1e-3


def test_identical_and_too_few_pairs():
    same = paired_permutation([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert (same.p_value, same.exact) == (1.0, True)
    few = paired_permutation([1.0, math.nan, 3.0], [1.5, 2.0, math.nan])
    assert math.isnan(few.p_value)
    assert few.reason == "fewer than two pairs"
    with pytest.raises(MetricError, match="got 2 and 3"):
        paired_permutation([1.0, 2.0], [1.0, 2.0, 3.0])


def test_benjamini_hochberg_on_the_published_example():
    # Benjamini & Hochberg 1995, section 3.2: four of fifteen hypotheses are rejected at 0.05.
    p = [
        *(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344),
        *(0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000),
    ]
    adjusted = benjamini_hochberg(p)
    assert (adjusted <= 0.05).sum() == 4
    m = len(p)
    by_hand = [min(1, min(p[k] * m / (k + 1) for k in range(i, m))) for i in range(m)]
    np.testing.assert_allclose(adjusted, by_hand, atol=1e-15)


def test_undefined_tests_do_not_count_in_the_correction():
    with_nan = benjamini_hochberg([0.01, math.nan, 0.04, 0.03, math.nan])
    np.testing.assert_allclose(with_nan[[0, 2, 3]], benjamini_hochberg([0.01, 0.04, 0.03]), atol=0)
    assert np.isnan(with_nan[[1, 4]]).all()
    assert np.isnan(benjamini_hochberg([math.nan])).all()
    assert benjamini_hochberg([]).shape == (0,)
    with pytest.raises(MetricError, match="between 0 and 1"):
        benjamini_hochberg([0.5, 1.5])


def test_effect_size_is_the_t_statistic_per_root_of_pairs():
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(2, 25))
    expected = stats.ttest_rel(b, a).statistic / 5
    assert paired_effect_size(a, b).value == pytest.approx(expected, abs=1e-13)
    assert paired_effect_size(b, a).value == pytest.approx(-expected, abs=1e-13)
    with_nan = paired_effect_size(np.append(a, np.nan), np.append(b, 0.0))
    assert (with_nan.value, with_nan.pairs) == (pytest.approx(expected, abs=1e-13), 25)


def test_effect_size_without_spread():
    same = paired_effect_size([1.0, 2.0], [1.0, 2.0])
    assert same.value == 0
    assert "identical" in same.reason
    shifted = paired_effect_size([1.0, 2.0], [1.5, 2.5])
    assert math.isnan(shifted.value)
    assert "same difference" in shifted.reason
    assert math.isnan(paired_effect_size([1.0], [2.0]).value)


def test_a_model_against_itself_differs_by_exactly_nothing():
    a = np.random.default_rng(5).random(50)
    a[3] = np.nan
    result = compare_paired(a, a.copy())
    assert result.identical
    assert (result.difference.mean, result.difference.low, result.difference.high) == (0, 0, 0)
    assert (result.percent_change, result.p_value, result.effect_size) == (0, 1, 0)
    assert (result.structures, result.difference.undefined) == (49, 1)
    assert result.mean_a == result.mean_b
    assert "identical" in result.reason


def test_a_known_change_is_found():
    rng = np.random.default_rng(6)
    a = rng.random(80) + 1
    b = 1.1 * a + rng.normal(0, 0.01, size=80)
    result = compare_paired(a, b)
    assert result.percent_change == pytest.approx(100 * (b.mean() - a.mean()) / a.mean(), abs=1e-12)
    assert result.difference.low <= 0.1 * a.mean() <= result.difference.high
    assert result.p_value < 0.001
    assert result.effect_size > 2
    assert (result.identical, result.reason) == (False, None)


def test_pairs_with_an_undefined_side_belong_to_neither_mean():
    result = compare_paired([1.0, math.nan, 3.0, 5.0], [2.0, 9.0, math.nan, 8.0])
    assert (result.mean_a, result.mean_b, result.difference.mean) == (3, 5, 2)
    assert (result.structures, result.difference.undefined) == (2, 2)
    assert not compare_paired([1.0, 2.0, 3.0], [1.0, 2.0, math.nan]).identical


def test_comparison_that_cannot_be_made_says_why():
    zero = compare_paired([-1.0, 0.0, 1.0], [0.0, 0.5, 2.5])
    assert math.isnan(zero.percent_change)
    assert "mean of the first model is 0" in zero.reason
    none = compare_paired([math.nan], [1.0])
    assert math.isnan(none.mean_a)
    assert math.isnan(none.p_value)
    assert not none.identical
    assert none.reason == "no structure has a defined value"
    empty = compare_paired([], [])
    assert (empty.structures, empty.identical) == (0, False)


def test_many_structures_are_resampled_in_bounded_memory():
    values = np.random.default_rng(7).normal(size=20000)
    result = mean_with_interval(values, method="percentile", resamples=500)
    error = values.std() / math.sqrt(values.size)
    assert result.high - result.low == pytest.approx(2 * 1.96 * error, rel=0.15)
