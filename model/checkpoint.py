"""Load a trained network from a file as its users have it, saying what was found, missing and assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from model.architecture import Inference, examine, infer_config
from model.checkpoint_fit import Fit, compare, describe
from model.checkpoint_layout import (
    FoundConfig,
    Scalar,
    Weights,
    clean,
    find_config,
    find_config_beside,
    find_weights,
    scalars,
)
from model.config import ModelConfig
from model.errors import CheckpointError
from model.network import CrystalTextNetwork
from model.pretrained import SavedConfig, find_saved_config, weights_of_directory
from model.provenance import Provenance, by_module
from model.restricted_reader import read_checkpoint

__all__ = ["Provenance", "load_checkpoint"]

# Weights that a partial load leaves at random values are drawn with this seed.
PARTIAL_SEED = 0

# Largest deviation of a basis centre from its place, relative to the range: what bfloat16 rounds it by, and
# less than the distance between two centres.
_CENTRE_TOLERANCE = 8e-3


def load_checkpoint(path: str | Path, *, allow_partial: bool = False) -> CrystalTextNetwork:
    """Load a network, in evaluation mode and float32, from a checkpoint file or a saved directory.

    Nothing in the file is executed. The weights are found under ``model``, ``model_state_dict``,
    ``state_dict``, ``model_state`` or bare, with or without wrappers' prefixes; the configuration in the
    file, in config.json beside it, or inferred from names and shapes.

    Args:
        path: a file of torch.save (any format) or safetensors, or a directory of ``save_pretrained``.
        allow_partial: go on where keys are missing, unexpected or of another shape. What is missing keeps
            random weights (seed 0) and ``network.provenance.partial`` is True.

    Returns:
        The network with ``.config`` and ``.provenance``.

    Raises:
        CheckpointError: the file cannot be read, is refused, or does not fit its architecture.
    """
    path = Path(path)
    directory = path.is_dir()
    weights_path = weights_of_directory(path) if directory else path
    file = read_checkpoint(weights_path)
    try:
        weights = find_weights(file.content)
        plan = _plan(weights, file.content, weights_path, allow_partial)
        network, fit, values = _fill(plan, weights, allow_partial)
    except CheckpointError as error:
        raise CheckpointError(f"{path.name} {error}") from error
    origin = plan.origin
    network.provenance = Provenance(
        path=path.name,
        sha256=file.sha256,
        format="pretrained" if directory else file.format,
        layout=weights.layout,
        prefix=weights.prefix,
        config_source=plan.source,
        missing=by_module(fit.missing),
        unexpected=by_module(fit.unexpected),
        mismatched=by_module([f"{name}: {shapes}" for name, shapes in fit.mismatched.items()]),
        tolerated=tuple(fit.tolerated),
        assumptions=tuple(plan.assumptions),
        partial=not fit.is_complete or (origin is not None and origin.partial),
        non_finite=tuple(name for name, value in values.items() if not bool(torch.isfinite(value).all())),
        dtype_note=_dtype_note(weights.state),
        entries=_entries(file.content, weights),
        training=plan.training,
        origin=origin,
    )
    return network.eval()


def _entries(content: object, weights: Weights) -> dict[str, Scalar]:
    if not isinstance(content, Mapping):
        return {}
    # In a bare state dict, tensors without axes are counters and scales of the network.
    return scalars({k: v for k, v in content.items() if weights.is_wrapped or not isinstance(v, Tensor)})


@dataclass
class _Plan:
    config: ModelConfig
    source: str
    assumptions: list[str] = field(default_factory=list)
    training: dict[str, Scalar] = field(default_factory=dict)
    origin: Provenance | None = None


def _plan(weights: Weights, content: object, path: Path, allow_partial: bool) -> _Plan:
    found = find_config(content)
    saved = None if found is not None else find_saved_config(path)
    if found is None and saved is None:
        found = find_config_beside(path)
    if saved is not None:
        plan = _from_saved(saved)
        inference, given = examine(weights.state), set(plan.config.model_fields_set)
    elif found is not None:
        inference = examine(weights.state)
        plan, given = _from_found(found, inference)
    else:
        inference, given = infer_config(weights.state), set()
        plan = _Plan(_config(inference.config_fields()), "inferred from the weights")
        plan.assumptions.extend(inference.assumptions.values())
    if found is None and isinstance(content, Mapping) and content.get("config") is not None:
        plan.assumptions.append("the entry 'config' is not a configuration of this family and is not used")
    if weights.unused:
        plan.assumptions.append(f"weights under {', '.join(weights.unused)} are not used")
    return _settle_sizes(plan, inference, given, weights, allow_partial)


def _config(fields: Mapping[str, Any]) -> ModelConfig:
    try:
        return ModelConfig.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[:5]
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'config'}: {e['msg']}" for e in first)
        raise CheckpointError(f"has an architecture that cannot be built: {problems}") from error


def _from_saved(saved: SavedConfig) -> _Plan:
    return _Plan(_config(saved.fields), saved.source, origin=saved.origin)


def _from_found(found: FoundConfig, inference: Inference) -> tuple[_Plan, set[str]]:
    """The configuration as given; where it is silent, the weights decide."""
    try:
        config = ModelConfig.from_legacy(found.fields)
    except CheckpointError as error:
        reason = clean(str(error), 600)
        raise CheckpointError(f"has an unusable configuration in {found.source}: {reason}") from error
    given = set(config.model_fields_set)
    if "late_fusion_type" not in found.fields:
        given.discard("late_fusion_type")
    silent = {name: value for name, value in inference.config_fields().items() if name not in given}
    plan = _Plan(_config({**config.model_dump(), **silent}), found.source, training=found.training)
    # A published configuration cannot mention the remedies that came after it.
    told = given | {"graph_norm"}
    plan.assumptions.extend(text for name, text in inference.assumptions.items() if name not in told)
    if found.unknown:
        listed = ", ".join(found.unknown[:10]) + (", ..." if len(found.unknown) > 10 else "")
        plan.assumptions.append(f"fields of the configuration that this family does not know are ignored: {listed}")
    return plan, given


def _settle_sizes(plan: _Plan, inference: Inference, given: set[str], weights: Weights, allow_partial: bool) -> _Plan:
    """Where a size in the configuration contradicts the weights and theirs fits better, follow them."""
    wrong = {
        name: evidence
        for name, evidence in inference.evidence.items()
        if name in given and getattr(plan.config, name) != evidence.value
    }
    if not wrong:
        return plan
    corrected = _config({**plan.config.model_dump(), **{name: each.value for name, each in wrong.items()}})
    if len(compare(corrected, weights).mismatched) >= len(compare(plan.config, weights).mismatched):
        # The tensor that was looked at is the odd one out, not the configuration.
        return plan
    said = "; ".join(
        f"{name} is {getattr(plan.config, name)} but {each.name} has shape {each.shape}" for name, each in wrong.items()
    )
    if not allow_partial:
        raise CheckpointError(
            f"has a configuration ({plan.source}) that contradicts its weights: {said}; correct the "
            "configuration, or pass allow_partial=True (--allow-partial) to follow the weights"
        )
    plan.assumptions.append(f"the weights are followed where the configuration contradicts them: {said}")
    plan.config = corrected
    return plan


def _fill(plan: _Plan, weights: Weights, allow_partial: bool) -> tuple[CrystalTextNetwork, Fit, dict[str, Tensor]]:
    fit = compare(plan.config, weights)
    if not fit.is_complete and not allow_partial:
        raise CheckpointError(describe(fit))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(PARTIAL_SEED)
        network = CrystalTextNetwork(plan.config)
    built = network.state_dict()
    values = {
        name: _adapt(value, built[name])
        for name, value in weights.state.items()
        if name in built and name not in fit.mismatched
    }
    for name, value in values.items():
        if name.endswith("_embedding.0.centers") and bool(torch.isfinite(value).all()):
            _check_centres(name, weights.state[name], built[name])
            # Rounded centres would move the basis: those of the network are exact.
            values[name] = value if weights.state[name].dtype == torch.float32 else built[name]
    network.load_state_dict({**built, **values})
    return network, fit, values


def _adapt(value: Tensor, target: Tensor) -> Tensor:
    value = value.to(target.dtype)
    return value.expand(target.shape) if value.dim() == 0 else value.reshape(target.shape)


def _check_centres(name: str, centres: Tensor, expected: Tensor) -> None:
    """The widths follow from the range: centres elsewhere would be another basis than the one computed."""
    span = float(expected[-1] - expected[0]) or 1.0
    deviation = float((centres.float() - expected).abs().max()) / span
    if not deviation <= _CENTRE_TOLERANCE:
        raise CheckpointError(
            f"has {name} from {float(centres[0]):g} to {float(centres[-1]):g}, expected evenly spaced "
            f"centres from {float(expected[0]):g} to {float(expected[-1]):g}: this basis is not supported"
        )


def _dtype_note(state: Mapping[str, Tensor]) -> str | None:
    others: dict[str, int] = {}
    for value in state.values():
        if value.is_floating_point() and value.dtype != torch.float32:
            others[str(value.dtype)] = others.get(str(value.dtype), 0) + 1
    if not others:
        return None
    listed = ", ".join(f"{count} of {dtype}" for dtype, count in others.items())
    return f"weights not stored as torch.float32 ({listed}) were converted to it"
