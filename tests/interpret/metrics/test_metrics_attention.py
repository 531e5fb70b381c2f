"""Row statistics of attention against the values of the papers and against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from interpret.metrics import MetricError, attention_grid
from interpret.metrics.attention import (
    average_heads,
    effective_tokens,
    entropy,
    entropy_lower_bound,
    gini,
    max_weight,
    mean_over_atoms,
    normalized_entropy,
    padding_bias,
    perplexity,
    renormalize,
    sparsity,
)

ROW_STATISTICS = [
    entropy,
    normalized_entropy,
    perplexity,
    effective_tokens,
    max_weight,
    gini,
    sparsity,
]


def rows(*weights):
    """One head, one atom per row."""
    return torch.tensor([list(weights)], dtype=torch.float64)


def random_weights(seed, heads=3, atoms=4, tokens=7, scale=2.0):
    logits = np.random.default_rng(seed).normal(size=(heads, atoms, tokens)) * scale
    return special.softmax(logits, axis=-1)


def test_uniform_row_has_the_extreme_of_every_statistic():
    tokens = 8
    uniform = rows([1 / tokens] * tokens)
    assert entropy(uniform).item() == pytest.approx(math.log(tokens), abs=1e-14)
    assert normalized_entropy(uniform).item() == pytest.approx(1, abs=1e-14)
    assert perplexity(uniform).item() == pytest.approx(tokens, abs=1e-13)
    assert gini(uniform).item() == 0
    assert sparsity(uniform).item() == 0
    assert max_weight(uniform).item() == 1 / tokens


def test_one_hot_row_has_the_other_extreme():
    one_hot = rows([0, 0, 1, 0, 0])
    assert entropy(one_hot).item() == 0
    assert normalized_entropy(one_hot).item() == 0
    assert perplexity(one_hot).item() == 1
    assert gini(one_hot).item() == pytest.approx(4 / 5, abs=1e-15)
    assert sparsity(one_hot).item() == 4 / 5
    assert max_weight(one_hot).item() == 1
    assert effective_tokens(one_hot).item() == 1


def test_published_values():
    assert effective_tokens(rows([0.5, 0.3, 0.15, 0.05])).item() == 3
    assert gini(rows([0.1, 0.2, 0.3, 0.4])).item() == pytest.approx(0.25, abs=1e-15)
    assert gini(rows([0.4, 0.1, 0.3, 0.2])).item() == pytest.approx(0.25, abs=1e-15)
    assert entropy_lower_bound(8, 1.0).item() == pytest.approx(1.97969, abs=5e-6)
    assert entropy_lower_bound(8, 5.0).item() == pytest.approx(0.20559, abs=5e-6)


def test_statistics_agree_with_independent_definitions():
    weights = random_weights(0)
    expected_gini = np.zeros(weights.shape[:2])
    expected_sparsity = np.zeros(weights.shape[:2])
    for h, i in np.ndindex(*weights.shape[:2]):
        row = weights[h, i]
        expected_gini[h, i] = np.abs(row[:, None] - row[None, :]).mean() / (2 * row.mean())
        expected_sparsity[h, i] = sum(value < 0.1 / row.size for value in row) / row.size
    expected_entropy = stats.entropy(weights, axis=-1)
    np.testing.assert_allclose(entropy(weights), expected_entropy, atol=1e-13)
    np.testing.assert_allclose(normalized_entropy(weights), expected_entropy / np.log(7), atol=1e-13)
    np.testing.assert_allclose(perplexity(weights), np.exp(expected_entropy), rtol=1e-13)
    np.testing.assert_allclose(gini(weights), expected_gini, atol=1e-13)
    np.testing.assert_allclose(sparsity(weights), expected_sparsity, atol=1e-15)
    np.testing.assert_array_equal(max_weight(weights), weights.max(-1))
    np.testing.assert_array_equal(effective_tokens(weights), (weights > 0.1).sum(-1))


def test_thresholds_are_options():
    row = rows([0.5, 0.3, 0.15, 0.05])
    assert effective_tokens(row, threshold=0.2).item() == 2
    assert effective_tokens(row, threshold=0.01).item() == 4
    assert effective_tokens(row, threshold=0.15).item() == 2
    assert sparsity(row, relative_threshold=0.5).item() == pytest.approx(1 / 4)
    assert sparsity(row, relative_threshold=0.1).item() == 0


def test_sparsity_does_not_grow_with_the_length_of_the_text():
    short, long = rows([1 / 10] * 10), rows([1 / 200] * 200)
    assert sparsity(short).item() == sparsity(long).item() == 0


@pytest.mark.parametrize("statistic", ROW_STATISTICS)
def test_result_is_float64_per_head_and_atom(statistic):
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        weights = torch.softmax(torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(1)), -1)
        result = statistic(weights.to(dtype))
        assert result.shape == (2, 3, 4)
        assert result.dtype == torch.float64
        assert not result.isnan().any()


def test_numpy_tensor_and_lists_give_the_same():
    weights = random_weights(1).astype(np.float32)
    weights.setflags(write=False)
    as_tensor = torch.tensor(weights)
    assert torch.equal(entropy(weights), entropy(as_tensor))
    assert torch.equal(entropy(weights.tolist()), entropy(as_tensor))


def test_gradients_do_not_leak_into_the_result():
    weights = torch.softmax(torch.randn(1, 2, 3, requires_grad=True), -1)
    assert not entropy(weights).requires_grad


@pytest.mark.parametrize("statistic", ROW_STATISTICS)
def test_masked_atoms_and_rows_that_are_not_finite_are_nan(statistic):
    weights = random_weights(2)
    weights[1, 2] = np.nan
    mask = np.array([True, True, True, False])
    result = statistic(weights, atom_mask=mask)
    expected = np.zeros((3, 4), dtype=bool)
    expected[:, 3] = True
    expected[1, 2] = True
    np.testing.assert_array_equal(result.isnan(), expected)


def test_one_token_has_no_normalized_entropy():
    one = torch.ones(2, 3, 1)
    assert normalized_entropy(one).isnan().all()
    assert torch.equal(entropy(one), torch.zeros(2, 3, dtype=torch.float64))
    # Rounded softmax: ln 1 = 0 must not turn the rest into infinity.
    assert normalized_entropy(one - 1e-6).isnan().all()


def test_text_masked_down_to_one_token_has_no_normalized_entropy():
    weights = torch.zeros(1, 1, 3, dtype=torch.float64)
    weights[..., 1] = 1
    mask = [False, True, False]
    assert normalized_entropy(weights, mask).isnan().all()
    assert max_weight(weights, mask).item() == 1


@pytest.mark.parametrize("statistic", ROW_STATISTICS)
def test_empty_inputs_are_nan_or_empty(statistic):
    assert statistic(torch.zeros(2, 3, 0)).isnan().all()
    assert statistic(torch.zeros(2, 0, 5)).shape == (2, 0)
    assert statistic(torch.zeros(0, 2, 3, 4)).shape == (0, 2, 3)
    weights = random_weights(3)
    assert statistic(weights, np.zeros(7, dtype=bool)).isnan().all()


def test_wrong_shapes_are_named():
    with pytest.raises(MetricError, match=r"\[\.\.\., heads, atoms, tokens\], got \[4, 7\]"):
        entropy(random_weights(0)[0])
    with pytest.raises(MetricError, match=r"'token_mask' to be \[7\].*got \[6\]"):
        entropy(random_weights(0), np.ones(6, dtype=bool))
    with pytest.raises(MetricError, match=r"'atom_mask' to be \[4\] or \[2, 4\].*got \[3, 4\]"):
        entropy(np.stack([random_weights(0)] * 2), atom_mask=np.ones((3, 4), dtype=bool))
    with pytest.raises(MetricError, match="boolean"):
        entropy(random_weights(0), [0.5] * 7)
    with pytest.raises(MetricError, match="array of numbers"):
        entropy("weights")


def test_arrays_that_are_not_softmax_weights_are_refused():
    logits = np.random.default_rng(0).normal(size=(2, 3, 5))
    with pytest.raises(MetricError, match="not logits"):
        entropy(logits)
    with pytest.raises(MetricError, match="sum to 1"):
        gini(np.full((1, 2, 4), 0.5))
    wrong_mask = np.array([True] * 3 + [False] * 4)
    with pytest.raises(MetricError, match="renormalize"):
        entropy(random_weights(0), wrong_mask)


def test_grid_stands_in_for_weights_and_masks():
    weights = np.concatenate([random_weights(4), np.zeros((3, 4, 2))], axis=-1)
    mask = np.arange(9) < 7
    grid = attention_grid(weights, mask)
    for statistic in ROW_STATISTICS:
        assert torch.equal(statistic(grid), statistic(weights, mask))
    with pytest.raises(MetricError, match="masks already"):
        entropy(grid, mask)


@given(
    tokens=st.integers(2, 40),
    norm=st.floats(0, 50),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=200, deadline=None)
def test_no_row_has_less_entropy_than_the_bound(tokens, norm, seed):
    logits = np.random.default_rng(seed).normal(size=tokens)
    logits *= norm / np.linalg.norm(logits)
    value = entropy(special.softmax(logits)[None, None]).item()
    assert value >= entropy_lower_bound(tokens, norm).item() - 1e-9


@pytest.mark.parametrize("tokens", [2, 3, 17])
def test_bound_is_reached_by_the_sharpest_logits_of_that_norm(tokens):
    norm = 2.5
    logits = np.full(tokens, -norm / math.sqrt(tokens * (tokens - 1)))
    logits[0] = norm * math.sqrt((tokens - 1) / tokens)
    assert np.linalg.norm(logits) == pytest.approx(norm)
    value = entropy(special.softmax(logits)[None, None]).item()
    assert value == pytest.approx(entropy_lower_bound(tokens, norm).item(), abs=1e-12)


def test_bound_at_its_limits():
    assert entropy_lower_bound(8, 0.0).item() == pytest.approx(math.log(8), abs=1e-14)
    assert entropy_lower_bound(1, 3.0).item() == 0
    assert entropy_lower_bound(5, [0.0, 1.0, 2.0]).shape == (3,)
    with pytest.raises(MetricError, match="at least one token"):
        entropy_lower_bound(0, 1.0)
    with pytest.raises(MetricError, match="non-negative"):
        entropy_lower_bound(3, -1.0)


def test_average_keeps_a_head_axis():
    weights = random_weights(5)
    averaged = average_heads(weights)
    assert averaged.shape == (1, 4, 7)
    np.testing.assert_allclose(averaged[0], weights.mean(0), atol=1e-16)
    with pytest.raises(MetricError, match="heads"):
        average_heads(torch.zeros(0, 3, 4))


def test_mean_over_atoms_counts_unmasked_atoms_only():
    values = torch.tensor([[1.0, 2.0, 6.0], [3.0, 4.0, float("nan")]])
    assert mean_over_atoms(values, [True, True, False]).tolist() == [1.5, 3.5]
    assert mean_over_atoms(values).isnan().tolist() == [False, True]
    assert mean_over_atoms(values, [False] * 3).isnan().all()
    batch = torch.stack([values, values])
    masks = [[True, False, False], [True, True, False]]
    assert mean_over_atoms(batch, masks).tolist() == [[1.0, 3.0], [1.5, 3.5]]


def test_renormalized_rows_sum_to_one_and_keep_their_order():
    weights = random_weights(6)
    keep = np.array([True, False, True, True, False, True, True])
    result = renormalize(weights, keep)
    np.testing.assert_allclose(result.kept_share, weights[..., keep].sum(-1), atol=1e-15)
    np.testing.assert_allclose(result.weights.sum(-1), 1, atol=1e-15)
    assert (result.weights[..., ~keep] == 0).all()
    expected = weights[..., keep] / weights[..., keep].sum(-1, keepdims=True)
    np.testing.assert_allclose(result.weights[..., keep], expected, atol=1e-15)
    assert not entropy(result.weights, keep).isnan().any()


def test_row_that_loses_all_its_weight_is_nan():
    result = renormalize(rows([0.0, 1.0, 0.0]), [True, False, True])
    assert result.kept_share.item() == 0
    assert result.weights[0, 0].isnan().tolist() == [True, False, True]


def test_padding_bias_is_the_difference_that_padding_makes():
    weights = torch.zeros(1, 1, 2, 4, dtype=torch.float64)
    weights[..., :2] = 0.5
    token_mask, atom_mask = [[True, True, False, False]], [[True, False]]
    weights[0, 0, 1] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    bias = padding_bias(gini, weights, token_mask, atom_mask)
    assert bias.masked.item() == 0
    # A uniform row over 2 of 4 columns has Gini 1/2 there, the padded one-hot row 3/4.
    assert bias.padded.item() == pytest.approx((0.5 + 0.75) / 2, abs=1e-15)
    assert bias.difference.item() == bias.padded.item()
