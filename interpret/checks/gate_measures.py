"""What the rules on gates measure, one value a structure, [n] by id."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import erfc
from torch import nn

from interpret.checks.base import Measured
from interpret.checks.estimates import Estimate, Values, at_stage, by_layer, column, ids, mean_column, number
from interpret.counterfactual import SHUFFLES

if TYPE_CHECKING:
    from interpret.checks.evidence import Evidence
    from model.network import CrystalTextNetwork

# Gate values that differ by less than this do not differ: an untrained gate shows ten times as much.
STILL = 1e-3
# Mean absolute difference of two draws from a normal distribution, in units of its standard deviation.
_MEAN_DIFFERENCE = 2 / math.sqrt(math.pi)
_LOGIT_OF_LIMIT = math.log(9.0)
_SHUFFLED = "counterfactual.text_shuffled_{}"
_CLOSED = "counterfactual.gate_closed"


def gate_layer(network: CrystalTextNetwork, layer: int) -> nn.Linear:
    """The linear map of a middle fusion's gate, [d, 2 d]."""
    linear = network.get_submodule(f"middle_fusion_modules.layer_{layer}.gate.0")
    assert isinstance(linear, nn.Linear)
    return linear


def alpha_deviation(evidence: Evidence, layer: int) -> Values:
    """Root mean square over a structure's atoms of alpha minus its mean over all atoms."""
    mean = float(evidence.moments[layer].alpha_mean)
    atoms = column(evidence, "atoms")
    spread = np.nan_to_num(column(evidence, f"fusion.{layer}.alpha_sd"))  # one atom has no spread of its own
    within = (atoms - 1) / atoms * spread**2
    result: Values = np.sqrt(within + (column(evidence, f"fusion.{layer}.alpha_mean") - mean) ** 2)
    return result


def alpha_details(evidence: Evidence, layer: int) -> dict[str, float | Values]:
    """Over all atoms: spread of the channels, their number, intraclass correlation; and the atoms of each structure."""
    moments = evidence.moments[layer]
    return {
        "channel_sd": float(moments.independence_null().channel_sd),
        "channels": float(moments.channel_mean.numel()),
        "icc": float(moments.intraclass_correlation().value),
        "atoms": column(evidence, "atoms"),
    }


def saturated_share(evidence: Evidence, layer: int) -> Values:
    """Share of gate values below 0.1 or above 0.9."""
    low, high = (column(evidence, f"fusion.{layer}.gate_{side}_share") for side in ("low", "high"))
    return low + high


def fresh_saturation(evidence: Evidence, layer: int) -> Values:
    """Share of values outside 0.1-0.9 expected of a gate as PyTorch initialises it, on inputs of the same norm."""
    result: Values = erfc(_LOGIT_OF_LIMIT / (math.sqrt(2) * _fresh_spread(evidence, layer)))
    return result


def fresh_difference(evidence: Evidence, layer: int) -> Values:
    """Mean difference of gate values between a structure's atoms expected of a gate as PyTorch initialises it.

    The input's variance between atoms, ``d mean_c var_i x_ic``, times that of the weights, ``1 / (3 w)``, gives that of
    what enters the sigmoid; the mean slope there follows from its spread, by MacKay's approximation.
    """
    width = gate_layer(evidence.network, layer).in_features
    variance = width / 2 * at_stage(evidence, f"alignn.{layer}.nodes", "variance")
    if evidence.network.config.middle_fusion_use_gate_norm:
        variance = variance * width / _input_squares(evidence, layer)
    slope = 0.25 / np.sqrt(1 + math.pi / 8 * _fresh_spread(evidence, layer) ** 2)
    return _MEAN_DIFFERENCE * slope * np.sqrt(variance / (3 * width))


def _fresh_spread(evidence: Evidence, layer: int) -> Values:
    """Standard deviation of what enters the sigmoid of a gate as PyTorch initialises it.

    Weights and bias are uniform on +-1/sqrt(w), w the width of the input, so that a sum of many of them is close to
    normal with variance ``(|input|^2 + 1) / (3 w)``. A norm at the gate's input makes ``|input|^2`` equal w.
    """
    width = gate_layer(evidence.network, layer).in_features
    squares = _input_squares(evidence, layer)
    if evidence.network.config.middle_fusion_use_gate_norm:
        squares = np.full_like(squares, width)
    result: Values = np.sqrt((squares + 1) / (3 * width))
    return result


def _input_squares(evidence: Evidence, layer: int) -> Values:
    """Squared norm of atom and text at the gate's input, before any norm there."""
    atoms = at_stage(evidence, f"alignn.{layer}.nodes", "norm")
    # Without a transformed text (token attention) that of the atoms alone: a lower bound.
    text = np.nan_to_num(atoms / column(evidence, f"fusion.{layer}.scale_ratio"))
    return atoms**2 + text**2


def balanced_ratio(evidence: Evidence, layer: int) -> float:
    """Norm of the gate's weights on the text over that of its weights on the atoms."""
    weight = gate_layer(evidence.network, layer).weight.detach().double()
    half = weight.shape[1] // 2
    return float(weight[:, half:].norm() / weight[:, :half].norm())


def without_closed_gate(evidence: Evidence) -> str | None:
    """Why the change by the text is not known; None where it is."""
    known = all(f"{_CLOSED}.fusion.{layer}.text_change" in evidence.structures for layer in evidence.fusion_layers)
    return None if known else "the fusion was not run with its gate closed"


def text_change(evidence: Evidence) -> Measured:
    """Change of the atoms by the text that a fusion let in."""
    return by_layer(
        evidence,
        evidence.fusion_layers,
        "relative change of the atoms by the text, against the fusion with its gate closed",
        lambda layer: column(evidence, f"{_CLOSED}.fusion.{layer}.text_change"),
    )


def norm_change(evidence: Evidence) -> Measured:
    """Change of the atoms by a fusion's layer norm alone."""
    return by_layer(
        evidence,
        evidence.fusion_layers,
        "relative change of the atoms by the fusion's layer norm with its gate closed",
        lambda layer: column(evidence, f"{_CLOSED}.fusion.{layer}.norm_change"),
    )


def change_figures(change: Estimate, norm: Measured) -> str:
    """The change by text and that by the norm, in brackets."""
    return f"({change.text('change', '%')}; its layer norm alone {number(norm.mean, '%')} %; {change.structures})"


def change_by_text(evidence: Evidence) -> Measured:
    """Mean absolute difference of gate values under other structures' texts."""
    return by_layer(
        evidence,
        evidence.fusion_layers,
        "mean difference of gate values under another structure's text",
        lambda layer: mean_column(evidence, f"{_SHUFFLED}.fusion.{layer}.gate_change", range(SHUFFLES)),
    )


def difference_of_atoms(evidence: Evidence, layer: int) -> float:
    """Mean absolute difference of gate values between two atoms of the data, from the pooled spread of the channels."""
    if layer not in evidence.moments:
        return math.nan
    return _MEAN_DIFFERENCE * float(evidence.moments[layer].independence_null().channel_sd)


def difference_within(evidence: Evidence, layer: int) -> Values:
    """The same between two atoms of one structure; NaN where all are of one class."""
    spread = _MEAN_DIFFERENCE * column(evidence, f"fusion.{layer}.channel_sd")
    return np.where(column(evidence, "graph_classes") > 1, spread, np.nan)


def largest_difference(evidence: Evidence, layer: int) -> Values:
    """The larger of the difference between atoms of a structure and that by text."""
    by_text = mean_column(evidence, f"{_SHUFFLED}.fusion.{layer}.gate_change", range(SHUFFLES))
    return np.fmax(difference_within(evidence, layer), by_text)


def change_correlation(evidence: Evidence, layer: int) -> Values:
    """Pearson correlation of alpha with the gated text over the atom's norm, between a structure's classes."""
    alpha, change, owner = _classes(evidence, layer)
    return _within(alpha, change, owner, len(evidence.structures))


def permuted_correlation(evidence: Evidence, layer: int, *, draws: int, seed: int) -> Values:
    """Mean over draws of the same with alphas exchanged within each structure."""
    alpha, change, owner = _classes(evidence, layer)
    generator = np.random.default_rng(seed)
    total = np.zeros(len(evidence.structures))
    for _ in range(draws):
        order = np.lexsort((generator.random(len(owner)), owner))
        total += _within(alpha[order], change, owner, len(total))
    return total / draws


def _classes(evidence: Evidence, layer: int) -> tuple[Values, Values, np.ndarray]:
    """Alpha and gated text of one atom a class, with the position of its structure, sorted by structure."""
    position = {name: number for number, name in enumerate(ids(evidence))}
    table = evidence.atoms.drop_duplicates(["id", "graph_class"])
    owner = table["id"].astype(str).map(position).to_numpy(dtype=np.int64)
    order = np.lexsort((table["graph_class"].to_numpy(), owner))
    alpha, change = (
        table[f"fusion.{layer}.{name}"].to_numpy(dtype=np.float64)[order] for name in ("alpha_mean", "gated_text_ratio")
    )
    return alpha, change, owner[order]


def _within(x: Values, y: Values, owner: np.ndarray, number_of_structures: int) -> Values:
    """Pearson correlation within each group; NaN below three members, where it is +-1, or without variation."""

    def total(values: Values) -> Values:
        return np.bincount(owner, weights=values, minlength=number_of_structures).astype(np.float64)

    members = np.bincount(owner, minlength=number_of_structures)
    with np.errstate(divide="ignore", invalid="ignore"):
        dx, dy = (v - (total(v) / members)[owner] for v in (x, y))
        spread = np.sqrt(total(dx * dx) * total(dy * dy))
        size = np.sqrt(total(x * x) * total(y * y))
        return np.where((members > 2) & (spread > 1e-12 * size), total(dx * dy) / spread, np.nan)


def untrained_weight(network: CrystalTextNetwork) -> float:
    """Effective weight of a gated cross-modal variant with every sigmoid at one half."""
    kind = network.config.cross_modal_gate
    if kind == "warm-up":
        return 0.5 * warm_up(network)
    return {"simplified": 0.5, "balanced": 0.5 + 0.5 * 0.25}.get(kind, 0.25)


def warm_up(network: CrystalTextNetwork) -> float:
    """Strength at which a gate with warm-up works: steps taken over steps of the warm-up, at most 1."""
    steps = network.config.cross_modal_gate_warmup_steps
    step = network.get_buffer("gated_cross_attention.current_step")
    return min(1.0, float(torch.as_tensor(step)) / steps) if steps > 0 else 1.0
