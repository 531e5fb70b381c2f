"""All statistics of one attention map, from one cut into structures: what a table row needs."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from interpret.metrics._arrays import Array
from interpret.metrics._grid import attention_grid
from interpret.metrics.attention import (
    Weights,
    effective_tokens,
    entropy,
    gini,
    max_weight,
    mean_over_atoms,
    normalized_entropy,
    perplexity,
    sparsity,
)
from interpret.metrics.concentration import SinkShare, head_saturation, sink_share
from interpret.metrics.diversity import PairStatistic, atom_divergence, atom_diversity, head_diversity

ROW_STATISTICS = {
    "entropy": entropy,
    "normalized_entropy": normalized_entropy,
    "perplexity": perplexity,
    "effective_tokens": effective_tokens,
    "max_weight": max_weight,
    "gini": gini,
    "sparsity": sparsity,
}


class AttentionSummary(NamedTuple):
    """Statistics of attention per structure.

    Attributes:
        rows: by name, each row statistic [..., H, N], NaN for masked atoms.
        heads: by name, its mean over atoms [..., H], and "head_saturation".
        atom_diversity, atom_divergence: [..., H], with the pairs they rest on and reasons.
        head_diversity: [...].
        sinks: share and uniform control; None when no sinks were named.
    """

    rows: dict[str, Tensor]
    heads: dict[str, Tensor]
    atom_diversity: PairStatistic
    atom_divergence: PairStatistic
    head_diversity: PairStatistic
    sinks: SinkShare | None


def summarize_attention(
    weights: Weights,
    token_mask: Array | None = None,
    atom_mask: Array | None = None,
    *,
    classes: Array | None = None,
    sinks: Array | None = None,
) -> AttentionSummary:
    """Every statistic of `attention`, `diversity` and `concentration` of a batch or of one structure.

    Args:
        weights: [..., H, N, T], or a grid. For the head-averaged figures pass
            `attention.average_heads(weights)`.
        token_mask: bool [T] or [..., T].
        atom_mask: bool [N] or [..., N].
        classes: int [N] or [..., N]; pairs of atoms of one class do not count.
        sinks: bool [T] or [..., T], special tokens and punctuation.

    Raises:
        MetricError: when shapes do not fit or rows are not softmax weights.
    """
    grid = attention_grid(weights, token_mask, atom_mask)
    rows = {name: statistic(grid) for name, statistic in ROW_STATISTICS.items()}
    heads = {name: mean_over_atoms(values, grid.atom_mask()) for name, values in rows.items()}
    heads["head_saturation"] = head_saturation(grid)
    return AttentionSummary(
        rows,
        heads,
        atom_diversity(grid, classes=classes),
        atom_divergence(grid, classes=classes),
        head_diversity(grid),
        None if sinks is None else sink_share(grid, sinks),
    )
