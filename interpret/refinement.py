"""The parts of colour refinement: equal values, hashes of what arrives, colours as small numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
UIntArray = NDArray[np.uint64]
FloatArray = NDArray[np.float64]

# float32 lengths and cosines carry noise of this size; finer differences mean nothing.
_FLOAT32_NOISE = 1e-6
# A cluster wider than this many tolerances is a chain of close but different values, not one value with
# noise.
_WIDEST_CLUSTER = 3.0
# 2^31 - 1: products of two residues fit into 64 bits.
_PRIME = 2**31 - 1


def cluster_values(values: FloatArray, tolerance: float) -> IntArray:
    """Number the values so that equal up to noise is equal, and different is different.

    Sorted values are cut where the gap to the next exceeds the tolerance, so that no boundary runs through a
    group as it does with rounding. In disordered structures values lie so densely that such a group is a
    chain of
    different values: one wider than three tolerances is cut again at a tenth of the tolerance, down to the
    noise of float32, where what is still too wide is cut at equal steps.

    Args:
        values: (M,).
        tolerance: largest distance of values in one group.

    Returns:
        (M,) int64, 0 for the lowest group.
    """
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    gaps = np.diff(ranked, prepend=ranked[:1])
    cut = gaps > tolerance
    step = tolerance
    while len(ranked):
        group = np.cumsum(cut)
        bounds = np.searchsorted(group, np.arange(group[-1] + 2))
        low, high = ranked[bounds[:-1]], ranked[bounds[1:] - 1]
        wide = (high - low > _WIDEST_CLUSTER * step)[group]
        if not wide.any():
            break
        if step <= _FLOAT32_NOISE:
            slot = np.floor((ranked - low[group]) / (_WIDEST_CLUSTER * step))
            cut |= wide & (np.diff(slot, prepend=slot[:1]) > 0)
            break
        step = max(step / 10, _FLOAT32_NOISE)
        cut |= wide & (gaps > step)
    labels = np.empty(len(values), dtype=np.int64)
    labels[order] = np.cumsum(cut)
    return labels


class Arrivals:
    """What arrives at each of some groups, as colours; `owner` is the group at which each item arrives."""

    def __init__(self, owner: IntArray, number_of_groups: int, strict: bool) -> None:
        self.order = np.argsort(owner, kind="stable")
        self.count = np.bincount(owner, minlength=number_of_groups)
        self.reached = self.count > 0
        self.start = (np.cumsum(self.count) - self.count)[self.reached]
        # Division by a count modulo a prime is multiplication by its inverse.
        inverse = {n: 1 if strict else pow(n, -1, _PRIME) for n in set(self.count[self.reached].tolist())}
        self.weight = np.array([inverse[n] for n in self.count[self.reached].tolist()], dtype=np.int64)
        self.strict = strict

    def colours(self, sources: IntArray, links: IntArray) -> list[IntArray]:
        """Two numbers for each group, equal where the gated mean over its items is, or the multiset if
        strict.
        """
        low, high = self._reduced(np.minimum, sources), self._reduced(np.maximum, sources)
        found = []
        for seed in (1, 2):
            hashed = (_mixed(np.full(len(sources), seed), sources, links) % np.uint64(_PRIME)).astype(np.int64)
            sums = self._reduced(np.add, hashed) % _PRIME * self.weight % _PRIME
            # One kind of source: the mean is its value. Negative numbers are no hashes.
            found.append(sums if self.strict else np.where(low == high, -1 - low, sums))
        if self.strict:
            found.append(self.count[self.reached])
        complete = [np.zeros(len(self.count), dtype=np.int64) for _ in found]
        for column, values in zip(complete, found, strict=True):
            column[self.reached] = values
        return complete

    def _reduced(self, function: np.ufunc, values: IntArray) -> IntArray:
        reduced: IntArray = function.reduceat(values[self.order], self.start)
        return reduced


def _mixed(*columns: IntArray) -> UIntArray:
    """One 64-bit hash of each row, by the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    state = np.zeros(len(columns[0]), dtype=np.uint64)
    for column in columns:
        state = state * np.uint64(0x9E3779B97F4A7C15) + column.astype(np.uint64) + np.uint64(1)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return state


def colours_of(*columns: IntArray) -> IntArray:
    """Number the different rows from 0."""
    return np.unique(_mixed(*columns), return_inverse=True)[1].astype(np.int64)


def numbered_by_first(labels: NDArray[np.integer]) -> IntArray:
    """The same partition, numbered from 0 in the order in which the labels first occur."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    numbered: IntArray = rank[inverse]
    return numbered
