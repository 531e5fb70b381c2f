"""Text flow against loops, and its controls against what is known of them."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from interpret.metrics import MetricError
from interpret.metrics.dilution import dilution
from interpret.metrics.textflow import (
    cosine_matrix,
    cosine_with_text,
    derangement,
    mean_unit_nodes,
    null_sd,
    shuffled_control,
)


def cosine(u, v):
    return float(np.dot(u, v) / (np.linalg.norm(u) * np.linalg.norm(v)))


def random_structures(seed, sizes=(1, 3, 2, 5, 4), channels=16):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, channels)) for n in sizes], rng.normal(size=(len(sizes), channels))


def test_cosine_agrees_with_a_loop_for_both_shapes_of_text():
    (nodes, *_), text = random_structures(0, sizes=(5, 2))
    expected = [cosine(row, text[0]) for row in nodes]
    np.testing.assert_allclose(cosine_with_text(nodes, text[0]), expected, atol=1e-14)
    each = np.random.default_rng(1).normal(size=nodes.shape)
    expected = [cosine(row, other) for row, other in zip(nodes, each, strict=True)]
    np.testing.assert_allclose(cosine_with_text(nodes, each), expected, atol=1e-14)


def test_cosine_of_zero_vectors_is_undefined_and_empty_stays_empty():
    result = cosine_with_text([[0.0, 0.0], [1.0, 1.0]], [1.0, 0.0])
    assert result.isnan().tolist() == [True, False]
    assert cosine_with_text([[1.0, 1.0]], [0.0, 0.0]).isnan().all()
    assert cosine_with_text(np.zeros((0, 3)), np.ones(3)).shape == (0,)


def test_features_of_another_width_are_refused_with_both_shapes():
    with pytest.raises(MetricError, match=r"\[256\] or \[4, 256\].*got \[64\]"):
        cosine_with_text(np.zeros((4, 256)), np.zeros(64))
    with pytest.raises(MetricError, match="same channels"):
        shuffled_control(np.zeros((4, 256)), np.zeros((4, 64)))


def test_mean_of_unit_nodes_gives_every_cosine():
    nodes, text = random_structures(2)
    matrix = cosine_matrix(torch.stack([mean_unit_nodes(x) for x in nodes]), text)
    for b, x in enumerate(nodes):
        for c in range(len(nodes)):
            expected = np.mean([cosine(row, text[c]) for row in x])
            assert matrix[b, c].item() == pytest.approx(expected, abs=1e-14)


@given(seed=st.integers(0, 10**6), sizes=st.lists(st.integers(0, 5), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_stored_vector_does_not_depend_on_the_batch(seed, sizes):
    rng = np.random.default_rng(seed)
    nodes = [rng.normal(size=(n, 7)).astype(np.float32) for n in sizes]
    owner = np.repeat(np.arange(len(sizes)), sizes)
    together = mean_unit_nodes(np.concatenate(nodes), owner, len(sizes))
    assert together.shape == (len(sizes), 7)
    for b, x in enumerate(nodes):
        torch.testing.assert_close(together[b], mean_unit_nodes(x), rtol=0, atol=0, equal_nan=True)
        assert bool(together[b].isnan().all()) == (sizes[b] == 0)
    shuffled = rng.permutation(len(owner))
    mixed = mean_unit_nodes(np.concatenate(nodes)[shuffled], owner[shuffled], len(sizes))
    torch.testing.assert_close(mixed, together, rtol=0, atol=1e-14, equal_nan=True)


def test_masked_and_zero_atoms_are_left_out():
    x = np.array([[3.0, 4.0], [0.0, 0.0], [5.0, 0.0], [7.0, 7.0]])
    result = mean_unit_nodes(x, mask=[True, True, True, False])
    np.testing.assert_allclose(result, [(0.6 + 1) / 2, 0.4], atol=1e-15)
    assert mean_unit_nodes(np.zeros((2, 3))).isnan().all()


def test_owner_must_fit():
    with pytest.raises(MetricError, match="together"):
        mean_unit_nodes(np.ones((2, 3)), [0, 1])
    with pytest.raises(MetricError, match=r"'owner' \[2\]"):
        mean_unit_nodes(np.ones((2, 3)), [0], 1)
    with pytest.raises(MetricError, match="between 0 and 1"):
        mean_unit_nodes(np.ones((2, 3)), [0, 2], 2)


def test_derangements_have_no_fixed_point_and_are_uniform():
    generator = torch.Generator().manual_seed(0)
    draws = Counter(tuple(derangement(4, generator).tolist()) for _ in range(4500))
    possible = {p for p in itertools.permutations(range(4)) if all(i != v for i, v in enumerate(p))}
    assert set(draws) == possible
    assert len(possible) == 9
    assert stats.chisquare(list(draws.values())).pvalue > 1e-3
    assert derangement(2, generator).tolist() == [1, 0]
    for size in (3, 10, 100):
        assert (derangement(size, generator) != torch.arange(size)).all()


@pytest.mark.parametrize("n", [0, 1])
def test_one_structure_has_no_derangement(n):
    with pytest.raises(MetricError, match="at least two structures"):
        derangement(n, torch.Generator())


def test_control_of_unrelated_vectors_has_the_null_spread():
    rng = np.random.default_rng(3)
    units = rng.normal(size=(300, 64))
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    control = shuffled_control(units, rng.normal(size=(300, 64)), repeats=60, seed=1)
    assert control.null_sd == 0.125 == null_sd(64)
    assert control.control_sd.mean().item() == pytest.approx(control.null_sd, rel=0.05)
    assert control.control_mean.mean().item() == pytest.approx(0, abs=0.01)
    assert 0 < control.p_value <= 1


def test_control_takes_a_shared_direction_off_and_keeps_what_is_specific():
    rng = np.random.default_rng(4)
    text = rng.normal(size=(40, 32)) + 6
    shared_only = [np.abs(rng.normal(size=(3, 32))) + 2 for _ in range(40)]
    control = shuffled_control(shared_only, text, repeats=50)
    assert control.own.mean() > 0.8
    assert abs(control.excess.mean()) < 0.01
    assert control.p_value > 0.05
    with_text = [x + 3 * t for x, t in zip(shared_only, text, strict=True)]
    carried = shuffled_control(with_text, text, repeats=50)
    assert carried.excess.mean() > 0.01
    assert carried.p_value == pytest.approx(1 / 51)
    assert carried.repeat_means.shape == (50,)


def test_control_is_the_mean_over_other_texts_and_repeats_with_its_seed():
    nodes, text = random_structures(5)
    units = torch.stack([mean_unit_nodes(x) for x in nodes])
    control = shuffled_control(nodes, text, repeats=4000, seed=7)
    matrix = cosine_matrix(units, text).numpy()
    others = (matrix.sum(1) - np.diag(matrix)) / (len(nodes) - 1)
    np.testing.assert_allclose(control.own, np.diag(matrix), atol=1e-15)
    # Standard error of the mean over 4000 draws.
    error = control.control_sd.numpy() / np.sqrt(4000)
    assert (np.abs(control.control_mean.numpy() - others) < 4.5 * error).all()
    again, other_seed = (
        shuffled_control(units, text, repeats=9, seed=7),
        shuffled_control(units, text, repeats=9, seed=8),
    )
    assert torch.equal(again.control_mean, shuffled_control(units, text, repeats=9, seed=7).control_mean)
    assert not torch.equal(again.control_mean, other_seed.control_mean)


def test_control_by_hand_for_two_structures():
    units, text = [[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [3.0, 3.0]]
    control = shuffled_control(np.array(units), text, repeats=5)
    half = math.sqrt(0.5)
    np.testing.assert_allclose(control.own, [1, half], atol=1e-15)
    np.testing.assert_allclose(control.control_mean, [half, 0], atol=1e-15)
    np.testing.assert_allclose(control.control_sd, [0, 0], atol=1e-15)
    np.testing.assert_allclose(control.excess, [1 - half, half], atol=1e-15)
    assert control.p_value == pytest.approx(1 / 6)


def test_same_text_is_no_control():
    nodes, text = random_structures(6, sizes=(2, 2, 2))
    text[1] = 3 * text[0]
    control = shuffled_control(nodes, text, repeats=30)
    assert control.same_text > 0
    for b in (0, 1):
        only_other = np.mean([cosine(row, text[2]) for row in nodes[b]])
        assert control.control_mean[b].item() == pytest.approx(only_other, abs=1e-14)
    all_same = shuffled_control(nodes, np.ones((3, 16)), repeats=5)
    assert all_same.control_mean.isnan().all()
    assert "different text" in all_same.reason
    assert math.isnan(all_same.p_value)


def test_one_structure_has_an_own_cosine_and_no_control():
    nodes, text = random_structures(7, sizes=(3,))
    control = shuffled_control(nodes, text)
    assert control.own.item() == pytest.approx(np.mean([cosine(row, text[0]) for row in nodes[0]]), abs=1e-14)
    assert control.control_mean.isnan().all()
    assert math.isnan(control.p_value)
    assert "fewer than two structures" in control.reason
    assert "fewer than two" in shuffled_control([], np.zeros((0, 0))).reason


def test_structure_without_direction_stays_undefined_and_harms_no_other():
    nodes, text = random_structures(8, sizes=(2, 2, 2, 2))
    nodes[1] = np.zeros((2, 16))
    control = shuffled_control(nodes, text, repeats=40)
    assert control.own.isnan().tolist() == [False, True, False, False]
    assert control.control_mean.isnan().tolist() == [False, True, False, False]
    assert not math.isnan(control.p_value)
    assert control.same_text == 0
    with pytest.raises(MetricError, match="at least one repeat"):
        shuffled_control(nodes, text, repeats=0)
    with pytest.raises(MetricError, match="one text for each of 4"):
        shuffled_control(nodes, text[:3])


def test_half_life_of_an_exponential():
    layers = np.arange(9)
    result = dilution(0.4 * 0.5 ** (layers / 2))
    assert result.half_life == pytest.approx(2, abs=1e-12)
    assert result.fitted == pytest.approx(2, abs=1e-12)
    assert (result.reason, result.fitted_reason) == (None, None)


def test_half_life_is_interpolated_and_nan_layers_are_skipped():
    assert dilution([1.0, 0.8, 0.4, 0.1]).half_life == pytest.approx(1.75, abs=1e-12)
    assert dilution([1.0, math.nan, 0.0]).half_life == pytest.approx(1, abs=1e-12)
    assert dilution([1.0, -0.5]).half_life == pytest.approx(1 / 3, abs=1e-12)


def test_dilution_that_does_not_happen_says_so():
    slow = dilution([0.4, 0.39, 0.38])
    assert math.isnan(slow.half_life)
    assert "within 2 layers" in slow.reason
    assert slow.fitted == pytest.approx(2 * math.log(2) / math.log(0.4 / 0.38), rel=1e-3)
    rising = dilution([0.1, 0.2, 0.3])
    assert math.isnan(rising.half_life)
    assert math.isnan(rising.fitted)
    assert "does not fall" in rising.fitted_reason
    for nothing in ([], [0.0, 0.1], [-0.1, 0.1], [math.nan, 0.4, 0.1]):
        result = dilution(nothing)
        assert math.isnan(result.half_life)
        assert "no excess" in result.reason
    assert "fewer than two layers" in dilution([0.4, -0.1]).fitted_reason
    with pytest.raises(MetricError, match=r"\[layers\]"):
        dilution([[0.1]])


def test_recorded_nodes_carry_the_text_they_were_fused_with(shared):
    inputs = np.load(shared / "oracle" / "inputs6.npz")
    outputs = np.load(shared / "oracle" / "outputs" / "full.npz")
    counts = inputs["batch/batch_num_nodes"]
    owner = np.repeat(np.arange(6), counts)
    text = outputs["batch/middle_fusion.layer_1.text_transform"]
    for tap in ("alignn_layers.1.x", "middle_fusion.layer_1.out", "gcn_layers.1.x"):
        nodes = outputs[f"batch/{tap}"]
        control = shuffled_control(mean_unit_nodes(nodes, owner, 6), text, repeats=50)
        for b in range(6):
            rows = nodes[owner == b].astype(np.float64)
            expected = np.mean([cosine(row, text[b].astype(np.float64)) for row in rows])
            assert control.own[b].item() == pytest.approx(expected, abs=1e-12)
