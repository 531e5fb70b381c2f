"""Attention weights cut into one unpadded block per structure.

Every statistic of attention is computed on such a block. Padding can then not reach a result at all, and the
result of a structure is bit for bit the same alone, in a batch, and in any padding: a masked sum over the
padded array would not be, because appended zeros change the order of the additions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from interpret.metrics._arrays import Array, MetricError, require, shape_of, to_bool, to_float64

# bfloat16 keeps eight bits, so the sum of its rounded weights is 1 within 2^-8.
_ROW_SUM_TOLERANCE = 1e-2


class Block(NamedTuple):
    """The unmasked part of one structure: weights [H, n, t] and the positions of its atoms and tokens."""

    weights: Tensor
    atoms: Tensor
    tokens: Tensor


class AttentionGrid(NamedTuple):
    """Validated weights of a batch, one block a structure.

    Attributes:
        batch: the leading dimensions, () for one structure.
        heads, atoms, tokens: padded sizes H, N and T.
        blocks: one a structure, in the order of the flattened batch.
        device: where the weights live.
    """

    batch: tuple[int, ...]
    heads: int
    atoms: int
    tokens: int
    blocks: tuple[Block, ...]
    device: torch.device

    def full(self, *shape: int) -> Tensor:
        """NaN, float64 [structures, *shape], to be filled block by block."""
        return torch.full((len(self.blocks), *shape), torch.nan, dtype=torch.float64, device=self.device)

    def per_atom(self, values: Tensor, name: str) -> Tensor:
        """`values` ([N] or [..., N]) as [structures, N], dtype kept."""
        return expand_to_batch(values, name, self.batch, self.atoms)

    def per_token(self, values: Tensor, name: str) -> Tensor:
        """`values` ([T] or [..., T]) as [structures, T], dtype kept."""
        return expand_to_batch(values, name, self.batch, self.tokens)

    def atom_mask(self) -> Tensor:
        """bool [..., N], True for the atoms that count."""
        mask = torch.zeros(len(self.blocks), self.atoms, dtype=torch.bool, device=self.device)
        for target, block in zip(mask, self.blocks, strict=True):
            target[block.atoms] = True
        return mask.reshape(*self.batch, self.atoms)

    def rows(self, kernel: Callable[[Tensor], Tensor], minimum_tokens: int = 1) -> Tensor:
        """One value a row: `kernel` maps [H, n, t] to [H, n].

        Returns:
            [..., H, N], NaN for masked atoms, for rows that are not finite and for structures of fewer than
            `minimum_tokens` unmasked tokens.
        """
        result = self.full(self.heads, self.atoms)
        for target, block in zip(result, self.blocks, strict=True):
            if block.weights.shape[-1] >= minimum_tokens:
                values = kernel(block.weights).to(torch.float64)
                finite = block.weights.isfinite().all(-1)
                target[:, block.atoms] = torch.where(finite, values, torch.nan)
        return result.reshape(*self.batch, self.heads, self.atoms)


def attention_grid(
    weights: Array | AttentionGrid, token_mask: Array | None = None, atom_mask: Array | None = None
) -> AttentionGrid:
    """Cut attention weights into unpadded blocks; build it once to compute several statistics.

    Args:
        weights: [..., H, N, T] attention of N atoms to T tokens, rows softmax over the unmasked tokens. A
            grid is returned as it is.
        token_mask: bool [T] or [..., T], True for tokens that count; None counts all.
        atom_mask: bool [N] or [..., N], True for atoms that count; None counts all.

    Raises:
        MetricError: when shapes do not fit, or unmasked rows are negative or do not sum to 1 (logits, a
            mask that does not belong to these weights, or tokens dropped without `renormalize`).
    """
    if isinstance(weights, AttentionGrid):
        require(token_mask is None and atom_mask is None, "A grid has its masks already: pass none beside it.")
        return weights
    values = to_float64(weights, "weights")
    require(
        values.ndim >= 3,
        f"Expected 'weights' to be [..., heads, atoms, tokens], got {shape_of(values)}: "
        "keep the head axis, of length 1 for averaged heads.",
    )
    batch, (heads, atoms, tokens) = tuple(values.shape[:-3]), values.shape[-3:]
    structures = count(batch)
    flat = values.reshape(structures, heads, atoms, tokens)
    keep_tokens = mask_of(token_mask, "token_mask", batch, tokens, values.device)
    keep_atoms = mask_of(atom_mask, "atom_mask", batch, atoms, values.device)
    blocks = tuple(_cut(flat[s], keep_atoms[s], keep_tokens[s]) for s in range(structures))
    return AttentionGrid(batch, heads, atoms, tokens, blocks, values.device)


def _cut(weights: Tensor, keep_atoms: Tensor, keep_tokens: Tensor) -> Block:
    atoms, tokens = keep_atoms.nonzero().flatten(), keep_tokens.nonzero().flatten()
    # A fresh copy even where nothing is dropped: vector kernels may round differently at another alignment.
    block = weights.index_select(1, atoms).index_select(2, tokens)
    if block.numel():
        _check_rows(block)
    return Block(block, atoms, tokens)


def _check_rows(block: Tensor) -> None:
    lowest = block.nan_to_num(nan=0.0).amin()
    if lowest < 0:
        raise MetricError(f"Expected softmax weights, got a negative one ({lowest:.3g}): pass weights, not logits.")
    sums = block.sum(-1)
    error = (sums - 1).abs().nan_to_num(nan=0.0)
    if error.max() > _ROW_SUM_TOLERANCE:
        worst = sums.flatten()[error.argmax()]
        raise MetricError(
            f"Expected rows that sum to 1 over the unmasked tokens, got {worst:.4g}: check that the masks "
            "belong to these weights, that no dropout is on, and call renormalize() after leaving tokens out."
        )


def expand_to_batch(values: Tensor, name: str, batch: tuple[int, ...], size: int) -> Tensor:
    """One row a structure: `values` ([size] or [..., size]) as [structures, size], dtype kept.

    Raises:
        MetricError: when `values` does not broadcast to [*batch, size].
    """
    try:
        require(values.ndim >= 1 and values.shape[-1] == size, "")
        return values.expand(*batch, size).reshape(count(batch), size)
    except (RuntimeError, MetricError) as error:
        raise MetricError(
            f"Expected '{name}' to be {[size]} or {[*batch, size]} to fit the array, got {shape_of(values)}."
        ) from error


def mask_of(mask: Array | None, name: str, batch: tuple[int, ...], size: int, device: torch.device) -> Tensor:
    """`mask` as bool [structures, size]; None is all True.

    Raises:
        MetricError: when the mask is not boolean or does not fit.
    """
    if mask is None:
        return torch.ones(count(batch), size, dtype=torch.bool, device=device)
    return expand_to_batch(to_bool(mask, name, device), name, batch, size)


def count(batch: tuple[int, ...]) -> int:
    """Number of structures in a batch of this shape; 1 for ()."""
    return math.prod(batch)
