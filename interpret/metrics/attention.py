"""Statistics of single attention rows, one value per head and atom, over the unmasked tokens only.

`weights` is always [..., H, N, T]: H heads, N atoms, T tokens, rows softmax over the unmasked tokens.
`token_mask` is bool [T] or [..., T] and `atom_mask` bool [N] or [..., N], True for what counts. Results are
float64 [..., H, N], NaN for masked atoms and for rows that are not finite. An `AttentionGrid` may stand in
for the weights and both masks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from interpret.metrics._arrays import Array, require, shape_of, to_float64
from interpret.metrics._grid import AttentionGrid, attention_grid, count, mask_of

Weights = Array | AttentionGrid
RowStatistic = Callable[..., Tensor]


def entropy(weights: Weights, token_mask: Array | None = None, atom_mask: Array | None = None) -> Tensor:
    """Shannon entropy of each row, ``-sum_j A_ij ln A_ij`` in nats, with ``0 ln 0 = 0``.

    0 for a one-hot row, ln T for a uniform one (Ghader & Monz 2017, arXiv 1710.03348).

    Returns:
        [..., H, N].

    Raises:
        MetricError: when shapes do not fit or rows are not softmax weights.

    Example:
        >>> entropy([[[0.5, 0.5, 0.0]]], token_mask=[True, True, False])
        tensor([[0.6931]], dtype=torch.float64)
    """
    return attention_grid(weights, token_mask, atom_mask).rows(_entropy)


def normalized_entropy(weights: Weights, token_mask: Array | None = None, atom_mask: Array | None = None) -> Tensor:
    """Entropy divided by its largest possible value, ``H / ln T``, T the number of unmasked tokens.

    Comparable between texts of different length. NaN where a structure has one token: its only row is 1.0.

    Returns:
        [..., H, N].

    Raises:
        MetricError: when shapes do not fit or rows are not softmax weights.
    """
    return attention_grid(weights, token_mask, atom_mask).rows(
        lambda rows: _entropy(rows) / math.log(rows.shape[-1]), minimum_tokens=2
    )


def perplexity(weights: Weights, token_mask: Array | None = None, atom_mask: Array | None = None) -> Tensor:
    """``exp(entropy)``: the number of tokens a uniform row of the same entropy would attend to.

    Returns:
        [..., H, N].

    Raises:
        MetricError: when shapes do not fit or rows are not softmax weights.
    """
    return attention_grid(weights, token_mask, atom_mask).rows(lambda rows: _entropy(rows).exp())


def effective_tokens(
    weights: Weights,
    token_mask: Array | None = None,
    atom_mask: Array | None = None,
    *,
    threshold: float = 0.1,
) -> Tensor:
    """Number of tokens with ``A_ij > threshold`` in each row.

    Returns:
        [..., H, N].

    Raises:
        MetricError: when shapes do not fit or rows are not softmax weights.
    """
    return attention_grid(weights, token_mask, atom_mask).rows(lambda rows: (rows > threshold).sum(-1))


def max_weight(weights: Weights, token_mask: Array | None = None, atom_mask: Array | None = None) -> Tensor:
    """The largest weight of each row, ``max_j A_ij``.

    Returns:
        [..., H, N].

    Raises:
        MetricError: when shapes do not fit or rows are not softmax weights.
    """
    return attention_grid(weights, token_mask, atom_mask).rows(lambda rows: rows.amax(-1))


def gini(weights: Weights, token_mask: Array | None = None, atom_mask: Array | None = None) -> Tensor:
    """Gini coefficient of each row, ``sum_k (2k - T - 1) a_(k) / (T sum a)``, a ascending, k = 1..T.

    0 for a uniform row, (T - 1) / T for a one-hot one (Gini 1912; Hurley & Rickard 2009, arXiv 0811.4706).

    Returns:
        [..., H, N].

    Raises:
        MetricError: when shapes do not fit or rows are not softmax weights.

    Example:
        >>> gini([[[0.1, 0.2, 0.3, 0.4]]])
        tensor([[0.2500]], dtype=torch.float64)
    """
    return attention_grid(weights, token_mask, atom_mask).rows(_gini)


def sparsity(
    weights: Weights,
    token_mask: Array | None = None,
    atom_mask: Array | None = None,
    *,
    relative_threshold: float = 0.1,
) -> Tensor:
    """Share of tokens with next to no weight, ``#{j: A_ij < relative_threshold / T} / T``.

    The threshold is a fraction of the uniform weight 1/T, so that a longer text is not sparser by its length
    alone, as it is with an absolute one. 0 for a uniform row, (T - 1) / T for a one-hot one. The measure
    is the complement of l0 with a threshold in Hurley & Rickard 2009 (arXiv 0811.4706).

    Returns:
        [..., H, N].

    Raises:
        MetricError: when shapes do not fit or rows are not softmax weights.
    """
    return attention_grid(weights, token_mask, atom_mask).rows(
        lambda rows: (rows < relative_threshold / rows.shape[-1]).to(torch.float64).mean(-1)
    )


def entropy_lower_bound(tokens: int, logit_norm: Array) -> Tensor:
    """The smallest entropy a softmax row can have, given a bound on the norm of its logits, in nats.

    ``ln(1 + (T-1) b) + s sqrt(T(T-1)) b / (1 + (T-1) b)`` with ``b = exp(-s sqrt(T / (T-1)))``: theorem 3.1
    of Zhai et al. 2023 (arXiv 2303.06296). A row of one token has entropy 0, which is also its bound.

    Args:
        tokens: T, the number of unmasked tokens.
        logit_norm: s >= 0, a bound on the Euclidean norm of the row's logits, any shape.

    Returns:
        The bound, shape of `logit_norm`.

    Raises:
        MetricError: when `tokens` < 1 or a norm is negative.
    """
    norm = to_float64(logit_norm, "logit_norm")
    require(tokens >= 1, f"Expected at least one token, got {tokens}.")
    require(not bool((norm < 0).any()), "Expected 'logit_norm' to be non-negative.")
    if tokens == 1:
        return torch.where(norm.isnan(), torch.nan, torch.zeros_like(norm))
    others = tokens - 1
    b = torch.exp(-norm * math.sqrt(tokens / others))
    return torch.log1p(others * b) + norm * math.sqrt(tokens * others) * b / (1 + others * b)


def average_heads(weights: Array) -> Tensor:
    """Mean over heads, [..., H, N, T] to [..., 1, N, T]: the head axis stays, of length 1.

    Averaging hides heads that are one-hot: look at `concentration.head_saturation` first.

    Raises:
        MetricError: when `weights` has no head axis or no head.
    """
    values = to_float64(weights, "weights")
    require(
        values.ndim >= 3 and values.shape[-3] > 0,
        f"Expected 'weights' to be [..., heads, atoms, tokens], got {shape_of(values)}.",
    )
    return values.mean(-3, keepdim=True)


def mean_over_atoms(values: Array, atom_mask: Array | None = None) -> Tensor:
    """Mean of a row statistic over the unmasked atoms, [..., H, N] to [..., H].

    NaN where a structure has no unmasked atom, or where the statistic of an unmasked atom is NaN.

    Raises:
        MetricError: when `atom_mask` does not fit.
    """
    rows = to_float64(values, "values")
    require(rows.ndim >= 2, f"Expected 'values' to be [..., heads, atoms], got {shape_of(rows)}.")
    batch, (heads, atoms) = tuple(rows.shape[:-2]), rows.shape[-2:]
    flat = rows.reshape(count(batch), heads, atoms)
    keep = mask_of(atom_mask, "atom_mask", batch, atoms, rows.device)
    result = torch.full((count(batch), heads), torch.nan, dtype=torch.float64, device=rows.device)
    for target, own, kept in zip(result, flat, keep, strict=True):
        target[:] = own.index_select(1, kept.nonzero().flatten()).mean(-1)
    return result.reshape(*batch, heads)


class Renormalized(NamedTuple):
    """Weights [..., H, N, T] over the kept tokens, and the share [..., H, N] of the row they held before."""

    weights: Tensor
    kept_share: Tensor


def renormalize(weights: Array, keep: Array) -> Renormalized:
    """Leave tokens out (stop-words, punctuation, padding) and let the rest of each row sum to 1 again.

    Args:
        weights: [..., H, N, T].
        keep: bool [T] or [..., T], True for the tokens that stay. It is the token mask of the result.

    Returns:
        The weights, 0 at dropped tokens, and the share that was kept: a row of which little was kept says
        little. A row that loses all its weight is NaN at the kept tokens.

    Raises:
        MetricError: when `keep` does not fit.
    """
    values = to_float64(weights, "weights")
    require(values.ndim >= 3, f"Expected 'weights' to be [..., heads, atoms, tokens], got {shape_of(values)}.")
    batch = tuple(values.shape[:-3])
    flat = values.reshape(count(batch), *values.shape[-3:])
    masks = mask_of(keep, "keep", batch, values.shape[-1], values.device)
    result, share = torch.zeros_like(flat), torch.zeros_like(flat[..., 0])
    for target, held, own, mask in zip(result, share, flat, masks, strict=True):
        kept = mask.nonzero().flatten()
        remaining = own.index_select(2, kept)
        held[:] = remaining.sum(-1)
        target[:, :, kept] = remaining / held.unsqueeze(-1)
    return Renormalized(result.reshape(values.shape), share.reshape(values.shape[:-1]))


class PaddingBias(NamedTuple):
    """Mean of a statistic over heads and atoms, [...]: of the unmasked part, and of the whole array."""

    masked: Tensor
    padded: Tensor

    @property
    def difference(self) -> Tensor:
        """What counting the padding adds, ``padded - masked``."""
        return self.padded - self.masked


def padding_bias(
    statistic: RowStatistic, weights: Array, token_mask: Array | None = None, atom_mask: Array | None = None
) -> PaddingBias:
    """What a row statistic would be if padded atoms and padded tokens were counted.

    Args:
        statistic: a function of this module that gives one value per row, e.g. `gini`.
        weights: [..., H, N, T] as the model returned them, padding included.
        token_mask, atom_mask: as everywhere in this module.

    Raises:
        MetricError: when shapes do not fit or rows are not softmax weights.
    """
    right = mean_over_atoms(statistic(weights, token_mask, atom_mask), atom_mask)
    counted = mean_over_atoms(statistic(weights))
    return PaddingBias(right.mean(-1), counted.mean(-1))


def _entropy(rows: Tensor) -> Tensor:
    total: Tensor = torch.special.entr(rows).sum(-1)
    return total


def _gini(rows: Tensor) -> Tensor:
    tokens = rows.shape[-1]
    rank = torch.arange(1, tokens + 1, dtype=rows.dtype, device=rows.device)
    ordered = rows.sort(-1).values
    # A uniform row would otherwise come out as a rounding error below 0.
    return torch.clamp(((2 * rank - tokens - 1) * ordered).sum(-1) / (tokens * rows.sum(-1)), min=0.0)
