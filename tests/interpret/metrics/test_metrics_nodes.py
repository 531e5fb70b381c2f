"""Similarity of atoms against networkx, scipy and the values of the papers."""

from __future__ import annotations

import itertools
import math

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from interpret.metrics import MetricError, Undefined
from interpret.metrics.nodes import (
    dirichlet_energy,
    identical_share,
    mean_average_distance,
    mean_pair_distance,
    pairwise_correlation,
)
from interpret.metrics.spectrum import (
    between_class_variance_share,
    class_means,
    effective_rank,
    feature_variance,
    stage_of_collapse,
)


def features(seed, atoms=6, channels=5):
    return np.random.default_rng(seed).normal(size=(atoms, channels)) + 1


def test_dirichlet_energy_of_the_path():
    x = [[0.0], [1.0], [3.0]]
    both_ways = dirichlet_energy(x, [0, 1, 1, 2], [1, 0, 2, 1])
    assert both_ways.energy.item() == pytest.approx(10 / 3, abs=1e-15)
    assert both_ways.root.item() == pytest.approx(1.8257, abs=5e-5)
    one_way = dirichlet_energy(x, [0, 2], [1, 1])
    assert one_way.energy == both_ways.energy
    assert one_way.pairs == both_ways.pairs == 2


def test_periodic_repeats_count_once_and_own_images_not_at_all():
    x = [[0.0], [1.0], [3.0]]
    source = [0, 0, 0, 1, 1, 1, 2, 2, 2, 2]
    target = [1, 1, 0, 0, 0, 2, 1, 1, 2, 2]
    assert dirichlet_energy(x, source, target).energy.item() == pytest.approx(10 / 3, abs=1e-15)


def test_dirichlet_energy_is_the_laplacian_form():
    graph = nx.gnm_random_graph(9, 14, seed=3)
    x = features(0, 9)
    source, target = np.array(graph.edges).T
    laplacian = nx.laplacian_matrix(graph, nodelist=range(9)).toarray()
    expected = 2 * np.trace(x.T @ laplacian @ x) / 9
    assert dirichlet_energy(x, source, target).energy.item() == pytest.approx(expected, rel=1e-12)


def test_dirichlet_energy_with_classes_and_mask():
    x = [[0.0], [1.0], [3.0]]
    between = dirichlet_energy(x, [0, 1], [1, 2], classes=[0, 0, 1])
    assert between.energy.item() == pytest.approx(2 * 4 / 3, abs=1e-15)
    masked = dirichlet_energy(x, [0, 1], [1, 2], mask=[True, True, False])
    assert masked.energy.item() == pytest.approx(2 * 1 / 2, abs=1e-15)
    both = dirichlet_energy(x, [0, 1, 0], [1, 2, 2], classes=[0, 0, 1], mask=[True, False, True])
    assert both.energy.item() == pytest.approx(2 * 9 / 2, abs=1e-15)


def test_dirichlet_energy_without_neighbours_is_undefined():
    alone = dirichlet_energy([[1.0, 2.0]], [0, 0], [0, 0])
    assert alone.energy.isnan()
    assert alone.reason == "no two distinct neighbours"
    one_class = dirichlet_energy([[1.0], [2.0]], [0], [1], classes=[4, 4])
    assert "different classes" in one_class.reason
    assert dirichlet_energy(np.zeros((0, 3)), [], []).energy.isnan()
    assert dirichlet_energy([[1.0], [math.nan]], [0], [1]).reason == Undefined.NOT_FINITE.sentence
    with pytest.raises(MetricError, match="atoms 0 to 1"):
        dirichlet_energy([[1.0], [2.0]], [0], [2])
    with pytest.raises(MetricError, match="atoms 0 to 1"):
        dirichlet_energy([[1.0], [2.0]], [-1], [1])
    with pytest.raises(MetricError, match=r"bonds \[E\]"):
        dirichlet_energy([[1.0], [2.0]], [0, 1], [1])


def test_mad_plain_and_published():
    result = mean_average_distance([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert result.plain.item() == pytest.approx(2 / 3, abs=1e-15)
    assert result.published.item() == pytest.approx(1, abs=1e-15)
    assert (result.pairs, result.zero_pairs, result.left_out) == (3, 1, 0)


def published_mad(distance, target):
    """Equations 2 to 4 of Chen et al. 2020 on a distance matrix and a target mask."""
    masked = distance * target
    row_means = [row[row > 0].mean() for row in masked if (row > 0).any()]
    return np.mean(row_means)


@pytest.mark.parametrize("classes", [None, np.array([0, 0, 1, 1, 2, 2])])
def test_mad_agrees_with_the_published_equations(classes):
    x = features(1)
    x[3] = 2.5 * x[0]
    distance = np.round(cdist(x, x, "cosine"), 14)
    target = 1 - np.eye(6) if classes is None else (classes[:, None] != classes[None]).astype(float)
    result = mean_average_distance(x, classes=classes)
    upper = np.triu(target, 1).astype(bool)
    assert result.plain.item() == pytest.approx(distance[upper].mean(), abs=1e-13)
    assert result.published.item() == pytest.approx(published_mad(distance, target), abs=1e-13)
    assert result.zero_pairs == 1


def test_mad_of_collapsed_and_of_zero_features():
    equal = mean_average_distance(np.ones((4, 3)))
    assert equal.plain.item() == 0
    assert equal.reason is None
    assert equal.published.isnan()
    assert "distance zero" in equal.published_reason
    with_zero = mean_average_distance([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    assert with_zero.plain.item() == pytest.approx(1, abs=1e-15)
    assert (with_zero.pairs, with_zero.left_out) == (1, 2)
    all_zero = mean_average_distance(np.zeros((3, 2)))
    assert all_zero.plain.isnan()
    assert "all-zero" in all_zero.reason
    assert mean_average_distance([[1.0, math.nan], [1.0, 0.0]]).reason == Undefined.NOT_FINITE.sentence


@pytest.mark.parametrize("classes", [None, [0, 0, 1, 1, 2, 2]])
def test_pair_means_agree_with_loops(classes):
    x = features(2)
    pairs = [(i, k) for i, k in itertools.combinations(range(6), 2) if classes is None or classes[i] != classes[k]]
    correlation = pairwise_correlation(x, classes=classes)
    expected = np.mean([np.corrcoef(x[i], x[k])[0, 1] for i, k in pairs])
    assert correlation.value.item() == pytest.approx(expected, abs=1e-13)
    assert correlation.pairs == len(pairs)
    distance = mean_pair_distance(x, classes=classes)
    expected = np.mean([np.linalg.norm(x[i] - x[k]) for i, k in pairs])
    assert distance.value.item() == pytest.approx(expected, abs=1e-13)
    relative = mean_pair_distance(x, classes=classes, relative=True)
    assert relative.value.item() == pytest.approx(expected / np.linalg.norm(x, axis=1).mean(), abs=1e-13)


def test_identical_share_is_relative_to_the_features():
    x = np.array([[1.0, -100.0], [1.00005, -100.0], [1.2, -100.0]])
    # 5e-5 is within 1e-6 of 100, 0.2 is not.
    assert identical_share(x).value.item() == pytest.approx(1 / 3)
    assert identical_share(1e-9 * x).value.item() == pytest.approx(1 / 3)
    assert identical_share(x, tolerance=1e-7).value.item() == 0
    assert identical_share(x, tolerance=1e-2).value.item() == 1
    assert identical_share(x, classes=[0, 0, 1]).value.item() == 0
    assert identical_share(np.zeros((3, 2))).value.item() == 1
    assert identical_share([[1.0, math.nan], [1.0, 0.0]]).reason == Undefined.NOT_FINITE.sentence


def test_float32_rounding_does_not_hide_identical_atoms():
    row = torch.randn(1, 64, generator=torch.Generator().manual_seed(0)) * 30
    x = row.repeat(3, 1)
    x[1] *= 1 + 1e-7
    assert identical_share(x).value.item() == 1
    assert pairwise_correlation(x).value.item() == pytest.approx(1, abs=1e-12)


def test_constant_features_are_left_out_of_the_correlation():
    x = features(3)
    x[2] = 4.0
    result = pairwise_correlation(x)
    kept = [0, 1, 3, 4, 5]
    expected = np.mean([np.corrcoef(x[i], x[k])[0, 1] for i, k in itertools.combinations(kept, 2)])
    assert result.value.item() == pytest.approx(expected, abs=1e-13)
    assert (result.pairs, result.left_out) == (10, 5)
    all_constant = pairwise_correlation(np.ones((3, 4)))
    assert all_constant.value.isnan()
    assert all_constant.reason == Undefined.CONSTANT.sentence


PAIR_STATISTICS = [pairwise_correlation, identical_share, mean_pair_distance]


@pytest.mark.parametrize("statistic", PAIR_STATISTICS)
def test_one_atom_or_one_class_is_undefined(statistic):
    for x, classes, reason in (
        (features(4)[:1], None, Undefined.ONE_ATOM),
        (np.zeros((0, 3)), None, Undefined.ONE_ATOM),
        (features(4), [1] * 6, Undefined.ONE_CLASS),
    ):
        result = statistic(x, classes=classes)
        assert result.value.isnan()
        assert result.reason == reason.sentence
        mad = mean_average_distance(x, classes=classes)
        assert mad.plain.isnan()
        assert mad.published.isnan()
        assert mad.reason == mad.published_reason == reason.sentence
    assert statistic(np.zeros((3, 0))).reason == "the features have no channel"


@pytest.mark.parametrize("statistic", [*PAIR_STATISTICS, mean_average_distance, feature_variance, effective_rank])
def test_mask_is_the_same_as_leaving_atoms_out(statistic):
    x = features(5).astype(np.float32)
    mask = np.array([True, False, True, True, False, True])
    padded = x.copy()
    padded[~mask] = np.nan
    classes = np.array([0, 9, 0, 1, 9, 1])
    for labels, kept in ((None, None), (classes, classes[mask])):
        masked = statistic(padded, classes=labels, mask=mask)
        dropped = statistic(x[mask], classes=kept)
        for left, right in zip(masked, dropped, strict=True):
            if isinstance(left, torch.Tensor):
                assert torch.equal(left, right)
            else:
                assert left == right
    with pytest.raises(MetricError, match="'mask'"):
        statistic(x, mask=[True])
    with pytest.raises(MetricError, match="'classes'"):
        statistic(x, classes=[0, 1])


def test_effective_rank_at_its_limits():
    assert effective_rank(np.ones((5, 3))).value.item() == 0
    assert effective_rank(torch.full((4, 8), 0.1) * 7).value.item() == 0
    assert effective_rank(np.zeros((3, 4))).value.item() == 0
    for n in (2, 3, 6):
        assert effective_rank(3 * np.eye(8)[:n]).value.item() == pytest.approx(n - 1, abs=1e-12)
    line = np.outer(np.arange(5.0), [1.0, 2.0])
    assert effective_rank(line).value.item() == pytest.approx(1, abs=1e-6)
    assert effective_rank(features(0)[:1]).reason == Undefined.ONE_ATOM.sentence
    assert effective_rank([[1.0, math.nan], [1.0, 0.0]]).reason == Undefined.NOT_FINITE.sentence


def test_effective_rank_agrees_with_numpy():
    x = features(6)
    s = np.linalg.svd(x - x.mean(0), compute_uv=False)
    p = s / s.sum()
    p = p[p > 1e-15]
    assert effective_rank(x).value.item() == pytest.approx(np.exp(-(p * np.log(p)).sum()), abs=1e-10)


def test_equal_atoms_do_not_raise_the_rank_of_their_classes():
    x = 2 * np.eye(4)[[0, 0, 0, 1, 2, 2]]
    classes = [5, 5, 5, 7, 6, 6]
    assert effective_rank(x, classes=classes).value.item() == pytest.approx(2, abs=1e-12)
    assert effective_rank(x, classes=[1] * 6).reason == Undefined.ONE_CLASS.sentence


def test_class_means_and_variances():
    x = features(7)
    classes = np.array([3, 1, 3, 1, 1, 2])
    means, sizes = class_means(x, classes)
    for row, label in enumerate((1, 2, 3)):
        np.testing.assert_allclose(means[row], x[classes == label].mean(0), atol=1e-14)
        assert sizes[row] == (classes == label).sum()
    assert feature_variance(x).value.item() == pytest.approx(x.var(0, ddof=1).mean(), abs=1e-14)
    expected = means.numpy().var(0, ddof=1).mean()
    assert feature_variance(x, classes=classes).value.item() == pytest.approx(expected, abs=1e-14)
    assert feature_variance(x[:1]).reason == Undefined.ONE_ATOM.sentence


def test_between_class_share_splits_the_sum_of_squares():
    x = features(8)
    classes = np.array([0, 0, 1, 1, 1, 2])
    total = ((x - x.mean(0)) ** 2).sum()
    within = sum(((x[classes == c] - x[classes == c].mean(0)) ** 2).sum() for c in range(3))
    share = between_class_variance_share(x, classes)
    assert share.value.item() == pytest.approx(1 - within / total, abs=1e-13)
    assert between_class_variance_share(np.eye(3)[[0, 0, 1]], [0, 0, 1]).value.item() == pytest.approx(1)
    assert between_class_variance_share(x, [0] * 6).reason == Undefined.ONE_CLASS.sentence
    assert "same features" in between_class_variance_share(np.ones((4, 2)), [0, 0, 1, 1]).reason
    assert between_class_variance_share([[1.0], [math.nan]], [0, 1]).reason == Undefined.NOT_FINITE.sentence


@given(seed=st.integers(0, 10**6), atoms=st.integers(2, 6), scale=st.floats(1e-3, 1e3))
@settings(max_examples=60, deadline=None)
def test_scale_and_rotation_leave_what_they_should(seed, atoms, scale):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(atoms, 4))
    rotated = scale * x @ np.linalg.qr(rng.normal(size=(4, 4)))[0]
    for one, other in (
        (mean_average_distance(x).plain, mean_average_distance(rotated).plain),
        (effective_rank(x).value, effective_rank(rotated).value),
        (mean_pair_distance(x, relative=True).value, mean_pair_distance(rotated, relative=True).value),
        (scale * mean_pair_distance(x).value, mean_pair_distance(rotated).value),
        (scale**2 * feature_variance(x).value, feature_variance(rotated).value),
    ):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-12)


def test_stage_of_collapse_is_where_it_stays_low():
    values = {"embedding": 0.8, "alignn.0": 0.01, "alignn.1": 0.4, "gcn.0": 0.02, "gcn.1": 0.01}
    result = stage_of_collapse(values, 0.05)
    assert (result.stage, result.before) == ("gcn.0", "alignn.1")
    assert result.recovered == ("alignn.0",)
    assert result.reason is None


def test_stage_of_collapse_without_one():
    high = stage_of_collapse({"a": 0.01, "b": 0.9}, 0.05)
    assert high.stage is None
    assert high.recovered == ("a",)
    assert "above" in high.reason
    always = stage_of_collapse({"a": 0.01, "b": 0.05}, 0.05)
    assert (always.stage, always.before) == ("a", None)
    assert "from the first stage" in always.reason
    undefined = stage_of_collapse({"a": math.nan}, 0.05)
    assert undefined.stage is None
    assert "undefined" in undefined.reason
    skipped = stage_of_collapse({"a": 0.9, "b": math.nan, "c": 0.0}, 0.05)
    assert (skipped.stage, skipped.before) == ("c", "a")
    with pytest.raises(MetricError, match="at least one stage"):
        stage_of_collapse({}, 0.05)
