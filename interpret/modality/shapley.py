"""Exact Shapley values from the value of every coalition: two modalities, or a few parts of a text.

Shapley, Contributions to the Theory of Games II (1953). With "absent" meaning that a player is replaced by a stated
baseline, this is the baseline Shapley value of Sundararajan and Najmi, ICML 2020; averaged over drawn baselines, the
interventional one of Lundberg and Lee, NeurIPS 2017.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from model.errors import InterpretError

Floats = npt.NDArray[np.float64]
# 2^12 coalitions of as many forward passes: beyond that nobody waits for the exact value.
MOST_PLAYERS = 12


class TwoPlayer(NamedTuple):
    """What graph and text contribute to a prediction, in its unit; arrays of one shape.

    Attributes:
        graph, text: Shapley values; they sum to ``whole``.
        interaction: ``f(g,t) - f(g,-) - f(-,t) + f(-,-)``: what only both together give. Half of it is in either value.
        whole: ``f(g,t) - f(-,-)``.
        text_given_graph: ``f(g,t) - f(g,-)``. text_alone: ``f(-,t) - f(-,-)``.
    """

    graph: Floats
    text: Floats
    interaction: Floats
    whole: Floats
    text_given_graph: Floats
    text_alone: Floats

    def mean(self, axis: int) -> TwoPlayer:
        """Over drawn baselines; every identity above is linear and holds for the mean."""
        return TwoPlayer(*(np.asarray(values.mean(axis=axis)) for values in self))

    def at(self, index: int) -> TwoPlayer:
        """Of one structure, from vectors."""
        return TwoPlayer(*(np.asarray(values[index]) for values in self))


def two_player(
    both: npt.ArrayLike, graph_only: npt.ArrayLike, text_only: npt.ArrayLike, neither: npt.ArrayLike
) -> TwoPlayer:
    """Shapley values of graph and text from ``f(g,t)``, ``f(g,-)``, ``f(-,t)`` and ``f(-,-)``.

    Args:
        both, graph_only, text_only, neither: predictions, of shapes that broadcast.

    Example:
        >>> two_player(7.0, 3.0, 2.0, 1.0).text
        array(2.5)
    """
    gt, g, t, none = np.broadcast_arrays(
        *(np.asarray(v, dtype=np.float64) for v in (both, graph_only, text_only, neither))
    )
    given, alone = gt - g, t - none
    return TwoPlayer(
        graph=((gt - t) + (g - none)) / 2,
        text=(given + alone) / 2,
        interaction=given - alone,
        whole=gt - none,
        text_given_graph=given,
        text_alone=alone,
    )


def text_share(graph: npt.ArrayLike, text: npt.ArrayLike) -> Floats:
    """``|text| / (|graph| + |text|)``: 0 where only the graph counts, 1 where only the text; NaN where neither does."""
    first, second = np.abs(np.asarray(graph, dtype=np.float64)), np.abs(np.asarray(text, dtype=np.float64))
    total = first + second
    return np.where(total > 0, second / np.where(total > 0, total, 1.0), np.nan)


def exact_shapley(values: npt.ArrayLike) -> Floats:
    """Shapley value of each player from the value of every coalition.

    ``phi_i = sum over S without i of |S|! (n - |S| - 1)! / n! (v(S + i) - v(S))``.

    Args:
        values: [..., 2^n]; coalition number ``c`` holds player ``i`` where bit ``i`` of ``c`` is set.

    Returns:
        [..., n] float64; they sum to ``values[..., -1] - values[..., 0]``.

    Raises:
        InterpretError: the last axis is not 2^n for some n from 1 to 12.

    Example:
        >>> exact_shapley([0.0, 1.0, 2.0, 5.0])
        array([2., 3.])
    """
    table = np.asarray(values, dtype=np.float64)
    count = table.shape[-1] if table.ndim else 0
    players = count.bit_length() - 1
    if count != 1 << max(players, 0) or not 1 <= players <= MOST_PLAYERS:
        raise InterpretError(
            f"expected the values of all 2^n coalitions of 1 to {MOST_PLAYERS} players, got {count} values"
        )
    coalitions = np.arange(count)
    sizes = np.array([int(c).bit_count() for c in coalitions])
    weights = np.array([math.factorial(s) * math.factorial(players - s - 1) for s in range(players)], dtype=np.float64)
    weights /= math.factorial(players)
    result = np.empty((*table.shape[:-1], players))
    for player in range(players):
        without = coalitions[(coalitions >> player) & 1 == 0]
        gain = table[..., without | (1 << player)] - table[..., without]
        result[..., player] = gain @ weights[sizes[without]]
    return result
