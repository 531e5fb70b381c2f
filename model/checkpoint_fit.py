"""How the weights of a file and the parameters of a network match, key by key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from model.checkpoint_layout import Weights, clean
from model.config import ModelConfig
from model.errors import CheckpointError
from model.network import CrystalTextNetwork
from model.provenance import by_module

MAX_LAYERS = 1000
MAX_PARAMETERS = 4 * 10**9

_SHOWN_MODULES, _SHOWN_KEYS = 8, 3


@dataclass
class Fit:
    """How the weights of a file and a network's parameters match."""

    missing: list[str]
    unexpected: list[str]
    mismatched: dict[str, str]
    tolerated: list[str]

    @property
    def is_complete(self) -> bool:
        """Whether every key found its place."""
        return not (self.missing or self.unexpected or self.mismatched)


def _expected(config: ModelConfig) -> dict[str, Tensor]:
    """Parameters and buffers of a network as tensors without storage."""
    if max(config.alignn_layers, config.gcn_layers, len(config.middle_fusion_layers)) > MAX_LAYERS:
        raise CheckpointError(f"asks for more than {MAX_LAYERS} layers")
    try:
        with torch.device("meta"):
            expected = dict(CrystalTextNetwork(config).state_dict())
    except (RuntimeError, TypeError, OverflowError) as error:
        raise CheckpointError(f"has an architecture that cannot be built: {error}") from error
    if sum(value.numel() for value in expected.values()) > MAX_PARAMETERS:
        raise CheckpointError(f"asks for a network of more than {MAX_PARAMETERS} parameters")
    return expected


def compare(config: ModelConfig, weights: Weights) -> Fit:
    """Match the names and shapes of a file's weights with those of the network that a config describes.

    Raises:
        CheckpointError: no network of that description can be built.
    """
    expected = _expected(config)
    absent = [name for name in expected if name not in weights.state]
    tolerated = [name for name in absent if _is_known_without_file(name, config, weights.state)]
    mismatched = {
        name: f"file {tuple(value.shape)}, network {tuple(expected[name].shape)}"
        for name, value in weights.state.items()
        if name in expected and not _is_same_shape(name, value, expected[name])
    }
    strangers = [name for name in weights.state if name not in expected]
    unexpected = [clean(name) for name in (*strangers, *weights.outside)]
    return Fit([name for name in absent if name not in tolerated], unexpected, mismatched, tolerated)


def _is_known_without_file(name: str, config: ModelConfig, state: Mapping[str, Tensor]) -> bool:
    """Counters that evaluation never reads, evenly spaced centres, and the scale 1 of the older release."""
    if name.endswith((".num_batches_tracked", "_embedding.0.centers")):
        return True
    module, _, last = name.rpartition(".")
    older = last == "text_scale" and not config.middle_fusion_use_learnable_scale
    return older and any(other.startswith(f"{module}.") for other in state)


def _is_same_shape(name: str, value: Tensor, expected: Tensor) -> bool:
    if value.is_complex():
        return False
    # Upstream's log link overwrites the bias of the last layer with a scalar.
    scalar_bias = name == "fc.bias" and value.dim() == 0
    return value.shape == expected.shape or scalar_bias or value.numel() == expected.numel() == 1


def describe(fit: Fit) -> str:
    """What does not match, by module, in one sentence that follows the file's name."""
    mismatched = [f"{name} ({shapes})" for name, shapes in fit.mismatched.items()]
    parts = [
        f"{len(names)} {'key' if len(names) == 1 else 'keys'} {what}: {_by_module_in_words(names)}"
        for what, names in (
            ("missing", fit.missing),
            ("unexpected", fit.unexpected),
            ("of another shape", mismatched),
        )
        if names
    ]
    cost = "what is missing then has random weights, and" if fit.missing or fit.mismatched else "then"
    return (
        f"does not fit its architecture: {'; '.join(parts)}. Pass allow_partial=True (--allow-partial) to go "
        f"on without them: {cost} every result says so"
    )


def _by_module_in_words(names: Iterable[str]) -> str:
    groups = by_module(list(names))
    shown = [
        f"{module} ({len(keys)}: {', '.join(keys[:_SHOWN_KEYS])}{', ...' if len(keys) > _SHOWN_KEYS else ''})"
        for module, keys in list(groups.items())[:_SHOWN_MODULES]
    ]
    more = len(groups) - len(shown)
    return ", ".join(shown) + (f" and {more} more modules" if more > 0 else "")
