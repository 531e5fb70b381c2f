"""Do atoms, or heads, attend differently? Statistics of pairs of attention rows.

Arguments are those of `interpret.metrics.attention`: weights [..., H, N, T], token_mask [..., T], atom_mask
[..., N].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from interpret.metrics._arrays import (
    Array,
    Undefined,
    pair_chunks,
    pair_index,
    squared_distances,
    to_int64,
    unit_centred,
)
from interpret.metrics._grid import attention_grid
from interpret.metrics.attention import Weights


class PairStatistic(NamedTuple):
    """A mean over pairs, with what it rests on.

    Attributes:
        value: float64, NaN where undefined.
        pairs: int64, number of pairs in the mean.
        left_out: int64, number of pairs left out because a row of theirs is constant.
        reason: int64 codes of `Undefined`, 0 where defined.
    """

    value: Tensor
    pairs: Tensor
    left_out: Tensor
    reason: Tensor

    def explain(self, *index: int) -> str | None:
        """The reason at `index` in words; None where the value is defined."""
        return Undefined(int(self.reason[index])).sentence


# Distances of all pairs: rows [G, R, t] and the pairs' first and second row, to [G, pairs], and which count.
_PairKernel = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def atom_diversity(
    weights: Weights,
    token_mask: Array | None = None,
    atom_mask: Array | None = None,
    *,
    classes: Array | None = None,
) -> PairStatistic:
    """``1 - mean_{i<k} corr(A_i, A_k)``: 0 where all atoms attend alike. Pearson correlation over tokens.

    Atoms of one symmetry orbit attend alike by construction, so `classes` restricts the mean to pairs of
    atoms of different classes. Pairs with a row that does not vary are left out and counted. Pass
    `attention.average_heads(weights)` for the head-averaged figure.

    Args:
        weights: [..., H, N, T].
        token_mask: bool [T] or [..., T].
        atom_mask: bool [N] or [..., N].
        classes: int [N] or [..., N], e.g. the orbit of each atom; None compares all pairs.

    Returns:
        PairStatistic of shape [..., H].

    Raises:
        MetricError: when shapes do not fit or rows are not softmax weights.

    Example:
        >>> weights = [[[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.1, 0.3, 0.6]]]
        >>> atom_diversity(weights).value
        tensor([1.3158], dtype=torch.float64)
        >>> atom_diversity(weights, classes=[0, 0, 0]).explain(0)
        'no two unmasked atoms belong to different classes'
    """
    return _over_atoms(weights, token_mask, atom_mask, classes, _correlation_distance)


def atom_divergence(
    weights: Weights,
    token_mask: Array | None = None,
    atom_mask: Array | None = None,
    *,
    classes: Array | None = None,
) -> PairStatistic:
    """Mean Jensen-Shannon divergence between the rows of two atoms, in nats: 0 (alike) to ln 2 (disjoint).

    ``JS(p, q) = KL(p || m) / 2 + KL(q || m) / 2``, ``m = (p + q) / 2`` (Lin 1991). Defined also for
    constant rows, for which a correlation is not. Arguments as in `atom_diversity`.

    Returns:
        PairStatistic of shape [..., H]; no pair is ever left out.

    Raises:
        MetricError: when shapes do not fit or rows are not softmax weights.
    """
    return _over_atoms(weights, token_mask, atom_mask, classes, _jensen_shannon)


def head_diversity(weights: Weights, token_mask: Array | None = None, atom_mask: Array | None = None) -> PairStatistic:
    """``1 - mean corr(A_h, A_g)`` over the pairs of heads of the same atom: 0 where heads agree.

    Returns:
        PairStatistic of shape [...]; pairs are counted over heads and atoms.

    Raises:
        MetricError: when shapes do not fit or rows are not softmax weights.
    """
    grid = attention_grid(weights, token_mask, atom_mask)
    results = []
    for block in grid.blocks:
        heads, atoms, tokens = block.weights.shape
        reason = _shape_reason(atoms, tokens, heads < 2, Undefined.ONE_HEAD)
        rows = block.weights.transpose(0, 1).contiguous()
        results.append(_summarise(rows, None, reason, _correlation_distance, pooled=True))
    return _stack(results, grid.batch, (), grid.device)


def _over_atoms(
    weights: Weights,
    token_mask: Array | None,
    atom_mask: Array | None,
    classes: Array | None,
    kernel: _PairKernel,
) -> PairStatistic:
    grid = attention_grid(weights, token_mask, atom_mask)
    labels = None if classes is None else grid.per_atom(to_int64(classes, "classes", grid.device), "classes")
    results = []
    for s, block in enumerate(grid.blocks):
        _, atoms, tokens = block.weights.shape
        reason = _shape_reason(atoms, tokens, atoms < 2, Undefined.ONE_ATOM)
        own = None if labels is None else labels[s].index_select(0, block.atoms)
        results.append(_summarise(block.weights, own, reason, kernel, pooled=False))
    return _stack(results, grid.batch, (grid.heads,), grid.device)


def _shape_reason(atoms: int, tokens: int, too_few: bool, code: Undefined) -> Undefined:
    if atoms == 0 or tokens == 0:
        return Undefined.NO_ROWS
    if too_few:
        return code
    return Undefined.ONE_TOKEN if tokens == 1 else Undefined.DEFINED


def _summarise(
    rows: Tensor, classes: Tensor | None, reason: Undefined, kernel: _PairKernel, *, pooled: bool
) -> PairStatistic:
    """Mean over the pairs of rows [G, R, t], per group G or pooled over groups."""
    shape: tuple[int, ...] = () if pooled else (rows.shape[0],)
    count = torch.zeros(shape, dtype=torch.int64, device=rows.device)
    nan = torch.full(shape, torch.nan, dtype=torch.float64, device=rows.device)
    if reason is Undefined.DEFINED:
        first, second = pair_index(rows.shape[1], classes, rows.device)
        reason = Undefined.DEFINED if first.numel() else Undefined.ONE_CLASS
    if reason is not Undefined.DEFINED:
        return PairStatistic(nan, count, count, torch.full_like(count, int(reason)))
    distance, defined = kernel(rows, first, second)
    finite = rows.isfinite().flatten(1).all(-1)
    if pooled:
        distance, defined, finite = distance.flatten(), defined.flatten(), finite.all()
    pairs = defined.sum(-1)
    mean = torch.where(defined, distance, 0.0).sum(-1) / pairs
    code = torch.where(pairs == 0, int(Undefined.CONSTANT), int(Undefined.DEFINED))
    code = torch.where(finite, code, int(Undefined.NOT_FINITE))
    return PairStatistic(torch.where(code == 0, mean, nan), pairs, (~defined).sum(-1), code)


def _correlation_distance(rows: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    unit, constant = unit_centred(rows)
    return 0.5 * squared_distances(unit)[:, first, second], ~(constant[:, first] | constant[:, second])


def _jensen_shannon(rows: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    # JS(p, q) = H((p + q) / 2) - (H(p) + H(q)) / 2, which takes one logarithm a pair and token.
    own = _entropy(rows)
    parts = [
        _entropy(0.5 * (rows[:, i] + rows[:, k])) - 0.5 * (own[:, i] + own[:, k])
        for i, k in pair_chunks(first, second, rows.shape[0] * rows.shape[2])
    ]
    # Equal rows give exactly 0; rounding may leave nearly equal ones a hair below it.
    distance = torch.cat(parts, dim=-1).clamp(min=0.0)
    return distance, torch.ones_like(distance, dtype=torch.bool)


def _entropy(rows: Tensor) -> Tensor:
    # Faster than torch.special.entr; the smallest normal number stands in for 0, of which 0 times is 0.
    return -(rows * rows.clamp(min=torch.finfo(rows.dtype).tiny).log()).sum(-1)


def _stack(
    results: list[PairStatistic], batch: tuple[int, ...], tail: tuple[int, ...], device: torch.device
) -> PairStatistic:
    if not results:
        empty = torch.zeros((*batch, *tail), dtype=torch.int64, device=device)
        return PairStatistic(empty.to(torch.float64), empty, empty, empty)
    fields = (torch.stack(column).reshape((*batch, *tail)) for column in zip(*results, strict=True))
    return PairStatistic(*fields)
