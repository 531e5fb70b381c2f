"""The four attention statistics as the upstream comparison script computes them, over padding, and as they are.

The script averages the heads of a padded batch and takes the mean over every row of the array: rows of atoms that do
not exist count like others, columns of tokens that do not exist count to the length of a row, a structure counts as
often as the largest of its batch has atoms, and 1e-8 is added to every weight before the entropy. Its figures change
with the batch size.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interpret.hooks import Capture, HookRegistry
from interpret.metrics import attention
from interpret.runner import Runner
from model.batch import collate
from model.errors import TapError

if TYPE_CHECKING:
    from model.dataset import CrystalDataset
    from model.encoder import TextEncoder
    from model.network import CrystalTextNetwork

TAP = "attention.atom_to_token"
_EPSILON = 1e-8
_STATISTICS = {
    "entropy": attention.entropy,
    "max_weight": attention.max_weight,
    "effective_tokens": attention.effective_tokens,
    "gini": attention.gini,
}
METRICS = tuple(_STATISTICS)
# The ways of counting, from the script's to ours, each with one thing put right.
STEPS = (
    "padded",
    "without padded atoms",
    "without padding",
    "mean over structures",
    "head by head",
)


def padded_statistics(
    network: CrystalTextNetwork, dataset: CrystalDataset, encoder: TextEncoder, *, batch_size: int = 32
) -> pd.DataFrame:
    """The four statistics of one network by every way of counting.

    Args:
        batch_size: of the script, whose figures depend on it.

    Returns:
        One row a step of :data:`STEPS`, columns ``step`` and :data:`METRICS`.

    Raises:
        TapError: the network has no attention from atoms to tokens.
    """
    if not network.config.use_fine_grained_attention:
        raise TapError(f"expected a network with the tap {TAP!r}: this one has no attention from atoms to tokens")
    rows: dict[str, list[np.ndarray]] = {step: [] for step in STEPS}
    for capture in _captures(network, dataset, encoder, batch_size):
        averaged = capture.values.double().mean(dim=1)
        atoms = capture.mask("atom")
        assert atoms is not None
        rows["padded"].append(script_rows(averaged.flatten(0, 1)))
        rows["without padded atoms"].append(script_rows(averaged[atoms]))
        for weights in capture.per_structure():
            mean = attention.average_heads(weights.double())
            own = _ours(mean)
            rows["without padding"].append(own)
            rows["mean over structures"].append(own.mean(axis=0, keepdims=True))
            rows["head by head"].append(_ours(weights.double()).mean(axis=0, keepdims=True))
    means = [np.concatenate(rows[step]).mean(axis=0) for step in STEPS]
    return pd.DataFrame(means, columns=list(METRICS)).assign(step=STEPS)[["step", *METRICS]]


def _captures(
    network: CrystalTextNetwork, dataset: CrystalDataset, encoder: TextEncoder, batch_size: int
) -> Iterator[Capture]:
    """Attention of the data set in its own order, in batches of the given size, float64."""
    twin = copy.deepcopy(network).double().eval()
    runner = Runner(network, encoder, batch_size=batch_size, most_atoms=2**62)
    registry = HookRegistry(twin).capture(TAP)
    for batch in runner.batches(dataset):
        tensors = collate([one.graph for one in batch], [one.encoding for one in batch]).to(dtype=torch.float64)
        with registry as captured, torch.no_grad():
            twin(tensors)
        yield captured[TAP]


def script_rows(weights: Tensor) -> np.ndarray:
    """The script's four statistics of each row, [n, T] to [n, 4] in the order of :data:`METRICS`."""
    rows = weights.numpy()
    rows = rows / (rows.sum(axis=-1, keepdims=True) + _EPSILON)
    smoothed = (rows + _EPSILON) / (rows + _EPSILON).sum(axis=-1, keepdims=True)
    tokens = rows.shape[-1]
    rank = np.arange(1, tokens + 1)
    ordered = np.sort(rows, axis=-1)
    gini = 2 * (rank * ordered).sum(axis=-1) / (tokens * ordered.sum(axis=-1)) - (tokens + 1) / tokens
    columns = (-(smoothed * np.log(smoothed)).sum(axis=-1), rows.max(axis=-1), (rows > 0.1).sum(axis=-1), gini)
    return np.stack(columns, axis=-1).astype(np.float64)


def _ours(weights: Tensor) -> np.ndarray:
    """Statistics of each (head, atom) row, [H, N, T] to [H N, 4]."""
    columns = [statistic(weights).flatten().numpy() for statistic in _STATISTICS.values()]
    return np.stack(columns, axis=-1)
