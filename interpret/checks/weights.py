"""What the checkpoint rules measure: keys, values, initial states, gradients and spreads, by module or
tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from interpret.checks.base import Measured
from interpret.gradients import (
    CUT_OFF,
    fresh_copy,
    fresh_gradient_reach,
    gradient_reach,
    modules_without_gradient,
)
from interpret.initialisation import (
    HALF_PRECISION,
    SINGLE_PRECISION,
    fewest_weights,
    linear_weights,
    samples,
)
from model.architecture import examine

if TYPE_CHECKING:
    from interpret.checks.evidence import Evidence
    from model.network import CrystalTextNetwork
    from model.provenance import Provenance

# Draws of crystals and texts under all of which a module must be cut off: in one, all units of a small ReLU
# layer may be off by chance.
PROBES = 4
# Part of the sentence that model.checkpoint records where it follows the weights against the configuration.
CONTRADICTION = "the configuration contradicts"
# Fields that may be spelled differently without a difference in what is computed.
_SPELLED_FREELY = frozenset({"middle_fusion_layers", "use_cross_modal_attention", "late_fusion_type"})


def measured(values: Mapping[str, float], what: str) -> Measured:
    """Values by unit as a measure."""
    return Measured(np.array(list(values.values()), dtype=np.float64), tuple(values), what)


def history(network: CrystalTextNetwork) -> Iterator[Provenance]:
    """The record of the file, and of the files it is a copy of."""
    record = network.provenance
    while record is not None:
        yield record
        record = record.origin


def non_finite_shares(network: nn.Module) -> dict[str, float]:
    """Share of NaN and infinity in each parameter and buffer."""
    return {name: 1 - float(value.isfinite().double().mean()) for name, value in network.state_dict().items()}


def constant_tensors(network: nn.Module) -> dict[str, float]:
    """1 for tensors that are constant where they must vary, or zero where they must not vanish, 0 for the
    others.

    Tensors of two and more axes must vary. Scales of norms, running variances and text scales must not
    vanish.
    """
    flags = {}
    for name, module in network.named_modules():
        prefix = f"{name}." if name else ""
        for key, value in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            if value.dim() >= 2 and value.numel() > 1:
                flags[prefix + key] = float((value == value.reshape(-1)[0]).all())
            elif key in ("text_scale", "running_var") or (key == "weight" and value.dim() == 1):
                flags[prefix + key] = float(not bool(value.any()))
    return flags


def initial_modules(network: CrystalTextNetwork, what: str, *, fresh: bool = False) -> Measured:
    """1 for modules on the way to the prediction that are at their initial state, 0 for those that are not.

    Args:
        fresh: of a freshly initialised copy in place of the network, held to the same number of weights.
    """
    skip = modules_without_gradient(network.config)
    half = any("16" in (record.dtype_note or "") for record in history(network))
    tolerance = HALF_PRECISION if half else SINGLE_PRECISION
    fewest = fewest_weights(network, skip, tolerance=tolerance)
    tested, _ = samples(fresh_copy(network.config) if fresh else network, skip, fewest=fewest, tolerance=tolerance)
    return measured({sample.name: float(sample.initial) for sample in tested}, what)


def runs(network: CrystalTextNetwork) -> Callable[[str], bool]:
    """Whether a module is part of what runs: middle fusions after layers that do not exist never do."""
    missing = tuple(f"middle_fusion_modules.layer_{layer}." for layer in network.config.missing_fusion_layers)
    return lambda name: not f"{name}.".startswith(missing)


def reach(evidence: Evidence) -> Measured:
    """Gradient of each module that runs, the largest over up to ``PROBES`` draws.

    More draws than one are made only where something that should have a gradient seems to be cut off.
    """
    network = evidence.network
    expected, kept = modules_without_gradient(network.config), runs(network)
    found = evidence.gradient_reach
    for seed in range(1, PROBES):
        if not any(value < CUT_OFF for name, value in found.items() if name not in expected and kept(name)):
            break
        found = {name: max(value, found[name]) for name, value in gradient_reach(network, seed).items()}
    values = {name: value for name, value in found.items() if kept(name)}
    return measured(values, "gradient of a module over the largest in the network")


def fresh_reach(network: CrystalTextNetwork) -> Measured:
    """The same for a freshly initialised copy, 0 where it is cut off for every draw of weights."""
    expected, kept = modules_without_gradient(network.config), runs(network)
    found = fresh_gradient_reach(network.config)
    values = {name: 0.0 if name in expected else max(value, CUT_OFF) for name, value in found.items() if kept(name)}
    return measured(values, "the same in a freshly initialised copy")


def branches(modules: Sequence[str]) -> list[str]:
    """Modules as the branches they make up, with the number of each."""
    counts: dict[str, int] = {}
    for name in modules:
        parent, _, last = name.rpartition(".")
        if last.startswith("t2a_") or last in ("token_output", "layer_norm_token"):
            branch = "token-to-atom attention"
        elif last in ("g2t_query", "g2t_key", "t2g_query", "t2g_key"):
            branch = f"queries and keys of {parent}"
        elif last == "bn_edges":
            branch = "last bond updates"
        else:
            depth = 2 if "layers" in name or "modules" in name else 1
            branch = ".".join(name.split(".")[:depth])
        counts[branch] = counts.get(branch, 0) + 1
    return [f"{branch} ({count})" for branch, count in counts.items()]


def configuration_flags(network: CrystalTextNetwork) -> dict[str, float]:
    """0 for configuration fields that the network's own weights settle, 1 where the two have different
    values."""
    flags = {}
    for name, value in examine(network.state_dict()).fields.items():
        stated = getattr(network.config, name)
        if name in _SPELLED_FREELY or stated == value:
            flags[name] = 0.0
        else:
            flags[f"{name} is {stated}, by the weights {value}"] = 1.0
    return flags


def is_text_transform(name: str) -> bool:
    """Whether a module is, or is part of, a text transform."""
    return "text_transform" in name.split(".")


def log_spreads(network: CrystalTextNetwork, what: str, *, text: bool) -> Measured:
    """Log of the spread over the initial one, of the linear layers that reach the prediction.

    Args:
        text: of those of text transforms, or of all others.
    """
    skip = modules_without_gradient(network.config)
    values = {
        name: math.log(weights.spread)
        for name, weights in linear_weights(network).items()
        if is_text_transform(name) == text and name not in skip and weights.spread > 0
    }
    return measured(values, what)
