"""What every kernel shares: arrays in, float64 tensors out, undefined values with their reason."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.linalg import vector_norm

from model.errors import InterpretError

Array: TypeAlias = Tensor | ArrayLike

# A row whose values differ by less than this share of its largest one is constant: float32 softmax and
# normalisation layers leave relative rounding of about 1e-7, and a correlation with that is noise.
CONSTANT_TOLERANCE = 1e-6

# Pairs are compared in chunks of about this many float64 values (0.5 MB): they stay in the cache and
# keep memory bounded whatever the structure's size.
_CHUNK_VALUES = 65_536


class MetricError(InterpretError, ValueError):
    """A kernel was given arrays whose shape, type or content does not fit it."""


class Undefined(IntEnum):
    """Why a statistic is NaN. 0 means that it is defined."""

    DEFINED = 0
    NO_ROWS = 1
    ONE_ATOM = 2
    ONE_TOKEN = 3
    ONE_HEAD = 4
    ONE_CLASS = 5
    CONSTANT = 6
    NOT_FINITE = 7

    @property
    def sentence(self) -> str | None:
        """The reason in words; None where the statistic is defined."""
        return _SENTENCES[self]


_SENTENCES: dict[Undefined, str | None] = {
    Undefined.DEFINED: None,
    Undefined.NO_ROWS: "no unmasked atom or token",
    Undefined.ONE_ATOM: "fewer than two unmasked atoms, so there is no pair to compare",
    Undefined.ONE_TOKEN: "fewer than two unmasked tokens, so every row is the same by construction",
    Undefined.ONE_HEAD: "fewer than two heads, so there is no pair to compare",
    Undefined.ONE_CLASS: "no two unmasked atoms belong to different classes",
    Undefined.CONSTANT: "every pair has a row without variation, for which a correlation is undefined",
    Undefined.NOT_FINITE: "the values hold NaN or infinity",
}


class Value(NamedTuple):
    """One statistic: a 0-d float64 tensor, and the reason in words where it is NaN."""

    value: Tensor
    reason: str | None = None


def undefined(reason: str, device: torch.device | None = None) -> Value:
    """NaN with the reason for it."""
    return Value(torch.tensor(torch.nan, dtype=torch.float64, device=device), reason)


def require(condition: bool, message: str) -> None:
    """Raise MetricError with `message` unless `condition` holds."""
    if not condition:
        raise MetricError(message)


def shape_of(values: Tensor) -> str:
    """The shape as it is written in messages, e.g. ``[8, 20, 103]``."""
    return str(list(values.shape))


def to_float64(values: Array, name: str) -> Tensor:
    """`values` as a detached float64 tensor on its own device.

    Args:
        values: tensor, numpy array or nested sequence of real numbers, any shape.
        name: what the array is, for the message.

    Raises:
        MetricError: when `values` cannot be read as real numbers.
    """
    if isinstance(values, Tensor):
        require(not values.is_complex(), f"Expected '{name}' to hold real numbers, got {values.dtype}.")
        # Apple's backend has no float64.
        tensor = values.detach().cpu() if values.device.type == "mps" else values.detach()
        return tensor.to(torch.float64)
    return torch.from_numpy(_numpy(values, np.float64, name))


def to_bool(values: Array, name: str, device: torch.device) -> Tensor:
    """`values` as a boolean tensor; 0 and 1 are accepted, other numbers are not.

    Raises:
        MetricError: when a value is neither 0 nor 1.
    """
    tensor = values.detach().to(device) if isinstance(values, Tensor) else _generic(values, name).to(device)
    if tensor.dtype != torch.bool:
        known = (tensor == 0) | (tensor == 1)
        require(bool(known.all()), f"Expected '{name}' to be boolean (or 0 and 1), got {tensor.dtype} values.")
    return tensor.to(torch.bool)


def to_int64(values: Array, name: str, device: torch.device) -> Tensor:
    """`values` as an int64 tensor.

    Raises:
        MetricError: when a value is not a whole number.
    """
    tensor = values.detach().to(device) if isinstance(values, Tensor) else _generic(values, name).to(device)
    whole = tensor.to(torch.int64)
    require(
        tensor.numel() == 0 or bool((whole == tensor).all()),
        f"Expected '{name}' to hold whole numbers, got {tensor.dtype} values that are not.",
    )
    return whole


def _numpy(values: ArrayLike, dtype: Any, name: str) -> Any:
    try:
        return np.array(values, dtype=dtype)
    except (TypeError, ValueError) as error:
        raise MetricError(f"Expected '{name}' to be an array of numbers: {error}.") from error


def _generic(values: ArrayLike, name: str) -> Tensor:
    array = _numpy(values, None, name)
    require(array.dtype.kind in "biuf", f"Expected '{name}' to be an array of numbers, got {array.dtype}.")
    return torch.from_numpy(array)


class NodeMatrix(NamedTuple):
    """Features [n, d] of the unmasked atoms, their positions [n], and the number of atoms before masking."""

    features: Tensor
    positions: Tensor
    total: int


def node_matrix(x: Array, name: str = "x", mask: Array | None = None) -> NodeMatrix:
    """Features of the unmasked atoms.

    Args:
        x: [N, d].
        name: what the array is, for the message.
        mask: bool [N], True for atoms that count; None counts all.

    Raises:
        MetricError: when `x` is not two-dimensional or `mask` does not have one value per atom.
    """
    features = to_float64(x, name)
    require(features.ndim == 2, f"Expected '{name}' to be [atoms, channels], got {shape_of(features)}.")
    if mask is None:
        positions = torch.arange(features.shape[0], device=features.device)
        return NodeMatrix(features, positions, features.shape[0])
    keep = to_bool(mask, "mask", features.device)
    require(
        tuple(keep.shape) == (features.shape[0],),
        f"Expected 'mask' with one value for each of the {features.shape[0]} atoms, got {shape_of(keep)}.",
    )
    positions = keep.nonzero().flatten()
    return NodeMatrix(features.index_select(0, positions), positions, features.shape[0])


def labels_of(classes: Array, nodes: NodeMatrix) -> Tensor:
    """Classes int64 [n] of the unmasked atoms, from `classes` [N] of all of them.

    Raises:
        MetricError: when there is not one whole number per atom.
    """
    labels = to_int64(classes, "classes", nodes.features.device)
    require(
        tuple(labels.shape) == (nodes.total,),
        f"Expected 'classes' with one value for each of the {nodes.total} atoms, got {shape_of(labels)}.",
    )
    return labels[nodes.positions]


def pair_index(count: int, classes: Tensor | None, device: torch.device) -> tuple[Tensor, Tensor]:
    """All pairs i < k of `count` items; with `classes` [count] only the pairs of different classes."""
    first, second = torch.triu_indices(count, count, offset=1, device=device)
    if classes is not None:
        differ = classes[first] != classes[second]
        first, second = first[differ], second[differ]
    return first, second


def unit_centred(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows minus their mean, divided by their norm, and which rows are constant.

    The dot product of two such rows is their Pearson correlation r, and half the squared distance between
    them is 1 - r, exactly 0 for equal rows.

    Args:
        rows: [..., R, T].

    Returns:
        [..., R, T] with constant rows all zero, and bool [..., R].
    """
    if rows.shape[-1] == 0:
        return rows, torch.ones(rows.shape[:-1], dtype=torch.bool, device=rows.device)
    spread = rows.amax(-1) - rows.amin(-1)
    constant = spread <= CONSTANT_TOLERANCE * rows.abs().amax(-1)
    centred = rows - rows.mean(-1, keepdim=True)
    norm = vector_norm(centred, dim=-1, keepdim=True)
    drop = constant.unsqueeze(-1)
    return torch.where(drop, 0.0, centred / torch.where(drop, 1.0, norm)), constant


def squared_distances(rows: Tensor) -> Tensor:
    """Squared Euclidean distances [..., R, R] of the rows [..., R, T], exactly 0 for equal ones.

    Through differences, not through products, which lose small distances to cancellation.
    """
    return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").square()


def pair_chunks(first: Tensor, second: Tensor, values_per_pair: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The pairs in chunks that keep memory bounded for structures of many atoms."""
    size = max(1, _CHUNK_VALUES // max(1, values_per_pair))
    yield from zip(torch.split(first, size), torch.split(second, size), strict=True)
