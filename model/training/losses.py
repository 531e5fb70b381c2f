"""Losses: of the prediction, and those that ask atoms, gates or modalities to differ."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def prediction_loss(name: str, *, delta: float = 1.0) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of each structure [B] from predictions [B] and targets [B], both in units of the target's scale.

    Args:
        name: ``mse``, ``l1``, ``huber`` or ``bce``, the last on probabilities and labels 0 and 1.
        delta: where Huber's loss turns from a parabola into a line.
    """

    def huber(prediction: Tensor, target: Tensor) -> Tensor:
        return F.huber_loss(prediction, target, reduction="none", delta=delta)

    losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "mse": lambda prediction, target: (prediction - target).square(),
        "l1": lambda prediction, target: (prediction - target).abs(),
        "huber": huber,
        "bce": lambda prediction, target: F.binary_cross_entropy(prediction, target, reduction="none"),
    }
    return losses[name]


def attention_diversity_loss(weights: Tensor, atom_mask: Tensor, token_mask: Tensor) -> Tensor:
    """Minus the variance between atoms of the attention to a token, mean over real tokens and heads.

    Args:
        weights: [B, H, N, L]; a row sums to 1 over the real tokens.
        atom_mask: [B, N], True for real atoms.
        token_mask: [B, L], True for real tokens.

    Returns:
        A scalar, the mean over structures of at least two atoms; 0 where there is none.
    """
    counts = atom_mask.sum(dim=1)
    atoms = atom_mask[:, None, :, None].to(weights.dtype)
    number = counts[:, None, None, None].to(weights.dtype)
    mean = (weights * atoms).sum(dim=2, keepdim=True) / number
    variance = ((weights - mean).square() * atoms).sum(dim=2) / number[..., 0]
    tokens = token_mask[:, None].to(weights.dtype)
    each = (variance * tokens).sum(dim=2) / tokens.sum(dim=2)
    several = (counts > 1).to(weights.dtype)
    return -(each.mean(dim=1) * several).sum() / several.sum().clamp(min=1)


def gate_diversity_loss(gate: Tensor, owner: Tensor, counts: Tensor) -> Tensor:
    """Minus the standard deviation of a gate between the atoms of a structure, mean over channels.

    Within a channel: the spread of the mean over channels is small whatever the gate does.

    Args:
        gate: [N, d]. owner: [N], the structure of each atom. counts: [B], atoms of each structure.

    Returns:
        A scalar, the mean over structures of at least two atoms; 0 where there is none.
    """
    number = counts[:, None].to(gate.dtype)
    zeros = gate.new_zeros(len(counts), gate.shape[1])
    mean = zeros.index_add(0, owner, gate) / number
    variance = zeros.index_add(0, owner, (gate - mean[owner]).square()) / number
    # The root of exactly 0, a gate that is the same for all atoms, has no derivative.
    each = torch.sqrt(variance + 1e-12).mean(dim=1)
    several = (counts > 1).to(gate.dtype)
    return -(each * several).sum() / several.sum().clamp(min=1)


def contrastive_loss(graph: Tensor, text: Tensor, temperature: float) -> Tensor:
    """InfoNCE between a structure and its text, both ways (van den Oord, arXiv 1807.03748; CLIP, arXiv 2103.00020).

    Args:
        graph: [B, c]. text: [B, c]. The other members of the batch are the negatives.
        temperature: divides the cosine.

    Returns:
        A scalar; 0 for a single structure, which has no negatives.
    """
    logits = F.normalize(graph, dim=-1) @ F.normalize(text, dim=-1).T / temperature
    own = torch.arange(len(graph), device=graph.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
