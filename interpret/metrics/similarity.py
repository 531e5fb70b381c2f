"""How alike two networks represent the same samples: x [n, d1] and y [n, d2], one row a sample.

Print n, d and the estimator beside every figure: plain CKA is biased upwards when n is not much larger than
d.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.linalg import vector_norm

from interpret.metrics._arrays import (
    Array,
    Undefined,
    Value,
    require,
    shape_of,
    squared_distances,
    to_float64,
    undefined,
)
from model.errors import DataError


def linear_cka(x: Array, y: Array) -> Value:
    """Linear CKA, ``||Y^T X||_F^2 / (||X^T X||_F ||Y^T Y||_F)`` of centred features (Kornblith et al. 2019).

    Args:
        x: [n, d1].
        y: [n, d2].

    Returns:
        0-d in [0, 1], exactly 1 for x = y; NaN with the reason for fewer than two samples or constant
        features.

    Raises:
        MetricError: when the two do not have the same number of samples.
    """
    first, second = _samples(x, y)
    if first.shape[0] < 2:
        return undefined("fewer than two samples", first.device)
    first, second = first - first.mean(0), second - second.mean(0)
    cross = _squared_cross(first, second)
    return _ratio(cross, _squared_cross(first, first), _squared_cross(second, second))


def rbf_cka(x: Array, y: Array, *, sigma: float = 0.5) -> Value:
    """CKA with the kernel ``exp(-d^2 / (2 sigma^2 median(d^2)))`` (Kornblith et al. 2019).

    The median is taken over all n x n squared distances, the zeros of the diagonal included, as published.

    Args:
        x: [n, d1].
        y: [n, d2].
        sigma: bandwidth as a fraction of the median distance.

    Returns:
        0-d in [0, 1]; NaN with the reason for fewer than two samples or where the median distance is 0.

    Raises:
        MetricError: when the two do not have the same number of samples, or `sigma` is not positive.
    """
    require(sigma > 0, f"Expected a positive 'sigma', got {sigma}.")
    first, second = _samples(x, y)
    if first.shape[0] < 2:
        return undefined("fewer than two samples", first.device)
    kernels = [_rbf_kernel(values, sigma) for values in (first, second)]
    if kernels[0] is None or kernels[1] is None:
        return undefined("at least half of the samples are at distance zero of each other", first.device)
    k, m = _centre(kernels[0]), _centre(kernels[1])
    return _ratio((k * m).sum(), (k * k).sum(), (m * m).sum())


def debiased_cka(x: Array, y: Array) -> Value:
    """Linear CKA with the unbiased HSIC_1 (Song et al. 2012) in place of each term.

    Around 0 for unrelated features whatever n and d; it may be negative and is reported as it is.

    Args:
        x: [n, d1].
        y: [n, d2].

    Returns:
        0-d, exactly 1 for x = y; NaN with the reason for n <= 3 or a term that is not positive.

    Raises:
        MetricError: when the two do not have the same number of samples.
    """
    return MinibatchCKA().update(x, y).compute()


@dataclass(frozen=True)
class MinibatchCKA:
    """CKA from minibatches: mean HSIC_1 over batches, then the ratio (Nguyen et al. 2021, arXiv 2010.15327).

    Mergeable: states of disjoint batches add up in any order. The value depends on how the samples are cut
    into batches, so compare figures of one batch size only; `debiased_cka` on all samples does not have
    that freedom.

    Attributes:
        cross, own_x, own_y: 0-d sums over batches of HSIC_1(x, y), HSIC_1(x, x) and HSIC_1(y, y).
        batches, samples: what the sums are made of.
        skipped: samples of batches with n <= 3, for which HSIC_1 is undefined.
    """

    cross: float = 0.0
    own_x: float = 0.0
    own_y: float = 0.0
    batches: int = 0
    samples: int = 0
    skipped: int = 0

    def update(self, x: Array, y: Array) -> MinibatchCKA:
        """The state with one batch more, x [n, d1] and y [n, d2].

        Raises:
            MetricError: when the two do not have the same number of samples.
        """
        first, second = _samples(x, y)
        count = first.shape[0]
        if count <= 3:
            return MinibatchCKA(self.cross, self.own_x, self.own_y, self.batches, self.samples, self.skipped + count)
        left, right = _Centred.of(first), _Centred.of(second)
        return MinibatchCKA(
            self.cross + _hsic1(left, right),
            self.own_x + _hsic1(left, left),
            self.own_y + _hsic1(right, right),
            self.batches + 1,
            self.samples + count,
            self.skipped,
        )

    def merge(self, other: MinibatchCKA) -> MinibatchCKA:
        """The state of the batches of both."""
        return MinibatchCKA(
            self.cross + other.cross,
            self.own_x + other.own_x,
            self.own_y + other.own_y,
            self.batches + other.batches,
            self.samples + other.samples,
            self.skipped + other.skipped,
        )

    def compute(self) -> Value:
        """The ratio of the means, 0-d float64, or NaN with the reason."""
        if self.batches == 0:
            return undefined("an unbiased estimate needs a batch of more than three samples")
        terms = (torch.tensor(term, dtype=torch.float64) for term in (self.cross, self.own_x, self.own_y))
        return _ratio(*terms)


def procrustes_distance(x: Array, y: Array) -> Value:
    """Orthogonal Procrustes distance ``min_Q ||X - Y Q||_F^2 = 2 - 2 ||X^T Y||_*`` (Ding et al. 2021).

    X and Y are centred and scaled to Frobenius norm 1; the distance runs from 0 (equal up to rotation,
    shift and scale) to 2. Unlike CKA it also sees directions of small variance.

    Args:
        x: [n, d1].
        y: [n, d2].

    Returns:
        0-d, exactly 0 for x = y; NaN with the reason for fewer than two samples or constant features.

    Raises:
        MetricError: when the two do not have the same number of samples.
    """
    first, second = _samples(x, y)
    if first.shape[0] < 2:
        return undefined("fewer than two samples", first.device)
    scaled = []
    for values in (first, second):
        if not bool(values.isfinite().all()):
            return undefined(str(Undefined.NOT_FINITE.sentence), first.device)
        centred = values - values.mean(0)
        norm = vector_norm(centred)
        if bool(norm == 0):
            return undefined("the features are the same for all samples", first.device)
        scaled.append(centred / norm)
    if torch.equal(*scaled):
        return Value(first.new_zeros(()))
    nuclear = torch.linalg.svdvals(scaled[0].T @ scaled[1]).sum()
    return Value((2 - 2 * nuclear).clamp(min=0.0))


def check_sample_ids(ids_x: Sequence[str], ids_y: Sequence[str]) -> None:
    """Make sure that row k of both representations is the same sample.

    Raises:
        DataError: when the ids differ in number, in value or in order.
    """
    if len(ids_x) != len(ids_y):
        raise DataError(f"Expected the same samples in both runs, got {len(ids_x)} and {len(ids_y)}.")
    for row, (left, right) in enumerate(zip(ids_x, ids_y, strict=True)):
        if left != right:
            raise DataError(
                f"Expected the same samples in the same order, row {row} is {left!r} in one run and "
                f"{right!r} in the other: run both on the same data and sort by id."
            )


class _Centred(NamedTuple):
    """Centred features of a batch, with the sums of its kernel K = X X^T that HSIC_1 needs."""

    features: Tensor
    diagonal: Tensor
    row_sums: Tensor

    @classmethod
    def of(cls, values: Tensor) -> _Centred:
        # HSIC_1 does not change with a shift of the features; centring keeps the cancellation small.
        features = values - values.mean(0)
        diagonal = features.square().sum(-1)
        return cls(features, diagonal, features @ features.sum(0) - diagonal)


def _hsic1(x: _Centred, y: _Centred) -> float:
    """Unbiased HSIC of two linear kernels, equation 5 of Song et al. 2012, without forming the kernels.

    ``(tr(KL) + 1K1 1L1 / ((n-1)(n-2)) - 2/(n-2) 1KL1) / (n(n-3))`` with the diagonals of K and L set to 0.
    """
    n = x.features.shape[0]
    trace = _squared_cross(x.features, y.features) - (x.diagonal * y.diagonal).sum()
    totals = x.row_sums.sum() * y.row_sums.sum() / ((n - 1) * (n - 2))
    mixed = 2 / (n - 2) * (x.row_sums * y.row_sums).sum()
    return float((trace + totals - mixed) / (n * (n - 3)))


def _squared_cross(x: Tensor, y: Tensor) -> Tensor:
    """``||Y^T X||_F^2``, through the n x n kernels where they are the smaller matrices."""
    if x.shape[0] < max(x.shape[1], y.shape[1]):
        return ((x @ x.T) * (y @ y.T)).sum()
    return (y.T @ x).square().sum()


def _rbf_kernel(values: Tensor, sigma: float) -> Tensor | None:
    squared = squared_distances(values)
    # torch.median returns the lower of the two middle values; the definition takes their mean.
    flat = squared.flatten().sort().values
    median = (flat[(flat.numel() - 1) // 2] + flat[flat.numel() // 2]) / 2
    return None if bool(median == 0) else torch.exp(-squared / (2 * sigma**2 * median))


def _centre(kernel: Tensor) -> Tensor:
    return kernel - kernel.mean(0) - kernel.mean(1, keepdim=True) + kernel.mean()


def _ratio(cross: Tensor, own_x: Tensor, own_y: Tensor) -> Value:
    if not bool((cross + own_x + own_y).isfinite()):
        return undefined(str(Undefined.NOT_FINITE.sentence), cross.device)
    if bool(own_x <= 0) or bool(own_y <= 0):
        return undefined("the features of one side do not vary between samples", cross.device)
    return Value(cross / (own_x * own_y).sqrt())


def _samples(x: Array, y: Array) -> tuple[Tensor, Tensor]:
    first, second = to_float64(x, "x"), to_float64(y, "y")
    require(
        first.ndim == 2 and second.ndim == 2 and first.shape[0] == second.shape[0],
        f"Expected 'x' [n, d1] and 'y' [n, d2] of the same samples, got {shape_of(first)} and {shape_of(second)}.",
    )
    return first, second
