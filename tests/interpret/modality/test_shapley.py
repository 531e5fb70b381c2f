"""Shapley values against the definition over orders of players, published games and values on paper."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interpret.modality.shapley import exact_shapley, text_share, two_player
from model.errors import InterpretError

numbers = st.floats(-10, 10, allow_nan=False)


def over_orders(values: np.ndarray, players: int) -> np.ndarray:
    """The definition: a player's mean marginal contribution over all orders in which players may join."""
    total = np.zeros(players)
    orders = list(permutations(range(players)))
    for order in orders:
        present = 0
        for player in order:
            total[player] += values[present | 1 << player] - values[present]
            present |= 1 << player
    return total / len(orders)


@pytest.mark.parametrize("players", [1, 2, 3, 4, 5, 6])
def test_equals_the_mean_over_orders(players: int) -> None:
    values = np.random.default_rng(players).normal(size=2**players)
    np.testing.assert_allclose(exact_shapley(values), over_orders(values, players), atol=1e-12)


def test_glove_game() -> None:
    """One owner of a left glove, two of a right one; a pair is worth 1: Shapley gives 2/3, 1/6, 1/6."""
    values = [float(bool(c & 1) and bool(c & 6)) for c in range(8)]
    np.testing.assert_allclose(exact_shapley(values), [2 / 3, 1 / 6, 1 / 6], atol=1e-12)


def test_majority_game_with_weights() -> None:
    """Votes 4, 3, 2, 1 with a quota of 6: Shapley and Shubik's index is 5/12, 3/12, 3/12, 1/12."""
    votes = (4, 3, 2, 1)
    values = [float(sum(v for i, v in enumerate(votes) if c >> i & 1) >= 6) for c in range(16)]
    np.testing.assert_allclose(exact_shapley(values), np.array([5, 3, 3, 1]) / 12, atol=1e-12)


@given(st.lists(numbers, min_size=5, max_size=5), numbers)
def test_linear_model_gives_its_coefficients(weights: list[float], constant: float) -> None:
    values = [constant + sum(w for i, w in enumerate(weights) if c >> i & 1) for c in range(32)]
    np.testing.assert_allclose(exact_shapley(values), weights, atol=1e-9)


@given(st.lists(numbers, min_size=8, max_size=8))
def test_values_sum_to_the_whole(values: list[float]) -> None:
    assert exact_shapley(values).sum() == pytest.approx(values[-1] - values[0], abs=1e-9)


def test_games_in_leading_axes_are_separate() -> None:
    values = np.random.default_rng(0).normal(size=(3, 2, 8))
    together = exact_shapley(values)
    assert together.shape == (3, 2, 3)
    np.testing.assert_allclose(together[1, 0], exact_shapley(values[1, 0]), atol=1e-15)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0, 3.0], np.zeros(2**13), 3.0])
def test_refuses_what_is_not_all_coalitions(values: Any) -> None:
    with pytest.raises(InterpretError, match="coalitions of 1 to 12 players"):
        exact_shapley(values)


@settings(max_examples=50)
@given(*[numbers] * 8)
def test_polynomial_of_two(a: float, b: float, c: float, g: float, t: float, g0: float, t0: float, k: float) -> None:
    """f = k + a g + b t + c g t: the text's value is (t - t0) (b + c (g + g0) / 2), the interaction c (g-g0)(t-t0)."""

    def f(x: float, y: float) -> float:
        return k + a * x + b * y + c * x * y

    shares = two_player(f(g, t), f(g, t0), f(g0, t), f(g0, t0))
    scale = 1 + max(map(abs, (a, b, c, k))) * 200
    assert shares.text == pytest.approx((t - t0) * (b + c * (g + g0) / 2), abs=1e-9 * scale)
    assert shares.graph == pytest.approx((g - g0) * (a + c * (t + t0) / 2), abs=1e-9 * scale)
    assert shares.interaction == pytest.approx(c * (g - g0) * (t - t0), abs=1e-9 * scale)
    assert shares.graph + shares.text == pytest.approx(f(g, t) - f(g0, t0), abs=1e-9 * scale)


def test_two_players_are_the_general_case_and_means_keep_the_sum() -> None:
    table = np.random.default_rng(1).normal(size=(5, 4))
    shares = two_player(table[:, 3], table[:, 1], table[:, 2], table[:, 0])
    np.testing.assert_allclose(np.stack([shares.graph, shares.text], axis=1), exact_shapley(table), atol=1e-12)
    mean = shares.mean(axis=0)
    assert mean.graph + mean.text == pytest.approx(float(mean.whole), abs=1e-12)
    assert mean.interaction == pytest.approx(float(mean.text_given_graph - mean.text_alone), abs=1e-12)


def test_share_is_undefined_where_nothing_counts() -> None:
    np.testing.assert_array_equal(text_share([3.0, 0.0, 0.0, -1.0], [1.0, 2.0, 0.0, -3.0]), [0.25, 1.0, np.nan, 0.75])
