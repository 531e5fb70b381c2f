"""What a token adds to an atom when it is attended to: attention weights alone do not say.

Kobayashi et al., Attention is Not Only a Weight, EMNLP 2020: a token with a large weight and a small vector adds
little. A word's contribution is the norm of the sum of weight times vector over its pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from interpret.words import Word
    from model.network import CrystalTextNetwork


def attention_module(network: CrystalTextNetwork, tap: str) -> nn.Module:
    """The module whose atoms attend to tokens at a tap."""
    if tap.startswith("fusion."):
        module: nn.Module = network.middle_fusion_modules[f"layer_{tap.split('.')[1]}"]
        return module
    attention: nn.Module = network.fine_grained_attention
    return attention


def value_vectors(network: CrystalTextNetwork, tap: str, embeddings: Tensor) -> Tensor:
    """What each head would add to an atom that attended to one token alone, before the gate and the layer norm.

    Args:
        tap: weights from atoms to tokens.
        embeddings: [T, D] of the text.

    Returns:
        [H, T, d] float64 in node space, without the bias of the output layer.
    """
    module = attention_module(network, tap)
    output = module.output_proj if tap.startswith("fusion.") else module.node_output
    tokens = embeddings.double()
    if module.use_projection:
        tokens = _affine(module.token_proj_in, tokens)
    values = _affine(module.a2t_value, tokens)
    assert isinstance(module.heads, int)
    assert isinstance(output, nn.Linear)
    heads = values.reshape(len(values), module.heads, -1)
    weight = output.weight.detach().double().cpu()
    return torch.einsum("thc,dhc->htd", heads, weight.reshape(len(weight), module.heads, -1))


def contributions(weights: Tensor, vectors: Tensor, words: Sequence[Word]) -> Tensor:
    """Norm of what each word adds to each atom.

    Args:
        weights: [H, N, T]. vectors: [H, T, d].

    Returns:
        [1 + H, N, W] float64: all heads together, as the network adds them, then each head alone.
    """
    heads, atoms = weights.shape[:2]
    result = torch.zeros(1 + heads, atoms, len(words), dtype=torch.float64)
    for column, word in enumerate(words):
        pieces = list(word.pieces)
        added = torch.einsum("hnp,hpd->hnd", weights[:, :, pieces], vectors[:, pieces])
        result[0, :, column] = added.sum(dim=0).norm(dim=-1)
        result[1:, :, column] = added.norm(dim=-1)
    return result


def _affine(layer: object, values: Tensor) -> Tensor:
    """A linear layer in float64 on the CPU, whatever the network is in."""
    assert isinstance(layer, nn.Linear)
    bias = None if layer.bias is None else layer.bias.detach().double().cpu()
    return nn.functional.linear(values, layer.weight.detach().double().cpu(), bias)
