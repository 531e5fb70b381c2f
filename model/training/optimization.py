"""Optimizer groups and learning-rate schedules."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from model.alignn import EdgeGatedConvolution, EmbeddingLayer
from model.training.config import TrainingConfig

# Modules whose output weighs one modality against the other, by the last parts of their path.
_GATES = frozenset(
    {
        "gate",
        "gate_norm",
        "text_quality_gate",
        "adaptive_fusion_gate",
        "adaptive_gate",
        "fusion_gate",
        "gate_graph",
        "gate_text",
        "gate_net",
        "fusion_selector",
    }
)

# Fewer steps have no room for a rise and a fall.
_SHORTEST_CYCLE = 4


def is_gate(name: str) -> bool:
    """Whether a parameter belongs to a gate between modalities; the edge gates of the backbone are none."""
    return bool(_GATES & set(name.split(".")))


def cancelled_biases(network: nn.Module) -> frozenset[str]:
    """Names of the biases that a batch norm behind them takes out again.

    Their gradient is 0 but for rounding, which AdamW would blow up to steps of full size: a walk at random that changes
    nothing while training and, because running means lag behind it, something afterwards.
    """
    found = set()
    for path, module in network.named_modules():
        if isinstance(module, EmbeddingLayer):
            found.add(f"{path}.layer.0.bias")
        elif isinstance(module, EdgeGatedConvolution):
            # The second is averaged with weights that sum to 1, but for the constant in the denominator, wherever an
            # atom has a neighbour, which in a crystal it has.
            found |= {f"{path}.src_update.bias", f"{path}.dst_update.bias"}
    return frozenset(found)


def parameter_groups(network: nn.Module, config: TrainingConfig) -> list[dict[str, Any]]:
    """Parameters by weight decay and learning rate, without those of :func:`cancelled_biases`.

    Biases, norms and scalars do not decay: vectors and numbers carry no capacity, and pulling a norm's scale to 0
    changes the step size of what it normalises.
    """
    groups: list[dict[str, Any]] = []
    still = cancelled_biases(network)
    moved = [(name, value) for name, value in network.named_parameters() if name not in still]
    for gates in (False, True):
        for decays in (True, False):
            chosen = [value for name, value in moved if is_gate(name) is gates and (value.ndim > 1) is decays]
            if chosen:
                groups.append(
                    {
                        "params": chosen,
                        "weight_decay": config.weight_decay if decays else 0.0,
                        "lr": config.learning_rate * (config.gate_learning_rate if gates else 1.0),
                        "name": ("gates" if gates else "weights") + ("" if decays else ", no decay"),
                    }
                )
    return groups


def learning_rate_schedule(optimizer: torch.optim.Optimizer, config: TrainingConfig, steps: int) -> LRScheduler:
    """The schedule over all steps, advanced once a step."""
    warm_up = max(1, round(config.warm_up * steps))
    if config.schedule == "one-cycle" and steps >= _SHORTEST_CYCLE:
        peaks = [group["lr"] for group in optimizer.param_groups]
        # Its rise ends at step share * steps - 1, which has to come after step 0.
        return OneCycleLR(optimizer, peaks, total_steps=steps, pct_start=max(config.warm_up, 1.5 / steps))
    return LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / warm_up))
