"""What fusion does to the nodes, and what to do about a gate that does too little or too much."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from scipy import stats
from torch import Tensor
from torch.linalg import vector_norm

from interpret.metrics._arrays import (
    CONSTANT_TOLERANCE,
    Array,
    Value,
    node_matrix,
    require,
    shape_of,
    to_float64,
    undefined,
)


def scale_ratio(nodes: Array, text: Array) -> Value:
    """Mean norm of the node features over the mean norm of the text features at the gate's input.

    Far from 1, a concatenation of the two is decided by the larger one.

    Args:
        nodes: [N, d].
        text: [e], [N, e] or [B, e]; a single vector stands for all atoms.

    Returns:
        A 0-d value, or NaN with the reason.

    Raises:
        MetricError: when shapes do not fit.
    """
    features = node_matrix(nodes, "nodes").features
    vectors = to_float64(text, "text")
    require(
        vectors.ndim in (1, 2),
        f"Expected 'text' to be [channels] or [rows, channels], got {shape_of(vectors)}.",
    )
    if features.shape[0] == 0 or vectors.numel() == 0:
        return undefined("no atom or no text vector", features.device)
    text_norm = vector_norm(vectors, dim=-1).mean()
    if bool(text_norm == 0):
        return undefined("the text vectors are all zero", features.device)
    return Value(vector_norm(features, dim=-1).mean() / text_norm)


def relative_change(before: Array, after: Array) -> Tensor:
    """How far fusion moves each atom: ``||x_out - x_in|| / ||x_in||``.

    Args:
        before, after: [N, d], the features before and after fusion.

    Returns:
        [N], NaN for an atom whose features were all zero.

    Raises:
        MetricError: when the two shapes differ.
    """
    first = node_matrix(before, "before").features
    second = node_matrix(after, "after").features
    require(
        first.shape == second.shape,
        f"Expected 'before' and 'after' of one shape, got {shape_of(first)} and {shape_of(second)}.",
    )
    norm = vector_norm(first, dim=-1)
    return torch.where(norm > 0, vector_norm(second - first, dim=-1) / norm, torch.nan)


class ChangeCorrelation(NamedTuple):
    """Correlation of two per-atom quantities, the atoms it rests on, and the reason if it is NaN."""

    pearson: float
    spearman: float
    atoms: int
    reason: str | None


def change_correlation(alpha: Array, change: Array) -> ChangeCorrelation:
    """Pearson and Spearman correlation of alpha with the change that fusion makes.

    A gate that opens should go with a larger change. Atoms where one of the two is NaN are left out.

    Args:
        alpha, change: [N].

    Returns:
        Both coefficients; NaN with the reason for fewer than three atoms, or where one of the two does not
        vary.

    Raises:
        MetricError: when the two are not vectors of one length.
    """
    x, y = to_float64(alpha, "alpha").cpu(), to_float64(change, "change").cpu()
    require(
        x.ndim == 1 and x.shape == y.shape,
        f"Expected 'alpha' and 'change' to be [atoms], got {shape_of(x)} and {shape_of(y)}.",
    )
    known = ~(x.isnan() | y.isnan())
    x, y = x[known], y[known]
    count = x.numel()
    if count < 3:
        return ChangeCorrelation(math.nan, math.nan, count, "fewer than three atoms")
    for name, values in (("alpha", x), ("the change", y)):
        if bool(values.amax() - values.amin() <= CONSTANT_TOLERANCE * values.abs().amax()):
            return ChangeCorrelation(math.nan, math.nan, count, f"{name} is the same for all atoms")
    pearson = float(stats.pearsonr(x.numpy(), y.numpy()).statistic)
    spearman = float(stats.spearmanr(x.numpy(), y.numpy()).statistic)
    return ChangeCorrelation(pearson, spearman, count, None)


class Recommendation(NamedTuple):
    """One step of the decision path: what to do, the weight that says so, its mean, the limit it misses."""

    action: str
    weight: str
    measured: float
    limit: float
    explanation: str


def decision_path(
    quality: Array | None = None,
    fusion: Array | None = None,
    effective: Array | None = None,
    *,
    instability: bool | None = None,
    effective_limit: float = 0.3,
    quality_limit: float = 0.5,
) -> list[Recommendation]:
    """What to change in a gated global fusion, from the mean of its weights over structures.

    Effective weight below 0.3: simplify the gate. Quality weight below 0.5: improve the quality detector.
    Training unstable: warm the gate up. All that apply, in this order; empty when nothing does.

    Args:
        quality: [...] weights of the text-quality gate; None or NaN where the model has none.
        fusion: [...] weights of the fusion gate, to tell which of the two factors holds the effective
            weight down.
        effective: [...] their product, or the single gate of a simplified model.
        instability: whether training was unstable; None when that is not known.
        effective_limit, quality_limit: the limits.

    Raises:
        MetricError: when an argument does not hold real numbers.
    """
    means = {
        name: _mean(values, name)
        for name, values in (("quality", quality), ("fusion", fusion), ("effective", effective))
    }
    path = []
    if means["effective"] < effective_limit:
        path.append(
            Recommendation("simplify the gate", "effective", means["effective"], effective_limit, _held_down(means))
        )
    if means["quality"] < quality_limit:
        explanation = "the quality detector discounts most texts: a shallower one, or a learnable threshold"
        path.append(
            Recommendation("improve the quality detector", "quality", means["quality"], quality_limit, explanation)
        )
    if instability:
        explanation = "training was unstable: scale the gate up over the first steps"
        path.append(Recommendation("warm up the gate", "training", math.nan, math.nan, explanation))
    return path


def _held_down(means: dict[str, float]) -> str:
    quality, fusion = means["quality"], means["fusion"]
    if math.isnan(quality) or math.isnan(fusion):
        return "little of the text reaches the prediction: one gate that is open from the start"
    lower = "quality" if quality < fusion else "fusion"
    return (
        f"the product of quality ({quality:.3g}) and fusion ({fusion:.3g}) lets little of the text through, "
        f"the {lower} weight holds it down: one gate in place of the product"
    )


def _mean(values: Array | None, name: str) -> float:
    if values is None:
        return math.nan
    numbers = to_float64(values, name)
    known = numbers[~numbers.isnan()]
    return float(known.mean()) if known.numel() else math.nan
