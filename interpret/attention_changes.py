"""Changes of the attention to tokens that act on its scores or weights rather than on a tap's values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor

from interpret.hooks import Intervention
from model.network import CrystalTextNetwork

# Puts other weights into a network, and its own back.
Reweigh = Callable[[CrystalTextNetwork], AbstractContextManager[None]]

# Softening divides scores by this; wider rows come to unit spread.
SOFTENING = 4.0


def soften(at: Intervention) -> Tensor:
    """Attention with its scores at a quarter of their size, and at unit spread where a row's are still wider.

    From the scores and not from the weights: in a saturated row all weights but one may be exactly 0.
    """
    scores, mask = at.inputs[0], at.inputs[1]
    kept = mask.expand_as(scores)
    count = kept.sum(dim=-1, keepdim=True)
    centred = torch.where(kept, scores - torch.where(kept, scores, 0.0).sum(dim=-1, keepdim=True) / count, 0.0)
    spread = (centred.square().sum(dim=-1, keepdim=True) / count).sqrt()
    return torch.softmax(torch.where(kept, centred / spread.clamp(min=SOFTENING), float("-inf")), dim=-1)


def untrained_attention(seed: int) -> Reweigh:
    """Queries and keys of the attention to tokens as PyTorch draws them: uniform on +-1 / sqrt(fan in)."""

    @contextmanager
    def change(network: CrystalTextNetwork) -> Iterator[None]:
        fine_grained = network.fine_grained_attention
        parameters = [*fine_grained.a2t_query.parameters(), *fine_grained.a2t_key.parameters()]
        bounds = [layer.in_features**-0.5 for layer in (fine_grained.a2t_query, fine_grained.a2t_key) for _ in range(2)]
        trained = [parameter.detach().clone() for parameter in parameters]
        generator = torch.Generator().manual_seed(seed)
        try:
            with torch.no_grad():
                for parameter, bound in zip(parameters, bounds, strict=True):
                    drawn = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
                    parameter.copy_((2 * drawn - 1) * bound)
            yield
        finally:
            with torch.no_grad():
                for parameter, own in zip(parameters, trained, strict=True):
                    parameter.copy_(own)

    return change
