"""How much of the text is in the node features, layer by layer, always beside its control.

A raw cosine says nothing: unrelated vectors of d channels have a cosine of spread 1/sqrt(d), and features
that share a large mean have a high cosine with any text. The control is the same cosine with the text of
another structure.

Since ``mean_i cos(x_i, t) = mean_i (x_i / ||x_i||) . t / ||t||``, one vector a structure,
`mean_unit_nodes`, is all that has to be kept of a layer: its cosine with every text follows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.linalg import vector_norm

from interpret.metrics._arrays import Array, node_matrix, require, shape_of, to_float64, to_int64

# Half the squared distance of two unit vectors below which two texts are the same text.
_SAME_TEXT = 1e-12


def cosine_with_text(nodes: Array, text: Array) -> Tensor:
    """Cosine between each atom's features and the text.

    Args:
        nodes: [N, d].
        text: [d], broadcast to all atoms, or [N, d].

    Returns:
        [N], NaN where one of the two vectors is all zero.

    Raises:
        MetricError: when the number of channels or of atoms differs.
    """
    features = node_matrix(nodes, "nodes").features
    vectors = to_float64(text, "text")
    expected = (features.shape[1:], features.shape)
    require(
        vectors.shape in expected,
        f"Expected 'text' of shape {[features.shape[1]]} or {shape_of(features)} to fit 'nodes', "
        f"got {shape_of(vectors)}.",
    )
    return (_unit(features) * _unit(vectors)).sum(-1)


def mean_unit_nodes(
    nodes: Array, owner: Array | None = None, structures: int | None = None, *, mask: Array | None = None
) -> Tensor:
    """Mean over a structure's atoms of the features at unit length, the only thing a text control needs.

    Args:
        nodes: [N, d].
        owner: int [N], the structure of each atom; None when all belong to one.
        structures: B, needed with `owner`.
        mask: bool [N], True for atoms that count.

    Returns:
        [d], or [B, d] with `owner`. Atoms with all-zero features have no direction and are left out; NaN
        for a structure without any other. The vector of a structure does not depend on the others in the
        batch.

    Raises:
        MetricError: when shapes do not fit.
    """
    matrix = node_matrix(nodes, "nodes", mask)
    features = matrix.features
    require((owner is None) == (structures is None), "Expected 'owner' and 'structures' together or not at all.")
    number = 1 if structures is None else structures
    belongs = torch.zeros_like(matrix.positions)
    if owner is not None:
        all_owners = to_int64(owner, "owner", features.device)
        require(
            tuple(all_owners.shape) == (matrix.total,),
            f"Expected 'owner' [{matrix.total}], one value an atom, got {shape_of(all_owners)}.",
        )
        belongs = all_owners[matrix.positions]
        require(
            belongs.numel() == 0 or (int(belongs.min()) >= 0 and int(belongs.max()) < number),
            f"Expected 'owner' between 0 and {number - 1}.",
        )
    directed = vector_norm(features, dim=-1) != 0
    unit, belongs = _unit(features[directed]), belongs[directed]
    sums = unit.new_zeros(number, unit.shape[1]).index_add_(0, belongs, unit)
    sizes = torch.bincount(belongs, minlength=number).unsqueeze(-1)
    means = sums / sizes
    return means[0] if owner is None else means


def cosine_matrix(mean_units: Array, text: Array) -> Tensor:
    """Mean cosine of the atoms of every structure (row) with the text of every structure (column).

    Args:
        mean_units: [B, d], from `mean_unit_nodes`.
        text: [B, d] or [M, d].

    Returns:
        [B, B] or [B, M]; the diagonal of the former is each structure's cosine with its own text.

    Raises:
        MetricError: when the number of channels differs.
    """
    units, vectors = _matching(mean_units, text)
    return units @ _unit(vectors).T


def derangement(n: int, generator: torch.Generator) -> Tensor:
    """A permutation without fixed point, uniform over all of them, drawn by rejection.

    Args:
        n: at least 2: one structure has no other.
        generator: on the CPU, so that a seed gives the same draw on every device.

    Returns:
        int64 [n].

    Raises:
        MetricError: when n < 2.
    """
    require(n >= 2, f"A derangement needs at least two structures, got {n}.")
    identity = torch.arange(n)
    while True:
        # A permutation has no fixed point with probability about 1/e, whatever n.
        permutation = torch.randperm(n, generator=generator)
        if not bool((permutation == identity).any()):
            return permutation


class TextControl(NamedTuple):
    """Cosine with the own text beside the cosine with other texts.

    Attributes:
        own: [B], mean cosine of a structure's atoms with its own text.
        control_mean, control_sd: [B], over the repeats, with the text of another structure.
        excess: [B], ``own - control_mean``: what is specific to the own text.
        repeat_means: [repeats], mean over structures of each repeat.
        p_value: share of repeats, the observed one included, whose mean reaches that of the own texts.
        null_sd: 1/sqrt(d), spread of the cosine of unrelated directions.
        repeats, same_text: repeats drawn; draws left out because the other structure has the same text.
        reason: why the control is NaN, or None.
    """

    own: Tensor
    control_mean: Tensor
    control_sd: Tensor
    excess: Tensor
    repeat_means: Tensor
    p_value: float
    null_sd: float
    repeats: int
    same_text: int
    reason: str | None


def shuffled_control(nodes: Array | Sequence[Array], text: Array, *, repeats: int = 100, seed: int = 0) -> TextControl:
    """The cosine of node features with the text, own and of other structures by random derangement.

    The draw depends on the seed and on the order of the structures: sort them (by id) first for a
    reproducible figure.

    Args:
        nodes: [B, d] from `mean_unit_nodes`, or a list of B arrays [N_b, d] of node features.
        text: [B, d], e.g. each structure's text_transform output.
        repeats: number of derangements.
        seed: of the draw.

    Returns:
        TextControl; NaN controls with the reason where there is no other structure or no other text.

    Raises:
        MetricError: when shapes do not fit or `repeats` < 1.
    """
    require(repeats >= 1, f"Expected at least one repeat, got {repeats}.")
    means, vectors = _matching(_mean_units(nodes), text)
    count, channels = means.shape
    require(
        vectors.shape[0] == count,
        f"Expected one text for each of {count} structures, got {vectors.shape[0]}.",
    )
    direction = _unit(vectors)
    own = (means * direction).sum(-1)
    if count < 2:
        nan = torch.full_like(own, torch.nan)
        reason = "fewer than two structures, so there is no other text"
        return TextControl(own, nan, nan, nan, own.new_empty(0), math.nan, null_sd(channels), 0, 0, reason)
    generator = torch.Generator().manual_seed(seed)
    draws, same_text = [], 0
    for _ in range(repeats):
        other = direction[derangement(count, generator).to(direction.device)]
        same = (other - direction).square().sum(-1) / 2 <= _SAME_TEXT
        same_text += int(same.sum())
        draws.append(torch.where(same, torch.nan, (means * other).sum(-1)))
    return _control(own, torch.stack(draws), same_text, channels)


def null_sd(channels: int) -> float:
    """``1/sqrt(d)``, the standard deviation of the cosine of two random directions in d channels."""
    return 1 / math.sqrt(channels) if channels > 0 else math.nan


def _control(own: Tensor, draws: Tensor, same_text: int, channels: int) -> TextControl:
    """Summary of the draws [repeats, B]; NaN marks those left out."""
    known = ~draws.isnan()
    number = known.sum(0)
    filled = torch.where(known, draws, 0.0)
    mean = filled.sum(0) / number
    deviation = torch.where(known, draws - mean, 0.0).square().sum(0)
    sd = torch.where(number > 1, (deviation / (number - 1)).sqrt(), torch.nan)
    # A structure whose own cosine is undefined (no atoms, zero text) belongs to neither side.
    usable = ~own.isnan()
    repeat_means = filled[:, usable].sum(1) / known[:, usable].sum(1)
    drawn = repeat_means[~repeat_means.isnan()]
    reason, p_value = None, math.nan
    if drawn.numel():
        compared = usable & (number > 0)
        p_value = float(1 + (drawn >= own[compared].mean()).sum()) / (1 + drawn.numel())
    else:
        reason = "no structure has another one with a different text"
    return TextControl(
        own, mean, sd, own - mean, repeat_means, p_value, null_sd(channels), draws.shape[0], same_text, reason
    )


def _mean_units(nodes: Array | Sequence[Array]) -> Array:
    if not isinstance(nodes, (list, tuple)):
        return nodes  # type: ignore[return-value]
    units = [mean_unit_nodes(features) for features in nodes]
    return torch.stack(units) if units else torch.zeros(0, 0)


def _unit(vectors: Tensor) -> Tensor:
    unit: Tensor = vectors / vector_norm(vectors, dim=-1, keepdim=True)
    return unit


def _matching(mean_units: Array, text: Array) -> tuple[Tensor, Tensor]:
    units, vectors = to_float64(mean_units, "mean_units"), to_float64(text, "text")
    require(
        units.ndim == 2 and vectors.ndim == 2 and units.shape[1] == vectors.shape[1],
        f"Expected [structures, channels] with the same channels, got {shape_of(units)} and {shape_of(vectors)}.",
    )
    return units, vectors
