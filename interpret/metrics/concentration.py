"""Heads that look at one token, and tokens that collect attention whatever they mean.

Arguments are those of `interpret.metrics.attention`: weights [..., H, N, T], token_mask [..., T], atom_mask
[..., N].
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from interpret.metrics._arrays import Array, require, to_bool
from interpret.metrics._grid import attention_grid
from interpret.metrics.attention import Weights


def head_saturation(
    weights: Weights,
    token_mask: Array | None = None,
    atom_mask: Array | None = None,
    *,
    threshold: float = 0.99,
) -> Tensor:
    """Share of the unmasked atoms' rows, per head, whose largest weight exceeds `threshold`.

    The mean over heads is the share of (head, atom) rows. NaN for a structure of one token, whose rows are
    1.0 by construction, of no atom, or with rows that are not finite.

    Returns:
        [..., H].

    Raises:
        MetricError: when shapes do not fit or rows are not softmax weights.
    """
    grid = attention_grid(weights, token_mask, atom_mask)
    result = grid.full(grid.heads)
    for target, block in zip(result, grid.blocks, strict=True):
        if block.weights.shape[-1] > 1:
            largest = block.weights.amax(-1)
            saturated = torch.where(largest.isnan(), torch.nan, (largest > threshold).to(torch.float64))
            target[:] = saturated.mean(-1)
    return result.reshape(*grid.batch, grid.heads)


def averaged_saturation_fingerprint(
    weights: Weights,
    token_mask: Array | None = None,
    atom_mask: Array | None = None,
    *,
    heads: int,
    tolerance: float = 0.01,
) -> Tensor:
    """Share of head-averaged rows that look like an average of `heads` one-hot rows.

    Averaging H one-hot heads yields multiples of 1/H, e.g. 0.375 and 0.125 with H = 8. A row counts when
    each of its weights is within ``tolerance / H`` of a multiple and the multiples sum to 1. This is a
    fingerprint for weights of which only the average is left; where the heads are at hand,
    `head_saturation` decides.

    Args:
        weights: [..., 1, N, T], averaged over heads.
        token_mask: bool [T] or [..., T].
        atom_mask: bool [N] or [..., N].
        heads: H, the number of heads that were averaged.
        tolerance: allowed distance in units of 1/H, below 0.5.

    Returns:
        [...], NaN for a structure of one token, of no atom, or with rows that are not finite.

    Raises:
        MetricError: when there is more than one head left, `heads` < 2, or the tolerance is not in [0, 0.5).
    """
    grid = attention_grid(weights, token_mask, atom_mask)
    require(grid.heads == 1, f"Expected head-averaged weights [..., 1, atoms, tokens], got {grid.heads} heads.")
    require(heads >= 2, f"Expected at least two averaged heads, got {heads}.")
    require(0 <= tolerance < 0.5, f"Expected 'tolerance' in [0, 0.5), got {tolerance}.")
    result = grid.full()
    for s, block in enumerate(grid.blocks):
        if block.weights.shape[-1] > 1:
            scaled = block.weights[0] * heads
            multiple = scaled.round()
            hit = ((scaled - multiple).abs() <= tolerance).all(-1) & (multiple.sum(-1) == heads)
            finite = scaled.isfinite().all(-1)
            result[s] = torch.where(finite, hit.to(torch.float64), torch.nan).mean()
    return result.reshape(grid.batch)


class SinkShare(NamedTuple):
    """Attention that a set of tokens receives, and its control.

    Attributes:
        share: [..., H], mean over atoms of the summed weight of the set.
        uniform: [...], what uniform attention would give it: its share of the unmasked tokens.
    """

    share: Tensor
    uniform: Tensor


def sink_share(
    weights: Weights, sinks: Array, token_mask: Array | None = None, atom_mask: Array | None = None
) -> SinkShare:
    """Mean attention received by a set of tokens, usually special tokens and punctuation.

    Args:
        weights: [..., H, N, T].
        sinks: bool [T] or [..., T], True for the tokens of the set; masked tokens never belong to it.
        token_mask: bool [T] or [..., T].
        atom_mask: bool [N] or [..., N].

    Returns:
        The share and what uniform attention would give; NaN for a structure without atoms or tokens.

    Raises:
        MetricError: when shapes do not fit or rows are not softmax weights.
    """
    grid = attention_grid(weights, token_mask, atom_mask)
    member = grid.per_token(to_bool(sinks, "sinks", grid.device), "sinks")
    share, uniform = grid.full(grid.heads), grid.full()
    for s, block in enumerate(grid.blocks):
        own = member[s].index_select(0, block.tokens)
        if own.numel():
            chosen = block.weights.index_select(2, own.nonzero().flatten())
            share[s] = chosen.sum(-1).mean(-1)
            uniform[s] = own.to(torch.float64).mean()
    return SinkShare(share.reshape(*grid.batch, grid.heads), uniform.reshape(grid.batch))


def sink_rate(
    weights: Weights,
    token_mask: Array | None = None,
    atom_mask: Array | None = None,
    *,
    threshold: float = 0.3,
) -> Tensor:
    """Share of heads for which a token is a sink: ``mean_h 1[alpha_j^h > threshold]``, for every token j.

    ``alpha_j^h = mean_i A_ij^h`` is the mean attention that token j receives. Gu et al. 2025 (arXiv
    2410.10781) define it for causal self-attention, where only the positions after j count, averaged over
    layers, with threshold 0.3; every atom sees every token here, so all unmasked atoms count, and there is
    one layer.

    Returns:
        [..., T], NaN at masked tokens and for a structure of one token or no atom.

    Raises:
        MetricError: when shapes do not fit or rows are not softmax weights.
    """
    grid = attention_grid(weights, token_mask, atom_mask)
    result = grid.full(grid.tokens)
    for target, block in zip(result, grid.blocks, strict=True):
        if block.tokens.numel() > 1:
            received = block.weights.mean(1)
            sink = torch.where(received.isnan(), torch.nan, (received > threshold).to(torch.float64))
            target[block.tokens] = sink.mean(0)
    return result.reshape(*grid.batch, grid.tokens)
