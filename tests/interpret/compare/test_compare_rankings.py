"""Rankings: against sums written out, counts of pairs, and every permutation."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interpret.compare.rankings import (
    PERSISTENCE,
    WordScores,
    chance,
    compare_rankings,
    rank_biased_overlap,
    ranking_rows,
    summarise_rankings,
)


def endless_overlap(first: list[int], second: list[int], depth: int = 2000) -> float:
    """The definition, an infinite sum over depths, with the agreement of the last rank kept on for ever."""
    total, agreement = 0.0, 0.0
    for d in range(1, depth + 1):
        if d <= len(first):
            agreement = len(set(first[:d]) & set(second[:d])) / d
        total += (1 - PERSISTENCE) * PERSISTENCE ** (d - 1) * agreement
    return total


@given(st.permutations(list(range(8))))
def test_rank_biased_overlap_is_the_sum_it_stands_for(second: list[int]) -> None:
    first = list(range(8))
    found = rank_biased_overlap(first, second)
    assert found == pytest.approx(endless_overlap(first, second), abs=1e-12)
    assert found == pytest.approx(rank_biased_overlap(second, first), abs=1e-12)


def test_disjoint_rankings_share_nothing() -> None:
    assert rank_biased_overlap([0, 1, 2], [3, 4, 5]) == 0
    assert rank_biased_overlap([0, 1, 2], [0, 1, 2]) == 1


def test_the_top_weighs_most() -> None:
    items = list(range(10))
    top, bottom = [1, 0, *items[2:]], [*items[:8], 9, 8]
    assert rank_biased_overlap(items, top) < rank_biased_overlap(items, bottom)


@given(st.lists(st.integers(0, 4), min_size=3, max_size=9), st.randoms(use_true_random=False))
def test_tau_counts_pairs(scores: list[int], random: object) -> None:
    other = list(scores)
    random.shuffle(other)  # type: ignore[attr-defined]
    found = compare_rankings(np.array(scores, dtype=float), np.array(other, dtype=float))["kendall_tau"]
    pairs = list(itertools.combinations(range(len(scores)), 2))
    signs = [(np.sign(scores[i] - scores[j]), np.sign(other[i] - other[j])) for i, j in pairs]
    first, second = sum(a != 0 for a, _ in signs), sum(b != 0 for _, b in signs)
    if first == 0:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(sum(a * b for a, b in signs) / np.sqrt(first * second), abs=1e-12)


def test_overlap_of_the_top() -> None:
    found = compare_rankings(np.array([6.0, 5, 4, 3, 2, 1]), np.array([6.0, 4, 3, 5, 1, 2]))
    assert found["overlap_3"] == pytest.approx(2 / 3)
    assert found["overlap_5"] == pytest.approx(4 / 5)
    assert np.isnan(found["overlap_10"]), "of six words all are among the first ten"


def test_rounding_does_not_reorder() -> None:
    first = np.array([0.3, 0.3 + 1e-15, 0.4])
    assert compare_rankings(first, np.array([0.3 + 1e-15, 0.3, 0.4]))["rank_biased_overlap"] == 1


def test_chance_is_the_mean_over_all_permutations() -> None:
    items = 5
    scores = np.arange(items, 0, -1.0)
    found = pd.DataFrame([compare_rankings(scores, np.array(p)) for p in itertools.permutations(scores)])
    expected = chance(items)
    for measure in ("overlap_3", "rank_biased_overlap", "kendall_tau"):
        assert found[measure].mean() == pytest.approx(expected[measure], abs=1e-12)
    assert np.isnan(expected["overlap_5"])


def made_scores(weights: np.ndarray) -> WordScores:
    words = (("Ba", "element"), ("O", "element"), ("bonded", "chemistry"), ("cubic", "crystallography"))
    return WordScores(words, weights, np.array([0.4, 0.2, 0.2, 0.2]))


def test_rankings_by_element_and_category() -> None:
    first = made_scores(np.array([[0.5, 0.1, 0.3, 0.1], [0.2, 0.4, 0.3, 0.1]]))
    second = made_scores(np.array([[0.5, 0.1, 0.3, 0.1], [0.2, 0.1, 0.3, 0.4]]))
    rows = pd.DataFrame(ranking_rows(first, second, ("Ba", "O")))
    index = rows.set_index(["scope", "group", "score"])
    assert index.loc[("element", "Ba", "weight"), "kendall_tau"] == 1
    expected = compare_rankings(first.weights[1] / first.uniform, second.weights[1] / first.uniform)
    assert index.loc[("element", "O", "ratio"), "kendall_tau"] == pytest.approx(expected["kendall_tau"])
    # By weight Ba (0.7 of both atoms) leads O (0.5 and 0.2); by ratio to uniform O leads in the first model.
    assert index.loc[("category", "element", "weight"), "kendall_tau"] == 1
    assert index.loc[("category", "element", "ratio"), "kendall_tau"] == -1
    assert set(rows.loc[rows["scope"] == "category", "group"]) == {"element"}, "one word is no ranking"


def test_summary_keeps_the_control_beside_the_mean() -> None:
    first = made_scores(np.array([[0.5, 0.1, 0.3, 0.1]]))
    rows = [{"id": f"s{i}", "tap": "t"} | row for i in range(6) for row in ranking_rows(first, first, ("Ba",))]
    table = summarise_rankings(pd.DataFrame(rows))
    own = table.set_index(["scope", "score", "measure"]).loc[("overall", "ratio", "rank_biased_overlap")]
    assert (own["mean"], own["ci_low"], own["ci_high"], own["structures"]) == (1, 1, 1, 6)
    assert own["chance"] == pytest.approx(chance(4)["rank_biased_overlap"])
    assert summarise_rankings(pd.DataFrame()).empty
