"""The parts of colour refinement, on numbers made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interpret.refinement import Arrivals, cluster_values, colours_of, numbered_by_first


def arrivals(groups: list[list[tuple[int, int]]], *, strict: bool) -> list[int]:
    """Which groups receive alike: a colour for each list of (source, link), numbered by first occurrence."""
    owner = np.array([i for i, items in enumerate(groups) for _ in items], dtype=np.int64)
    sources, links = np.array([item for items in groups for item in items], dtype=np.int64).reshape(-1, 2).T
    shuffle = np.random.default_rng(0).permutation(len(owner))
    collected = Arrivals(owner[shuffle], len(groups), strict)
    colours = collected.colours(sources[shuffle], links[shuffle])
    return numbered_by_first(colours_of(*colours)).tolist()


@pytest.mark.parametrize(
    ("groups", "mean", "multiset"),
    [
        ([[(5, 1), (6, 2)], [(6, 2), (5, 1)]], [0, 0], [0, 0]),
        ([[(5, 1), (6, 2)], [(5, 2), (6, 1)]], [0, 1], [0, 1]),
        ([[(5, 1), (6, 2)], [(5, 1), (6, 2), (5, 1), (6, 2)]], [0, 0], [0, 1]),
        ([[(5, 1), (6, 2)], [(5, 1), (5, 1), (6, 2)]], [0, 1], [0, 1]),
        ([[(5, 1), (5, 2)], [(5, 3)], [(6, 3)]], [0, 0, 1], [0, 1, 2]),
        ([[], [(5, 1)], []], [0, 1, 0], [0, 1, 0]),
    ],
    ids=["order", "links", "common factor", "proportion", "one source", "nothing"],
)
def test_gated_mean_and_multiset(groups, mean, multiset):
    assert arrivals(groups, strict=False) == mean
    assert arrivals(groups, strict=True) == multiset


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=6), min_size=1))
def test_arrivals_against_sorted_lists(groups):
    expected = [tuple(sorted(items)) for items in groups]
    first = [sorted(set(expected), key=expected.index).index(items) for items in expected]
    assert arrivals(groups, strict=True) == first


def test_numbers_follow_first_occurrence():
    assert numbered_by_first(np.array([7, 3, 7, 9, 3])).tolist() == [0, 1, 0, 2, 1]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=40), st.integers(0, 1000))
def test_values_apart_are_told_apart_and_noise_is_not(places, seed):
    """Whole numbers with noise of a hundredth of the tolerance: one group a number, in order."""
    noise = np.random.default_rng(seed).uniform(-1e-6, 1e-6, len(places))
    labels = cluster_values(np.array(places) + noise, 1e-4)
    assert labels.tolist() == np.unique(places, return_inverse=True)[1].tolist()


def test_groups_next_to_a_rounding_boundary_hold_together():
    """0.5 +- noise is split by rounding to a grid, whatever the grid."""
    values = 1e-4 * (np.arange(100) + 0.5)[:, None] * 7 + np.array([-1e-6, 0, 1e-6])
    labels = cluster_values(values.ravel(), 1e-4)
    assert labels.tolist() == np.repeat(np.arange(100), 3).tolist()


def test_dense_values_are_not_chained_into_one():
    """10,000 values at steps below the tolerance span a thousand tolerances; equal ones stay together."""
    steps = np.random.default_rng(0).uniform(1e-6, 2e-5, 10_000)
    values = np.repeat(np.cumsum(steps), 2) + np.tile([0, 1e-9], 10_000)
    assert np.diff(np.sort(values)).max() < 1e-4
    labels = cluster_values(values, 1e-4)
    for label in np.unique(labels):
        assert np.ptp(values[labels == label]) <= 3.0001e-4
    assert labels.max() > 3000
    split = labels[0::2] != labels[1::2]
    assert split.mean() < 0.01
