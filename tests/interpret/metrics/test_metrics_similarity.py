"""CKA against published values and the definition of HSIC; Procrustes against scipy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes
from scipy.spatial import procrustes
from scipy.stats import ortho_group

from interpret.metrics import MetricError
from interpret.metrics.similarity import (
    MinibatchCKA,
    check_sample_ids,
    debiased_cka,
    linear_cka,
    procrustes_distance,
    rbf_cka,
)
from model.errors import DataError


@pytest.fixture
def published():
    """The data of the published notebook (Kornblith et al. 2019), by numpy's legacy generator."""
    state = np.random.RandomState(1337)
    x = state.randn(100, 10)
    return x, state.randn(100, 10) + x


def minibatch(x, y, size):
    state = MinibatchCKA()
    for start in range(0, len(x), size):
        state = state.update(x[start : start + size], y[start : start + size])
    return state


def test_published_values(published):
    x, y = published
    assert linear_cka(x, y).value.item() == pytest.approx(0.5576132566, abs=1e-10)
    assert rbf_cka(x, y).value.item() == pytest.approx(0.6548311823, abs=1e-10)
    assert debiased_cka(x, y).value.item() == pytest.approx(0.5134564895, abs=1e-10)
    assert minibatch(x, y, 100).compute().value.item() == pytest.approx(0.5134564895, abs=1e-10)


@pytest.mark.parametrize(("size", "expected"), [(10, 0.54373), (20, 0.53372), (25, 0.51327), (50, 0.53084)])
def test_published_minibatch_values(published, size, expected):
    assert minibatch(*published, size).compute().value.item() == pytest.approx(expected, abs=5e-6)


def naive_hsic1(k, m):
    """Unbiased HSIC as a U-statistic over distinct indices, the definition HSIC_1 computes fast."""
    n = len(k)
    pairs = list(itertools.permutations(range(n), 2))
    triples = list(itertools.permutations(range(n), 3))
    quadruples = list(itertools.permutations(range(n), 4))
    first = np.mean([k[i, j] * m[i, j] for i, j in pairs])
    second = np.mean([k[i, j] * m[i, q] for i, j, q in triples])
    third = np.mean([k[i, j] * m[q, r] for i, j, q, r in quadruples])
    return first - 2 * second + third


@pytest.mark.parametrize("channels", [(2, 3), (9, 2), (8, 11)])
def test_debiased_cka_is_built_from_unbiased_terms(channels):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, channels[0])) + 5
    y = rng.normal(size=(6, channels[1]))
    y[:, 0] += x[:, 0]
    k, m = x @ x.T, y @ y.T
    state = MinibatchCKA().update(x, y)
    assert state.cross == pytest.approx(naive_hsic1(k, m), abs=1e-10)
    assert state.own_x == pytest.approx(naive_hsic1(k, k), abs=1e-10)
    assert state.own_y == pytest.approx(naive_hsic1(m, m), abs=1e-10)


def test_linear_cka_agrees_with_centred_kernels():
    rng = np.random.default_rng(1)
    for n, d1, d2 in ((30, 5, 8), (6, 20, 40)):
        x, y = rng.normal(size=(n, d1)), rng.normal(size=(n, d2))
        centre = np.eye(n) - 1 / n
        k, m = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre
        expected = np.trace(k @ m) / np.sqrt(np.trace(k @ k) * np.trace(m @ m))
        assert linear_cka(x, y).value.item() == pytest.approx(expected, abs=1e-13)


def test_rbf_cka_agrees_with_numpy_for_an_even_number_of_distances():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(7, 3)), rng.normal(size=(8, 3))[:7]
    kernels = []
    for values in (x, y):
        squared = ((values[:, None] - values[None]) ** 2).sum(-1)
        kernels.append(np.exp(-squared / (2 * 0.8**2 * np.median(squared))))
    centre = np.eye(7) - 1 / 7
    k, m = (centre @ kernel @ centre for kernel in kernels)
    expected = (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum())
    assert rbf_cka(x, y, sigma=0.8).value.item() == pytest.approx(expected, abs=1e-13)


def test_debiased_cka_is_centred_on_zero_where_the_plain_one_is_not():
    rng = np.random.default_rng(3)
    draws = [(rng.normal(size=(20, 60)), rng.normal(size=(20, 60))) for _ in range(60)]
    plain = np.mean([linear_cka(x, y).value.item() for x, y in draws])
    debiased = np.array([debiased_cka(x, y).value.item() for x, y in draws])
    assert plain > 0.7
    assert abs(debiased.mean()) < 4 * debiased.std() / np.sqrt(len(draws))
    assert debiased.min() < 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_representation_against_itself_is_exactly_the_same(dtype):
    for shape in ((30, 6), (5, 40)):
        x = (np.random.default_rng(4).normal(size=shape) * 3 + 1).astype(dtype)
        for similarity in (linear_cka, rbf_cka, debiased_cka):
            assert similarity(x, x.copy()).value.item() == 1
        assert minibatch(x, x, 5).compute().value.item() == 1
        assert procrustes_distance(x, x.copy()).value.item() == 0


@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 100))
@settings(max_examples=40, deadline=None)
def test_rotation_shift_and_scale_change_nothing(seed, scale):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(12, 4)), rng.normal(size=(12, 4))
    moved = scale * x @ ortho_group.rvs(4, random_state=seed) + rng.normal(size=4)
    for measure in (linear_cka, rbf_cka, debiased_cka, procrustes_distance):
        assert measure(moved, y).value.item() == pytest.approx(measure(x, y).value.item(), abs=1e-9)
        assert measure(y, moved).value.item() == pytest.approx(measure(x, y).value.item(), abs=1e-9)
    assert procrustes_distance(x, moved).value.item() == pytest.approx(0, abs=1e-12)


def test_procrustes_agrees_with_scipy():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(15, 4)), rng.normal(size=(15, 4))
    value = procrustes_distance(x, y).value.item()
    scaled = [(v - v.mean(0)) / np.linalg.norm(v - v.mean(0)) for v in (x, y)]
    rotation, _ = orthogonal_procrustes(scaled[1], scaled[0])
    assert value == pytest.approx(np.linalg.norm(scaled[0] - scaled[1] @ rotation) ** 2, abs=1e-12)
    # scipy also fits a scale: its disparity is 1 - s^2 where the distance is 2 - 2 s.
    assert 1 - (1 - value / 2) ** 2 == pytest.approx(procrustes(x, y)[2], abs=1e-12)
    assert 0 < procrustes_distance(x, rng.normal(size=(15, 9))).value.item() < 2


def test_minibatch_states_merge_in_any_order(published):
    x, y = published
    parts = [MinibatchCKA().update(x[i : i + 20], y[i : i + 20]) for i in range(0, 100, 20)]
    one = parts[0].merge(parts[1].merge(parts[2])).merge(parts[3]).merge(parts[4])
    other = parts[4].merge(parts[2]).merge(parts[0]).merge(parts[3].merge(parts[1]))
    assert one.compute().value.item() == pytest.approx(minibatch(x, y, 20).compute().value.item(), abs=1e-14)
    assert other.compute().value.item() == pytest.approx(one.compute().value.item(), abs=1e-14)
    assert (one.batches, one.samples, one.skipped) == (5, 100, 0)


def test_batches_too_small_for_an_unbiased_estimate_are_counted(published):
    x, y = published
    state = minibatch(x[:11], y[:11], 4)
    assert (state.batches, state.samples, state.skipped) == (2, 8, 3)
    assert state.merge(MinibatchCKA().update(x[:2], y[:2])).skipped == 5
    assert MinibatchCKA().compute().value.isnan()
    assert "more than three samples" in debiased_cka(x[:3], y[:3]).reason


def test_undefined_similarity_says_why(published):
    x, _ = published
    constant = np.ones((100, 4))
    for measure in (linear_cka, debiased_cka, procrustes_distance):
        result = measure(x, constant)
        assert result.value.isnan()
        assert result.reason
        for n in (0, 1):
            assert measure(x[:n], x[:n]).value.isnan()
    assert "distance zero" in rbf_cka(x, constant).reason
    assert rbf_cka(x[:1], x[:1]).reason == "fewer than two samples"
    broken = x.copy()
    broken[0, 0] = np.nan
    for measure in (linear_cka, rbf_cka, debiased_cka, procrustes_distance):
        assert "NaN" in measure(broken, x).reason


def test_other_samples_are_an_error(published):
    x, y = published
    for measure in (linear_cka, rbf_cka, debiased_cka, procrustes_distance, MinibatchCKA().update):
        with pytest.raises(MetricError, match=r"same samples, got \[100, 10\] and \[99, 10\]"):
            measure(x, y[:99])
    with pytest.raises(MetricError, match="positive 'sigma'"):
        rbf_cka(x, y, sigma=0)
    check_sample_ids(["a", "b"], ["a", "b"])
    with pytest.raises(DataError, match="row 1 is 'b' in one run and 'c'"):
        check_sample_ids(["a", "b"], ["a", "c"])
    with pytest.raises(DataError, match="got 2 and 1"):
        check_sample_ids(["a", "b"], ["a"])


def test_tensors_and_arrays_give_the_same(published):
    x, y = published
    assert torch.equal(linear_cka(torch.tensor(x), torch.tensor(y)).value, linear_cka(x, y).value)
