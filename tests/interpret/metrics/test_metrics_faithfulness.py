"""Faithfulness kernels against published cases and recomputed values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from interpret.metrics import faithfulness
from interpret.metrics._arrays import MetricError

WEIGHTS = np.array([4.0, 3.0, 2.0, 1.0])


def test_eraser_case() -> None:
    """m = 4a + 3b + 2c + 1d at ones, zero baseline, the first one, two and three features taken out or kept."""
    full = WEIGHTS.sum()
    without = np.array([full - WEIGHTS[:k].sum() for k in (1, 2, 3)])
    only = np.array([WEIGHTS[:k].sum() for k in (1, 2, 3)])
    comprehensiveness = faithfulness.comprehensiveness(full, without)
    sufficiency = faithfulness.sufficiency(full, only)
    assert comprehensiveness.tolist() == [4.0, 7.0, 9.0]
    assert sufficiency.tolist() == [6.0, 3.0, 1.0]
    assert float(faithfulness.aopc(comprehensiveness)) == pytest.approx(20 / 3)
    assert float(faithfulness.aopc(sufficiency)) == pytest.approx(10 / 3)


def test_a_rise_counts_like_a_fall() -> None:
    assert faithfulness.comprehensiveness(np.array([1.0, 1.0]), np.array([[3.0], [-1.0]])).tolist() == [[2.0], [2.0]]


def test_pyg_characterization_scores() -> None:
    score = faithfulness.characterization_score([1.0, 0.6, 0.5, 1.0], [0.0, 0.2, 0.5, 1.0], weight=0.2)
    np.testing.assert_allclose(score, [1.0, 0.75, 0.5, 0.0], rtol=1e-12)
    outside = faithfulness.characterization_score([1.2, 0.5], [0.1, -0.3])
    assert np.isnan(outside).all()


@pytest.mark.parametrize(("x", "area"), [((0, 1, 2, 3), 8.5), ((10, 11, 12, 13), 8.5), ((0, 1, 2, 5), 19.5)])
def test_pyg_fidelity_curve_areas(x: tuple[int, ...], area: float) -> None:
    found = faithfulness.fidelity_curve_area([1.0, 1.0, 0.5, 1.0], [0.0, 0.5, 0.5, 0.9], x)
    assert found == pytest.approx(area)


def test_curve_area_is_the_integral_of_the_polygon() -> None:
    shares = (0.0, 0.25, 1.0)
    assert faithfulness.curve_area(shares, [0.0, 2.0, 2.0]) == pytest.approx(0.25 + 1.5)
    grid = np.linspace(0, 1, 100_001)
    values = np.interp(grid, shares, [1.0, -3.0, 2.0])
    assert faithfulness.curve_area(shares, [1.0, -3.0, 2.0]) == pytest.approx(values.mean(), abs=1e-4)
    with pytest.raises(MetricError, match="from 0 to 1"):
        faithfulness.curve_area((0.0, 0.5), [1.0, 2.0])


def test_rounding_makes_no_order() -> None:
    # Two atoms that symmetry makes the same, as ablation gives them: the sums were made in another order.
    equivalent = np.array([-3.5211634893232056, -3.5211634893232047])
    assert faithfulness.rank_agreement(equivalent, [2.0, 1.0]).reason == "an explanation is the same for every player"
    assert faithfulness.tie_levels(np.zeros(3)).tolist() == [0.0, 0.0, 0.0]
    apart = faithfulness.tie_levels(np.array([1.0, 1.0 + 1e-8, -1.0]))
    assert apart[1] > apart[0] == apart[2]


def test_rank_agreement_is_tau_b_of_sizes() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=40), generator.normal(size=40)
    expected = stats.kendalltau(np.abs(a), np.abs(b)).statistic
    assert faithfulness.rank_agreement(a, b).tau == pytest.approx(expected)
    assert faithfulness.rank_agreement(a, -2 * a).tau == pytest.approx(1.0)
    constant = faithfulness.rank_agreement(a, np.ones(40))
    assert math.isnan(constant.tau)
    assert constant.reason == "an explanation is the same for every player"
    assert faithfulness.rank_agreement([1.0], [2.0]).reason == "fewer than two players"


@given(st.integers(1, 300))
def test_removal_counts_are_shares_rounded_up(players: int) -> None:
    counts = faithfulness.removal_counts(players)
    for share, count in zip(faithfulness.SHARES, counts, strict=True):
        assert 1 <= count <= players
        assert count - 1 < share * players + 1e-6 <= count + 1e-5 or count == 1
    assert (np.diff(counts) >= 0).all()


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(MetricError, match="one value a share"):
        faithfulness.comprehensiveness(np.zeros(3), np.zeros((2, 5)))
    with pytest.raises(MetricError, match="within"):
        faithfulness.removal_counts(10, (0.0,))
