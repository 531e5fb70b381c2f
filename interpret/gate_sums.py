"""What one training step leaves of a gate: sums that merge across processes, computed inside the hook."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from interpret.hooks import Capture
from interpret.metrics.gates import GateMoments

BINS = 20
HIGH = 0.9
_SCALARS = 10


@dataclass(frozen=True)
class GateSums:
    """Mergeable sums over the units of a gate: atoms of a middle fusion, structures of the cross-modal family.

    Attributes:
        moments: mean and squares of the channels and of alpha, the mean over channels.
        minimum, maximum: of all values.
        high: number of values above 0.9.
        bins: [20] number of values in each twentieth of [0, 1]; the first two are those below 0.1.
        within: sum over structures of squared deviations of alpha from its mean in that structure.
        freedom: its degrees of freedom, units minus structures.
    """

    moments: GateMoments
    minimum: float
    maximum: float
    high: float
    bins: Tensor
    within: float
    freedom: float

    def merge(self, other: GateSums) -> GateSums:
        """The sums of both batches together; the batches share no structure."""
        return GateSums(
            self.moments.merge(other.moments),
            # Unlike min and max, torch's keep NaN whichever comes first.
            float(torch.tensor([self.minimum, other.minimum], dtype=torch.float64).amin()),
            float(torch.tensor([self.maximum, other.maximum], dtype=torch.float64).amax()),
            self.high + other.high,
            self.bins + other.bins,
            self.within + other.within,
            self.freedom + other.freedom,
        )

    def row(self) -> dict[str, float]:
        """One line of the history.

        ``mean``, ``std``, ``min``, ``max`` and the shares are over units and channels. ``spread`` is the standard
        deviation of alpha between all units, ``spread_within`` that between the atoms of a structure (pooled over
        structures), ``spread_null`` what independent channels would leave of ``spread``. Undefined is NaN.
        """
        moments = self.moments
        units, channels = moments.atoms, moments.channel_mean.numel()
        values = units * channels
        null = moments.independence_null()
        squares = float(channels * moments.alpha_squares + moments.within_squares)
        per_atom = self.freedom > 0
        return {
            "units": float(units),
            "mean": float(moments.alpha_mean),
            "std": math.sqrt(squares / (values - 1)) if values > 1 else math.nan,
            "min": self.minimum,
            "max": self.maximum,
            "low_share": float(self.bins[:2].sum()) / values,
            "high_share": self.high / values,
            "spread": float(null.observed),
            "spread_within": math.sqrt(self.within / self.freedom) if per_atom else math.nan,
            "spread_null": float(null.null) if channels > 1 else math.nan,
            "spread_ratio": float(null.ratio) if channels > 1 else math.nan,
            **{f"bin_{index:02d}": float(count) for index, count in enumerate(self.bins)},
        }


def pack(capture: Capture) -> dict[str, Tensor]:
    """The sums of a captured gate as one float64 vector on its device, [10 + 20 + 2 d].

    Padded atoms cannot enter: the gate of a middle fusion has one row for each real atom.
    """
    moments = GateMoments.from_gate(capture.values)
    values = capture.values.detach().to(moments.channel_mean.device, torch.float64)
    within, freedom = _within(capture, values.mean(dim=1))
    inside = torch.stack([(values < index / BINS).sum() for index in range(1, BINS)])
    below = torch.cat([inside.new_zeros(1), inside, inside.new_full((1,), values.numel())])
    scalars = (
        values.new_tensor(float(moments.atoms)),
        values.new_tensor(float(values.shape[1])),
        moments.alpha_mean,
        moments.alpha_squares,
        moments.within_squares,
        values.amin(),
        values.amax(),
        (values > HIGH).sum().to(torch.float64),
        within,
        values.new_tensor(float(freedom)),
    )
    bins = below.diff().to(torch.float64)
    return {"sums": torch.cat([torch.stack(scalars), bins, moments.channel_mean, moments.channel_squares])}


def _within(capture: Capture, alpha: Tensor) -> tuple[Tensor, int]:
    """Squared deviations of alpha from its structure's mean, and their degrees of freedom; none without atoms."""
    if capture.axes[0] != "atom" or capture.layout is None:
        return alpha.new_zeros(()), 0
    owner = capture.owner.to(alpha.device)
    structures = len(capture.layout.atoms_per_structure)
    count = alpha.new_zeros(structures).index_add_(0, owner, torch.ones_like(alpha))
    mean = alpha.new_zeros(structures).index_add_(0, owner, alpha) / count
    return (alpha - mean[owner]).square().sum(), len(alpha) - structures


def unpack(vector: Tensor) -> tuple[GateSums, Tensor]:
    """The sums at the front of vectors of :func:`pack` in a row, float64 on the CPU, and what follows them."""
    scalars, rest = vector[:_SCALARS].tolist(), vector[_SCALARS:]
    atoms, channels = int(scalars[0]), int(scalars[1])
    bins, mean, squares = rest[:BINS], rest[BINS : BINS + channels], rest[BINS + channels : BINS + 2 * channels]
    moments = GateMoments(atoms, mean, squares, *(vector[index] for index in (2, 3, 4)))
    low, high, above, within, freedom = scalars[5:]
    return GateSums(moments, low, high, above, bins, within, freedom), rest[BINS + 2 * channels :]
