"""Statistics of fusion gates: gate values [N, d], one row an atom, one column a channel, values in [0, 1].

The mean over d channels shrinks the spread between atoms by sqrt(d) even when channels are independent
noise, so the spread of alpha is always given beside `independence_null` and the intraclass correlation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from interpret.metrics._arrays import (
    CONSTANT_TOLERANCE,
    Array,
    Undefined,
    Value,
    require,
    shape_of,
    to_float64,
    undefined,
)

Reduction = Literal["mean", "max", "std", "first", "learned"]


def reduce_gate(gate: Array, reduction: Reduction = "mean", *, channel_weights: Array | None = None) -> Tensor:
    """Alpha, one number an atom from its d gate values.

    Args:
        gate: [N, d].
        reduction: "mean", "max", "std" (sample standard deviation over channels), "first" (the first
            channel), or "learned" (``sum_c w_c g_c``).
        channel_weights: w [d] for "learned", as the model applies them.

    Returns:
        [N]; "std" is NaN for one channel.

    Raises:
        MetricError: when `gate` is not [N, d] with d >= 1, the reduction is unknown, or weights are missing
            or of another length.
    """
    values = _gate(gate)
    if reduction == "mean":
        return values.mean(-1)
    if reduction == "max":
        return values.amax(-1)
    if reduction == "std":
        return values.std(-1) if values.shape[1] > 1 else torch.full_like(values[:, 0], torch.nan)
    if reduction == "first":
        return values[:, 0].clone()
    require(
        reduction == "learned",
        f"Expected 'reduction' to be one of {list(get_args(Reduction))}, got {reduction!r}.",
    )
    require(channel_weights is not None, "The reduction 'learned' needs 'channel_weights' [channels].")
    weights = to_float64(channel_weights, "channel_weights").to(values.device)  # type: ignore[arg-type]
    require(
        tuple(weights.shape) == (values.shape[1],),
        f"Expected 'channel_weights' of shape [{values.shape[1]}], got {shape_of(weights)}.",
    )
    return values @ weights


class GateSaturation(NamedTuple):
    """Shares of all gate values, 0-d float64: nearly closed, nearly open, undecided."""

    low: Tensor
    high: Tensor
    middle: Tensor


def saturation(
    gate: Array, *, low: float = 0.1, high: float = 0.9, middle: tuple[float, float] = (0.3, 0.7)
) -> GateSaturation:
    """Shares of gate values ``< low``, ``> high`` and in ``[middle]``, over atoms and channels.

    Args:
        gate: [N, d].
        low, high, middle: the limits; those of `middle` are included.

    Returns:
        Three 0-d tensors, NaN without atoms or where a gate value is NaN.

    Raises:
        MetricError: when `gate` is not [N, d] with d >= 1.
    """
    values = _gate(gate)
    shares = [values < low, values > high, (values >= middle[0]) & (values <= middle[1])]
    known = not bool(values.isnan().any())
    means = [share.to(torch.float64).mean() if known else values.new_tensor(torch.nan) for share in shares]
    return GateSaturation(*means)


class IndependenceNull(NamedTuple):
    """Spread of alpha beside the spread that independent channels would leave.

    Attributes:
        channel_sd: pooled between-atom standard deviation within a channel, ``sqrt(mean_c var_i g_ic)``.
        null: ``channel_sd / sqrt(d)``.
        observed: standard deviation of alpha between atoms.
        ratio: ``observed / null``; about 1 means that alpha carries no between-atom signal beyond its
            channels.
        atoms, channels: N and d.
        reason: why values are NaN, or None.
    """

    channel_sd: Tensor
    null: Tensor
    observed: Tensor
    ratio: Tensor
    atoms: int
    channels: int
    reason: str | None


@dataclass(frozen=True)
class GateMoments:
    """Mergeable sums over atoms from which the independence null and the ICC of a whole data set follow.

    Attributes:
        atoms: number of atoms so far.
        channel_mean: [d], mean gate of each channel.
        channel_squares: [d], sum over atoms of squared deviations from it.
        alpha_mean: 0-d, mean of alpha.
        alpha_squares: 0-d, sum of squared deviations of alpha.
        within_squares: 0-d, sum over atoms and channels of ``(g_ic - alpha_i)^2``.
    """

    atoms: int
    channel_mean: Tensor
    channel_squares: Tensor
    alpha_mean: Tensor
    alpha_squares: Tensor
    within_squares: Tensor

    @classmethod
    def from_gate(cls, gate: Array) -> GateMoments:
        """The moments of one gate [N, d].

        Raises:
            MetricError: when `gate` is not [N, d] with d >= 1.
        """
        values = _gate(gate)
        alpha = values.mean(-1)
        count = values.shape[0]
        channel_mean = values.mean(0) if count else values.new_zeros(values.shape[1])
        alpha_mean = alpha.mean() if count else values.new_zeros(())
        return cls(
            count,
            channel_mean,
            (values - channel_mean).square().sum(0),
            alpha_mean,
            (alpha - alpha_mean).square().sum(),
            (values - alpha.unsqueeze(-1)).square().sum(),
        )

    def merge(self, other: GateMoments) -> GateMoments:
        """The moments of both sets of atoms together (Chan et al. 1979).

        Raises:
            MetricError: when the numbers of channels differ.
        """
        require(
            self.channel_mean.shape == other.channel_mean.shape,
            f"Expected gates of {self.channel_mean.numel()} channels, got {other.channel_mean.numel()}.",
        )
        total = self.atoms + other.atoms
        if total == 0:
            return self
        share, weight = other.atoms / total, self.atoms * other.atoms / total
        channel_step, alpha_step = other.channel_mean - self.channel_mean, other.alpha_mean - self.alpha_mean
        return GateMoments(
            total,
            self.channel_mean + share * channel_step,
            self.channel_squares + other.channel_squares + weight * channel_step.square(),
            self.alpha_mean + share * alpha_step,
            self.alpha_squares + other.alpha_squares + weight * alpha_step.square(),
            self.within_squares + other.within_squares,
        )

    def independence_null(self) -> IndependenceNull:
        """Spread of alpha against the null, see `independence_null`."""
        channels = self.channel_mean.numel()
        freedom = self.atoms - 1
        if freedom < 1:
            nan = torch.full_like(self.alpha_mean, torch.nan)
            reason = "fewer than two atoms, so there is no spread between atoms"
            return IndependenceNull(nan, nan, nan, nan, self.atoms, channels, reason)
        channel_sd = (self.channel_squares / freedom).mean().sqrt()
        null = channel_sd / math.sqrt(channels)
        observed = (self.alpha_squares / freedom).sqrt()
        if not bool(channel_sd.isfinite()):
            sentence = Undefined.NOT_FINITE.sentence
            return IndependenceNull(channel_sd, null, observed, observed / null, self.atoms, channels, sentence)
        constant = bool(channel_sd <= CONSTANT_TOLERANCE * self.channel_mean.abs().amax())
        ratio = torch.full_like(null, torch.nan) if constant else observed / null
        same = "the gate is the same for all atoms" if constant else None
        return IndependenceNull(channel_sd, null, observed, ratio, self.atoms, channels, same)

    def intraclass_correlation(self) -> Value:
        """One-way random-effects ICC(1), see `intraclass_correlation`."""
        channels, device = self.channel_mean.numel(), self.alpha_mean.device
        if self.atoms < 2 or channels < 2:
            return undefined("an intraclass correlation needs two atoms and two channels", device)
        between = channels * self.alpha_squares / (self.atoms - 1)
        within = self.within_squares / (self.atoms * (channels - 1))
        total = between + (channels - 1) * within
        if not bool(total.isfinite()):
            return undefined(str(Undefined.NOT_FINITE.sentence), device)
        if bool(total <= (CONSTANT_TOLERANCE * self.alpha_mean).square()):
            return undefined("the gate is the same for all atoms and channels", device)
        return Value((between - within) / total)


def independence_null(gate: Array) -> IndependenceNull:
    """Spread of the channel mean between atoms, beside what independent channels would leave of it.

    ``null = sd_channel / sqrt(d)`` with sd_channel the pooled between-atom sd within a channel: the
    standard deviation of a mean of d independent channels. A spread of 0.03 over 256 channels can be all
    noise.

    Args:
        gate: [N, d].

    Raises:
        MetricError: when `gate` is not [N, d] with d >= 1.

    Example:
        >>> result = independence_null([[0.2, 0.9, 0.4, 0.7], [0.8, 0.1, 0.6, 0.3]])
        >>> round(float(result.null), 4), round(float(result.observed), 4)
        (0.1936, 0.0707)
    """
    return GateMoments.from_gate(gate).independence_null()


def intraclass_correlation(gate: Array) -> Value:
    """One-way random-effects ICC(1), ``(MSB - MSW) / (MSB + (d - 1) MSW)``.

    Atoms are the groups, channels the repeats. The between-atom signal that is left after the channel mean
    (Shrout & Fleiss 1979, case 1): 1 when all channels of an atom agree and atoms differ, 0 when atoms
    differ no more than chance, down to -1 / (d - 1).

    Args:
        gate: [N, d].

    Returns:
        A 0-d value, or NaN with the reason.

    Raises:
        MetricError: when `gate` is not [N, d] with d >= 1.
    """
    return GateMoments.from_gate(gate).intraclass_correlation()


def _gate(gate: Array) -> Tensor:
    values = to_float64(gate, "gate")
    require(
        values.ndim == 2 and values.shape[1] > 0,
        f"Expected 'gate' to be [atoms, channels], got {shape_of(values)}.",
    )
    return values
