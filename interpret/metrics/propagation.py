"""From weights to what they carry: norm-based weights through values, rollout through layers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.linalg import vector_norm

from interpret.metrics._arrays import Array, require, shape_of, to_float64
from interpret.metrics._grid import count, mask_of


def value_vectors(x: Array, value_weight: Array, value_bias: Array | None, output_weight: Array, heads: int) -> Tensor:
    """What each head would write for each token, ``f(x) = (x W_V + b_V) W_O`` (Kobayashi et al. 2020).

    Args:
        x: [..., T, D] inputs of the value projection.
        value_weight: [E, D], laid out as in `torch.nn.Linear`.
        value_bias: [E] or None.
        output_weight: [O, E], laid out as in `torch.nn.Linear`; its bias belongs to no head and stays out.
        heads: H, dividing E.

    Returns:
        float64 [..., H, T, O]. Conservation: ``sum_h sum_j A_ij f_h(x_j) + b_O`` is the attention's output.

    Raises:
        MetricError: when the widths do not fit or E is not a multiple of `heads`.
    """
    inputs, w_value = to_float64(x, "x"), to_float64(value_weight, "value_weight")
    w_output = to_float64(output_weight, "output_weight")
    require(
        inputs.ndim >= 2 and w_value.ndim == 2 and inputs.shape[-1] == w_value.shape[1],
        f"Expected 'x' [..., tokens, D] and 'value_weight' [E, D], got {shape_of(inputs)} and {shape_of(w_value)}.",
    )
    width = w_value.shape[0]
    require(
        w_output.ndim == 2 and w_output.shape[1] == width,
        f"Expected 'output_weight' [O, {width}], got {shape_of(w_output)}.",
    )
    require(heads >= 1 and width % heads == 0, f"Expected 'heads' to divide {width}, got {heads}.")
    values = inputs @ w_value.T
    if value_bias is not None:
        values = values + to_float64(value_bias, "value_bias")
    split = values.reshape(*values.shape[:-1], heads, width // heads).transpose(-2, -3)
    per_head = w_output.reshape(w_output.shape[0], heads, width // heads).permute(1, 2, 0)
    return torch.matmul(split, per_head)


def norm_based_weights(weights: Array, values: Array) -> Tensor:
    """``|| A_ij f(x_j) ||``: how much of the output a token's value vector makes up (Kobayashi et al. 2020).

    A large weight on a token with a short value vector moves nothing; this ranks tokens by what they move.

    Args:
        weights: [..., H, N, T], 0 at masked tokens.
        values: [..., H, T, O], from `value_vectors`.

    Returns:
        float64 [..., H, N, T]; rows do not sum to 1.

    Raises:
        MetricError: when heads or tokens of the two do not match.
    """
    attention, vectors = to_float64(weights, "weights"), to_float64(values, "values")
    require(
        attention.ndim >= 3
        and vectors.ndim >= 3
        and (attention.shape[-3], attention.shape[-1]) == (vectors.shape[-3], vectors.shape[-2]),
        "Expected 'weights' [..., heads, atoms, tokens] and 'values' [..., heads, tokens, width], "
        f"got {shape_of(attention)} and {shape_of(vectors)}.",
    )
    moved: Tensor = attention.abs() * vector_norm(vectors, dim=-1).unsqueeze(-2)
    return moved


def rollout(attentions: Array, token_mask: Array | None = None) -> Tensor:
    """Attention rollout through a self-attention stack (Abnar & Zuidema 2020, arXiv 2005.00928).

    ``R_l = rownorm(A_l + I) R_{l-1}``, ``R_0 = I``: the identity stands for the residual connection.

    Args:
        attentions: [L, ..., T, T], first layer first, averaged over heads.
        token_mask: bool [T] or [..., T], True for tokens that count; None counts all.

    Returns:
        float64 [..., T, T], rows sum to 1; NaN in the rows and columns of masked tokens.

    Raises:
        MetricError: when the maps are not square, or the mask does not fit.

    Example:
        >>> rollout([[[0.9, 0.1], [0.2, 0.8]], [[0.5, 0.5], [0.3, 0.7]]])
        tensor([[0.7375, 0.2625],
                [0.2275, 0.7725]], dtype=torch.float64)
    """
    layers = to_float64(attentions, "attentions")
    require(
        layers.ndim >= 3 and layers.shape[-1] == layers.shape[-2],
        f"Expected 'attentions' to be [layers, ..., tokens, tokens], got {shape_of(layers)}.",
    )
    batch, tokens = tuple(layers.shape[1:-2]), layers.shape[-1]
    structures = count(batch)
    flat = layers.reshape(layers.shape[0], structures, tokens, tokens)
    masks = mask_of(token_mask, "token_mask", batch, tokens, layers.device)
    result = torch.full((structures, tokens, tokens), torch.nan, dtype=torch.float64, device=layers.device)
    for s in range(structures):
        kept = masks[s].nonzero().flatten()
        block = flat[:, s].index_select(1, kept).index_select(2, kept)
        result[s, kept.unsqueeze(1), kept] = _rollout(block)
    return result.reshape(*batch, tokens, tokens)


def _rollout(layers: Tensor) -> Tensor:
    identity = torch.eye(layers.shape[-1], dtype=layers.dtype, device=layers.device)
    rolled = identity
    for attention in layers:
        mixed = attention + identity
        rolled = (mixed / mixed.sum(-1, keepdim=True)) @ rolled
    return rolled
