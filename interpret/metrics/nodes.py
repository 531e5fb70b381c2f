"""How alike the atoms of one structure are: features [N, d], one row an atom.

`mask` is bool [N], True for atoms that count. `classes` is int [N], e.g. the symmetry orbit of each atom:
atoms of one class must have equal features in an E(3)-invariant network, so with `classes` only pairs of
atoms of different classes count. Undefined values are NaN with a reason.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.linalg import vector_norm

from interpret.metrics._arrays import (
    Array,
    Undefined,
    labels_of,
    node_matrix,
    pair_index,
    require,
    shape_of,
    squared_distances,
    to_float64,
    to_int64,
    undefined,
    unit_centred,
)

# Half the squared distance of two unit vectors below which they point the same way: they then differ by less
# than 1.4e-6.
_SAME_DIRECTION = 1e-12


class PairValue(NamedTuple):
    """A mean over pairs of atoms, 0-d float64; pairs in it and left out as undefined; the reason if NaN."""

    value: Tensor
    pairs: int
    left_out: int
    reason: str | None


def pairwise_correlation(x: Array, *, classes: Array | None = None, mask: Array | None = None) -> PairValue:
    """Mean Pearson correlation between the features of two atoms, ``mean_{i<k} corr(x_i, x_k)``.

    1 where all atoms are alike up to scale and shift. Pairs with an atom whose features do not vary over
    channels are left out and counted.

    Raises:
        MetricError: when shapes do not fit.
    """
    features, first, second, reason = _pairs(x, classes, mask)
    if reason is not None:
        return _no_pairs(features, reason)
    unit, constant = unit_centred(features)
    distance = squared_distances(unit)[first, second] / 2
    return _pair_mean(1 - distance, ~(constant[first] | constant[second]), Undefined.CONSTANT)


def identical_share(
    x: Array, *, classes: Array | None = None, mask: Array | None = None, tolerance: float = 1e-6
) -> PairValue:
    """Share of pairs of atoms with the same features.

    A pair counts when ``max_c |x_ic - x_kc| <= tolerance max_c max(|x_ic|, |x_kc|)``. The difference is
    measured relative to the pair's largest absolute value: scaling all features by a constant then changes
    nothing, and rounding of large float32 features is not taken for a difference.

    Raises:
        MetricError: when shapes do not fit.
    """
    features, first, second, reason = _pairs(x, classes, mask)
    if reason is not None:
        return _no_pairs(features, reason)
    largest = features.abs().amax(-1)
    limit = tolerance * torch.maximum(largest[first], largest[second])
    distance = torch.cdist(features, features, p=torch.inf)[first, second]
    # The distance passes over NaN, the limit does not.
    same = torch.where(limit.isnan(), torch.nan, (distance <= limit).to(torch.float64))
    return _pair_mean(same, torch.ones_like(same, dtype=torch.bool), Undefined.DEFINED)


def mean_pair_distance(
    x: Array, *, classes: Array | None = None, mask: Array | None = None, relative: bool = False
) -> PairValue:
    """Mean Euclidean distance between two atoms, ``mean_{i<k} ||x_i - x_k||``.

    Args:
        x, classes, mask: as everywhere in this module.
        relative: divide by the mean norm of the atoms, to compare stages of different scale.

    Raises:
        MetricError: when shapes do not fit.
    """
    features, first, second, reason = _pairs(x, classes, mask)
    if reason is not None:
        return _no_pairs(features, reason)
    distance = squared_distances(features)[first, second].sqrt()
    if relative:
        scale = vector_norm(features, dim=-1).mean()
        if bool(scale == 0):
            return _no_pairs(features, "all features are zero")
        distance = distance / scale
    return _pair_mean(distance, torch.ones_like(distance, dtype=torch.bool), Undefined.DEFINED)


class MeanAverageDistance(NamedTuple):
    """MAD, 0-d float64, plain and as published; pairs counted, left out, and at distance zero.

    `reason` says why `plain` is NaN, `published_reason` why `published` is.
    """

    plain: Tensor
    published: Tensor
    pairs: int
    left_out: int
    zero_pairs: int
    reason: str | None
    published_reason: str | None


def mean_average_distance(x: Array, *, classes: Array | None = None, mask: Array | None = None) -> MeanAverageDistance:
    """Mean cosine distance ``1 - cos(x_i, x_k)`` between atoms.

    `plain` is the mean over pairs. `published` is MAD of Chen et al. 2020 (arXiv 1909.03211): each atom's
    mean over its *nonzero* distances, then the mean over atoms that have one, so that it stays large while
    most atoms have collapsed. With `classes` the pairs of different classes are its target mask. An atom
    with all-zero features has no direction: its pairs are left out and counted.

    Raises:
        MetricError: when shapes do not fit.
    """
    features, first, second, reason = _pairs(x, classes, mask)
    if reason is not None:
        nan = features.new_tensor(torch.nan)
        return MeanAverageDistance(nan, nan, 0, 0, 0, reason, reason)
    norm = vector_norm(features, dim=-1, keepdim=True)
    unit = torch.where(norm > 0, features / norm, 0.0)
    unit = torch.where(norm.isnan(), torch.nan, unit)
    distance = squared_distances(unit)[first, second] / 2
    zero_row = (norm == 0).flatten()
    defined = ~(zero_row[first] | zero_row[second])
    plain = _pair_mean(distance, defined, Undefined.CONSTANT)
    plain_reason = "every pair has an atom with all-zero features" if plain.pairs == 0 else plain.reason
    apart = defined & ~(distance <= _SAME_DIRECTION)
    zero_pairs = int((defined & ~apart).sum())
    published = _published(distance, apart, first, second, features.shape[0])
    published_reason = plain_reason
    if plain_reason is None and zero_pairs == plain.pairs:
        published_reason = "every pair is at distance zero, and the published average leaves those out"
    return MeanAverageDistance(
        plain.value, published, plain.pairs, plain.left_out, zero_pairs, plain_reason, published_reason
    )


def _published(distance: Tensor, apart: Tensor, first: Tensor, second: Tensor, atoms: int) -> Tensor:
    ends = torch.cat([first[apart], second[apart]])
    values = distance[apart].repeat(2)
    total = values.new_zeros(atoms).index_add_(0, ends, values)
    number = values.new_zeros(atoms).index_add_(0, ends, torch.ones_like(values))
    reached = number > 0
    return (total[reached] / number[reached]).mean()


class DirichletEnergy(NamedTuple):
    """Dirichlet energy and its root, 0-d float64; distinct neighbour pairs; the reason if NaN."""

    energy: Tensor
    root: Tensor
    pairs: int
    reason: str | None


def dirichlet_energy(
    x: Array, source: Array, target: Array, *, classes: Array | None = None, mask: Array | None = None
) -> DirichletEnergy:
    """Dirichlet energy ``(1/N) sum_i sum_{j in N(i)} ||x_i - x_j||^2`` over distinct neighbours.

    Cai & Wang 2020 (arXiv 2006.13318). Bonds to periodic images of one neighbour count once, bonds of an
    atom to its own image not at all, and a bond makes both of its atoms neighbours whichever way it points.

    Args:
        x: [N, d].
        source, target: int [E], positions in `x`.
        classes: int [N]; only neighbours of different classes count.
        mask: bool [N]; bonds of a masked atom are dropped and N counts the unmasked.

    Raises:
        MetricError: when shapes do not fit or a bond points outside `x`.

    Example:
        >>> dirichlet_energy([[0.0], [1.0], [3.0]], [0, 1], [1, 2]).energy
        tensor(3.3333, dtype=torch.float64)
    """
    nodes = node_matrix(x, mask=mask)
    features, total, device = to_float64(x, "x"), nodes.total, nodes.features.device
    i, j = to_int64(source, "source", device), to_int64(target, "target", device)
    require(i.ndim == 1 and i.shape == j.shape, f"Expected bonds [E], got {shape_of(i)} and {shape_of(j)}.")
    ends = torch.cat([i, j])
    inside = bool(((ends >= 0) & (ends < total)).all())
    require(inside, f"Expected bonds between the atoms 0 to {total - 1}, got positions outside of that.")
    allowed = torch.zeros(total, dtype=torch.bool, device=device)
    allowed[nodes.positions] = True
    keep = (i != j) & allowed[i] & allowed[j]
    if classes is not None:
        labels = torch.zeros(total, dtype=torch.int64, device=device)
        labels[nodes.positions] = labels_of(classes, nodes)
        keep &= labels[i] != labels[j]
    low, high = torch.minimum(i, j)[keep], torch.maximum(i, j)[keep]
    edges = torch.unique(low * max(total, 1) + high)
    if edges.numel() == 0:
        what = "no two distinct neighbours" if classes is None else "no two neighbours of different classes"
        nan = features.new_tensor(torch.nan)
        return DirichletEnergy(nan, nan, 0, what)
    squared = (features[edges // total] - features[edges % total]).square().sum(-1)
    energy = 2 * squared.sum() / nodes.positions.numel()
    return DirichletEnergy(energy, energy.sqrt(), edges.numel(), _finite_reason(energy))


def _finite_reason(value: Tensor) -> str | None:
    return None if bool(value.isfinite()) else Undefined.NOT_FINITE.sentence


def _pairs(x: Array, classes: Array | None, mask: Array | None) -> tuple[Tensor, Tensor, Tensor, str | None]:
    nodes = node_matrix(x, mask=mask)
    features = nodes.features
    labels = None if classes is None else labels_of(classes, nodes)
    first, second = pair_index(features.shape[0], labels, features.device)
    if features.shape[0] < 2:
        return features, first, second, Undefined.ONE_ATOM.sentence
    if first.numel() == 0:
        return features, first, second, Undefined.ONE_CLASS.sentence
    if features.shape[1] == 0:
        return features, first, second, "the features have no channel"
    return features, first, second, None


def _no_pairs(features: Tensor, reason: str) -> PairValue:
    value = undefined(reason, features.device)
    return PairValue(value.value, 0, 0, reason)


def _pair_mean(values: Tensor, defined: Tensor, none_defined: Undefined) -> PairValue:
    pairs = int(defined.sum())
    left_out = defined.numel() - pairs
    if pairs == 0:
        return PairValue(values.new_tensor(torch.nan), 0, left_out, none_defined.sentence)
    mean = values[defined].mean()
    return PairValue(mean, pairs, left_out, _finite_reason(mean))
