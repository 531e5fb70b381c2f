"""Whether modules still hold the weights they were drawn with, and how their spread compares with that draw.

PyTorch draws weight and bias of a linear layer uniformly on +-b with b = 1 / sqrt(fan in):
``torch.nn.Linear``, after He et al., arXiv 1502.01852, with the negative slope sqrt(5). Training moves
weights across that bound.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from torch import nn

Floats = npt.NDArray[np.float64]

# Weights a sample needs where the network itself shows no movement. Weights that moved by a mean of 1 % of
# the bound, three or four steps of Adam, leave 0.5 % of them beyond it: of a thousand, five, and none with
# probability exp(-5).
FEWEST_WEIGHTS = 1000
# Layers with fewer weights say nothing of how far the layers of a network have moved.
_FEWEST_FOR_MOVEMENT = 250
# Of the family of all tests on one network, after Bonferroni.
SIGNIFICANCE = 0.01
# How far a weight stored in half precision (bfloat16) may be rounded outwards; float32 rounds by 6e-8.
HALF_PRECISION, SINGLE_PRECISION = 2.0**-8, 1e-6


class LinearWeights(NamedTuple):
    """A linear map's parameters over their initial bound [n], and the spread of its weight over the initial
    one."""

    scaled: Floats
    spread: float


@dataclass(frozen=True)
class Sample:
    """What is tested as one: a module, or the small linear layers of one parent together.

    Attributes:
        name: of the module, or of the parent.
        initial: whether it is what initialisation gives.
        evidence: the figures, in words.
    """

    name: str
    initial: bool
    evidence: str


def linear_weights(network: nn.Module) -> dict[str, LinearWeights]:
    """All linear maps with finite weights by module name: ``nn.Linear``, and stacked maps of elements."""
    found = {}
    for name, module in network.named_modules():
        parameters: list[torch.Tensor | None]
        if isinstance(module, nn.Linear):
            parameters = [module.weight, module.bias]
        elif isinstance(stacked := getattr(module, "element_weight", None), nn.Parameter):
            parameters = [stacked, getattr(module, "element_bias", None)]
        else:
            continue
        present = [p.detach().cpu().double() for p in parameters if p is not None]
        values = [p.flatten().numpy() * present[0].shape[-1] ** 0.5 for p in present]
        scaled = np.concatenate(values)
        if np.isfinite(scaled).all():
            found[name] = LinearWeights(scaled, float(np.sqrt(np.mean(values[0] ** 2) * 3)))
    return found


def fewest_weights(network: nn.Module, skip: Collection[str] = (), *, tolerance: float = SINGLE_PRECISION) -> int:
    """Weights that a sample of this network needs before the absence of weights beyond the bound means
    something.

    In a trained network the median layer has a share f of its weights beyond the bound. A layer of n weights
    that moved alike has none with probability exp(-n f): n is such that this stays below ``SIGNIFICANCE``
    over all layers together. Where the median layer has none, it is ``FEWEST_WEIGHTS``.
    """
    layers = [w.scaled for name, w in linear_weights(network).items() if name not in skip]
    shares = [float(np.mean(np.abs(v) > 1 + tolerance)) for v in layers if v.size >= _FEWEST_FOR_MOVEMENT]
    typical = float(np.median(shares)) if shares else 0.0
    return math.ceil(math.log(len(layers) / SIGNIFICANCE) / typical) if typical else FEWEST_WEIGHTS


def samples(
    network: nn.Module, skip: Collection[str] = (), *, fewest: int, tolerance: float = SINGLE_PRECISION
) -> tuple[list[Sample], list[str]]:
    """Test every module that can be told from its initial state.

    A linear layer is initial when no weight is beyond the bound, and neither a Kolmogorov-Smirnov test
    against the uniform distribution nor a test of the spread against bound / sqrt(3) rejects it (Bonferroni
    over all tests). A batch norm is when it has seen no batch, a layer norm when it is exactly 1 and 0.
    Linear layers of fewer than ``fewest`` parameters are tested together with the small ones beside them.

    Args:
        skip: names of modules to leave out.
        fewest: of :func:`fewest_weights`.
        tolerance: how far beyond the bound, relative to it, rounding may have put a weight.

    Returns:
        The samples, and the names of linear layers too small to be tested even together.
    """
    linear, small = _pools({n: w.scaled for n, w in linear_weights(network).items() if n not in skip}, fewest)
    level = SIGNIFICANCE / (2 * max(len(linear), 1))
    tested = [_test_linear(name, values, level, tolerance) for name, values in linear.items()]
    tested += [sample for sample in _norms(network) if sample.name not in skip]
    return tested, small


def _pools(layers: dict[str, Floats], fewest: int) -> tuple[dict[str, Floats], list[str]]:
    """Large layers alone, small ones joined by parent; and those of parents that remain too small."""
    pools = {name: values for name, values in layers.items() if values.size >= fewest}
    groups: dict[str, list[str]] = {}
    for name in layers:
        if name not in pools:
            groups.setdefault(name.rpartition(".")[0], []).append(name)
    small = []
    for parent, members in groups.items():
        joined = np.concatenate([layers[name] for name in members])
        if joined.size < fewest:
            small += members
        elif parent:
            pools[f"{parent} ({len(members)} small layers)"] = joined
        else:
            pools[", ".join(members)] = joined
    return pools, small


def _test_linear(name: str, values: Floats, level: float, tolerance: float) -> Sample:
    largest = float(np.abs(values).max())
    if largest > 1 + tolerance:
        return Sample(name, False, f"largest |w| is {largest:.4g} of the bound")
    uniform = stats.uniform(-1, 2)
    p_shape = float(stats.kstest(values, uniform.cdf, method="asymp").pvalue)
    # Mean and variance of u^2 for u uniform on +-1 are 1/3 and 4/45.
    z = (float(np.mean(values**2)) - 1 / 3) / math.sqrt(4 / 45 / values.size)
    p_spread = float(2 * stats.norm.sf(abs(z)))
    initial = min(p_shape, p_spread) >= level
    return Sample(name, initial, f"largest |w| is {largest:.4g} of the bound, Kolmogorov-Smirnov p = {p_shape:.2g}")


def _norms(network: nn.Module) -> Iterator[Sample]:
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm1d) and module.running_mean is not None and module.running_var is not None:
            unseen = bool((module.running_mean == 0).all()) and bool((module.running_var == 1).all())
            yield Sample(name, unseen, "running mean 0 and variance 1" if unseen else "running statistics moved")
        elif isinstance(module, nn.LayerNorm) and module.weight is not None:
            still = bool((module.weight == 1).all()) and (module.bias is None or not bool(torch.any(module.bias)))
            yield Sample(name, still, "weight exactly 1 and bias 0" if still else "weight or bias moved")
