"""How many directions and how much variance the atoms of one structure span: features [N, d]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.linalg import vector_norm

from interpret.metrics._arrays import (
    CONSTANT_TOLERANCE,
    Array,
    Undefined,
    Value,
    labels_of,
    node_matrix,
    require,
    undefined,
)


def class_means(x: Array, classes: Array, *, mask: Array | None = None) -> tuple[Tensor, Tensor]:
    """Mean features of each class of atoms, and the number of atoms in it.

    Args:
        x: [N, d].
        classes: int [N].
        mask: bool [N], True for atoms that count.

    Returns:
        float64 [C, d] and int64 [C], in ascending order of the class.

    Raises:
        MetricError: when shapes do not fit.
    """
    nodes = node_matrix(x, mask=mask)
    features = nodes.features
    _, member, sizes = torch.unique(labels_of(classes, nodes), return_inverse=True, return_counts=True)
    sums = features.new_zeros(sizes.numel(), features.shape[1]).index_add_(0, member, features)
    return sums / sizes.unsqueeze(-1), sizes


def feature_variance(x: Array, *, classes: Array | None = None, mask: Array | None = None) -> Value:
    """Sample variance between atoms, mean over channels: ``mean_c var_i x_ic``.

    With `classes`, the variance between the class means, one row a class.

    Raises:
        MetricError: when shapes do not fit.
    """
    rows, reason = _distinct(x, classes, mask)
    if reason is not None:
        return undefined(reason, rows.device)
    return _checked(rows.var(0).mean())


def effective_rank(x: Array, *, classes: Array | None = None, mask: Array | None = None) -> Value:
    """``exp(entropy of s / sum s)``, s the singular values of the centred features (Roy & Vetterli 2007).

    0 when all rows are equal ("collapsed", within 1e-6 of their norm), n - 1 for n orthogonal rows of equal
    norm. With `classes`, of the class means, one row a class, so that equal atoms are not counted again.

    Raises:
        MetricError: when shapes do not fit.

    Example:
        >>> round(float(effective_rank([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]).value), 6)
        2.0
    """
    rows, reason = _distinct(x, classes, mask)
    if reason is not None:
        return undefined(reason, rows.device)
    if not bool(rows.isfinite().all()):
        return undefined(str(Undefined.NOT_FINITE.sentence), rows.device)
    centred = rows - rows.mean(0)
    if bool(vector_norm(centred) <= CONSTANT_TOLERANCE * vector_norm(rows)):
        return Value(rows.new_zeros(()))
    singular = torch.linalg.svdvals(centred)
    return Value(torch.special.entr(singular / singular.sum()).sum().exp())


def between_class_variance_share(x: Array, classes: Array, *, mask: Array | None = None) -> Value:
    """Variance between classes over total variance, ``sum_c n_c ||m_c - m||^2 / sum_i ||x_i - m||^2``.

    1 where only inequivalent atoms differ, as in an E(3)-invariant network whose atoms have not collapsed.
    NaN where all atoms have the same features, or there is one class.

    Raises:
        MetricError: when shapes do not fit.
    """
    features = node_matrix(x, mask=mask).features
    means, sizes = class_means(x, classes, mask=mask)
    if sizes.numel() < 2:
        return undefined(str(Undefined.ONE_CLASS.sentence), features.device)
    centre = features.mean(0)
    total = (features - centre).square().sum()
    if bool(total.sqrt() <= CONSTANT_TOLERANCE * vector_norm(features)):
        return undefined("all atoms have the same features", features.device)
    return _checked((sizes * (means - centre).square().sum(-1)).sum() / total)


class Collapse(NamedTuple):
    """Where a statistic falls to its threshold and stays there.

    Attributes:
        stage: the first stage of the last run of stages at or below the threshold; None when there is none.
        before: the defined stage before it; None when the statistic was low from the start.
        recovered: stages at or below the threshold that a later stage rose above again.
        reason: in words, whenever `stage` is None or `before` is None.
    """

    stage: str | None
    before: str | None
    recovered: tuple[str, ...]
    reason: str | None


def stage_of_collapse(values_by_stage: Mapping[str, float], threshold: float) -> Collapse:
    """The stage of the network after which atoms stay alike.

    Args:
        values_by_stage: a statistic that is large where atoms differ (e.g. MAD, effective rank, ``1 -
            correlation``), by stage, in the order of the network. NaN stages are undefined and skipped.
        threshold: at or below it, the atoms of a stage have collapsed.

    Raises:
        MetricError: when no stage is given.
    """
    require(len(values_by_stage) > 0, "Expected at least one stage.")
    known = [(stage, float(value)) for stage, value in values_by_stage.items() if float(value) == float(value)]
    if not known:
        return Collapse(None, None, (), "the statistic is undefined at every stage")
    low = [value <= threshold for _, value in known]
    start = len(low)
    while start > 0 and low[start - 1]:
        start -= 1
    recovered = tuple(stage for (stage, _), is_low in zip(known[:start], low[:start], strict=True) if is_low)
    if start == len(low):
        return Collapse(None, known[-1][0], recovered, "the last stage is above the threshold")
    if start == 0:
        return Collapse(known[0][0], None, recovered, "atoms are alike from the first stage on")
    return Collapse(known[start][0], known[start - 1][0], recovered, None)


def _distinct(x: Array, classes: Array | None, mask: Array | None) -> tuple[Tensor, str | None]:
    """The atoms, or one mean row a class, and why there are too few of them."""
    features = node_matrix(x, mask=mask).features
    if features.shape[1] == 0:
        return features, "the features have no channel"
    if features.shape[0] < 2:
        return features, Undefined.ONE_ATOM.sentence
    if classes is None:
        return features, None
    means, _ = class_means(x, classes, mask=mask)
    return means, None if means.shape[0] > 1 else Undefined.ONE_CLASS.sentence


def _checked(value: Tensor) -> Value:
    return Value(value, None if bool(value.isfinite()) else Undefined.NOT_FINITE.sentence)
