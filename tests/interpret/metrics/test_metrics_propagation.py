"""Norm-based weights and rollout against the papers' identities and values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special

from interpret.metrics import MetricError
from interpret.metrics.propagation import norm_based_weights, rollout, value_vectors


def test_norms_can_turn_the_ranking_around():
    weights = torch.tensor([[[0.9, 0.1]]])
    values = torch.tensor([[[0.1, 0.0], [0.0, 3.0]]])
    np.testing.assert_allclose(norm_based_weights(weights, values)[0, 0], [0.09, 0.30], atol=1e-8)


def test_norms_agree_with_a_loop():
    rng = np.random.default_rng(0)
    weights = special.softmax(rng.normal(size=(2, 3, 4, 5)), axis=-1)
    values = rng.normal(size=(2, 3, 5, 6))
    result = norm_based_weights(weights, values)
    for b, h, i, j in np.ndindex(2, 3, 4, 5):
        expected = np.linalg.norm(weights[b, h, i, j] * values[b, h, j])
        assert result[b, h, i, j].item() == pytest.approx(expected, abs=1e-14)


def test_value_vectors_sum_to_the_output_of_torch_attention():
    torch.manual_seed(0)
    heads, width, atoms, tokens = 4, 16, 3, 7
    attention = torch.nn.MultiheadAttention(width, heads, batch_first=True).double().eval()
    torch.nn.init.normal_(attention.in_proj_bias)
    torch.nn.init.normal_(attention.out_proj.bias)
    query, context = torch.randn(2, atoms, width).double(), torch.randn(2, tokens, width).double()
    output, weights = attention(query, context, context, average_attn_weights=False)
    values = value_vectors(
        context,
        attention.in_proj_weight[2 * width :],
        attention.in_proj_bias[2 * width :],
        attention.out_proj.weight,
        heads,
    )
    assert values.shape == (2, heads, tokens, width)
    conserved = torch.einsum("bhij,bhjo->bio", weights, values) + attention.out_proj.bias
    torch.testing.assert_close(conserved, output, rtol=0, atol=1e-12)
    without_bias = value_vectors(context, attention.in_proj_weight[2 * width :], None, attention.out_proj.weight, heads)
    assert not torch.allclose(without_bias, values)


def test_shapes_of_values_are_checked():
    with pytest.raises(MetricError, match="'value_weight'"):
        value_vectors(torch.zeros(3, 4), torch.zeros(8, 5), None, torch.zeros(4, 8), 2)
    with pytest.raises(MetricError, match="'output_weight'"):
        value_vectors(torch.zeros(3, 4), torch.zeros(8, 4), None, torch.zeros(4, 7), 2)
    with pytest.raises(MetricError, match="divide 8"):
        value_vectors(torch.zeros(3, 4), torch.zeros(8, 4), None, torch.zeros(4, 8), 3)
    with pytest.raises(MetricError, match="heads, tokens, width"):
        norm_based_weights(torch.zeros(2, 3, 4), torch.zeros(2, 5, 6))


def test_rollout_of_uniform_attention():
    result = rollout(torch.full((3, 4, 4), 0.25))
    expected = np.full((4, 4), 0.21875)
    np.fill_diagonal(expected, 0.34375)
    np.testing.assert_allclose(result, expected, atol=1e-15)


def test_rollout_of_two_layers_in_their_order():
    first, second = [[0.9, 0.1], [0.2, 0.8]], [[0.5, 0.5], [0.3, 0.7]]
    result = rollout([first, second])
    np.testing.assert_allclose(result, [[0.7375, 0.2625], [0.2275, 0.7725]], atol=1e-15)
    assert not torch.allclose(rollout([second, first]), result)


def test_rollout_of_a_batch_and_without_layers():
    rng = np.random.default_rng(1)
    maps = special.softmax(rng.normal(size=(3, 2, 4, 4)), axis=-1)
    result = rollout(maps)
    for b in range(2):
        expected = np.eye(4)
        for layer in maps[:, b]:
            mixed = (layer + np.eye(4)) / 2
            expected = mixed @ expected
        np.testing.assert_allclose(result[b], expected, atol=1e-14)
    np.testing.assert_allclose(result.sum(-1), 1, atol=1e-14)
    assert torch.equal(rollout(torch.zeros(0, 3, 3)), torch.eye(3, dtype=torch.float64))


def test_rollout_needs_square_maps_and_a_mask_that_fits():
    with pytest.raises(MetricError, match="tokens, tokens"):
        rollout(torch.zeros(2, 3, 4))
    with pytest.raises(MetricError, match="token_mask"):
        rollout(torch.zeros(2, 3, 3), [True, False])
