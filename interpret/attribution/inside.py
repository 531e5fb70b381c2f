"""Explanations read off the attention itself, to be held against what happens when words are taken out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from interpret.attribution.explanation import AttributionError, Floats
from interpret.attribution.subject import Subject
from interpret.hooks import HookRegistry
from interpret.metrics.propagation import norm_based_weights, rollout, value_vectors
from interpret.taps import taps_of
from model.attention import FineGrainedAttention
from model.batch import CrystalBatch
from model.middle_fusion import TokenAttentionFusion
from model.network import CrystalTextNetwork

DEFAULT_TAP = "attention.atom_to_token"
# Largest difference, over the largest value, between the attention's output and the sum of what its tokens write.
_CONSERVED = 1e-5


@dataclass(frozen=True)
class AttentionView:
    """One attention from atoms to tokens in one structure, with the gradient of the target.

    Attributes:
        tap: which.
        weights: float64 [H, N, T].
        gradient: of the target with respect to the weights, [H, N, T].
        vectors: what each head writes for each token at full weight, [H, T, O].
        nodes: the atoms it adds to, [N, d].
        module: the attention.
        conservation: largest difference between its output and the sum of what its tokens write, over the largest.
    """

    tap: str
    weights: Tensor
    gradient: Tensor
    vectors: Tensor
    nodes: Tensor
    module: nn.Module
    conservation: float


def attention_taps(network: nn.Module) -> tuple[str, ...]:
    """Taps of attention from atoms to tokens, the one before the readout last."""
    if not isinstance(network, CrystalTextNetwork):
        return ()
    taps = taps_of(network).values()
    return tuple(t.name for t in taps if t.axes == ("structure", "head", "atom", "token"))


def view_attention(subject: Subject, tap: str = DEFAULT_TAP) -> AttentionView:
    """Run the structure once and read an attention.

    Raises:
        AttributionError: the network has no such attention, its module runs more than once in a pass, or its output is
            not the sum of what its tokens write.
        TapError: the tap fires twice in a pass.
    """
    network = subject.network
    if tap not in attention_taps(network):
        known = ", ".join(attention_taps(network)) or "none"
        raise AttributionError(f"no attention from atoms to tokens is named {tap!r}; this network has: {known}")
    module = network.get_submodule(taps_of(network)[tap].module.rsplit(".", 1)[0])  # type: ignore[arg-type]
    seen: list[tuple[Tensor, CrystalBatch]] = []
    added: list[Tensor] = []
    handles = [
        module.register_forward_pre_hook(lambda _, inputs: seen.append((inputs[0], inputs[-1]))),
        _output_layer(module).register_forward_hook(lambda _, inputs, output: added.append(output)),
    ]
    tokens = subject.batch.token_embeddings.detach().clone().requires_grad_(True)
    try:
        with HookRegistry(network).capture(tap, detach=False) as captured, torch.enable_grad():
            output = subject.with_tokens(tokens)
    finally:
        for handle in handles:
            handle.remove()
    if len(seen) != 1 or len(added) != 1:
        raise AttributionError(
            f"the module of {tap!r} ran {len(seen)} times in one pass: its weights cannot be told from each other"
        )
    weights = captured[tap].values
    # A branch that does not reach the target has no gradient, which is an answer and not an error.
    (gradient,) = torch.autograd.grad(output.sum(), weights, allow_unused=True)
    gradient = torch.zeros_like(weights) if gradient is None else gradient
    vectors = _vectors(module, tokens.detach()[0])
    flat = weights.detach()[0].double()
    return AttentionView(
        tap,
        flat,
        gradient[0].double(),
        vectors,
        seen[0][0].detach(),
        module,
        _conservation(module, flat, vectors, added[0].detach(), tap),
    )


def _output_layer(module: nn.Module) -> nn.Linear:
    layer = module.node_output if isinstance(module, FineGrainedAttention) else module.output_proj
    assert isinstance(layer, nn.Linear)
    return layer


def _vectors(module: nn.Module, tokens: Tensor) -> Tensor:
    assert isinstance(module, FineGrainedAttention | TokenAttentionFusion)
    inputs = module.token_proj_in(tokens) if module.use_projection else tokens
    value = module.a2t_value
    return value_vectors(inputs, value.weight, value.bias, _output_layer(module).weight, module.heads)


def _conservation(module: nn.Module, weights: Tensor, vectors: Tensor, output: Tensor, tap: str) -> float:
    """Kobayashi's identity: all tokens' vectors, weighted and summed, and the bias are the attention's output."""
    total = torch.einsum("hnt,hto->no", weights, vectors) + _output_layer(module).bias.double()
    error = float((total - output.double()).abs().max() / output.abs().max().clamp(min=1e-30))
    if error > _CONSERVED:
        raise AttributionError(
            f"what the tokens of {tap!r} write does not sum to its output (off by {error:.1e}): something changes the "
            "attention after its weights, so that they do not say what enters the atoms"
        )
    return error


def attention(view: AttentionView) -> Floats:
    """Attention received, mean over heads and atoms, [T]."""
    return _floats(view.weights.mean(dim=(0, 1)))


def norm_based(view: AttentionView) -> Floats:
    """Length of what each token writes, sum over heads, mean over atoms (Kobayashi et al., EMNLP 2020), [T]."""
    return _floats(norm_based_weights(view.weights, view.vectors).sum(dim=0).mean(dim=0))


def gradient_times_attention(view: AttentionView) -> Floats:
    """``sum_hn A dy/dA`` (Barkan et al., CIKM 2021, without the rectifier), signed, [T]."""
    return _floats((view.weights * view.gradient).sum(dim=(0, 1)))


def value_zeroing(view: AttentionView) -> Floats:
    """Cosine distance that atoms move when a token's value is zero (Mohebbi et al., EACL 2023), mean over atoms, [T].

    The weights stay as they are; everything the attention does after them is computed again.
    """
    parts = torch.einsum("hnt,hto->tno", view.weights, view.vectors)
    whole = parts.sum(dim=0) + _output_layer(view.module).bias.double()
    dtype = view.nodes.dtype
    with torch.no_grad():
        before = _finish(view.module, view.nodes, whole.to(dtype))
        after = _finish(view.module, view.nodes.expand(len(parts), -1, -1), (whole - parts).to(dtype))
    return _floats((1 - torch.cosine_similarity(before.double(), after.double(), dim=-1)).mean(dim=-1))


def _finish(module: nn.Module, nodes: Tensor, added: Tensor) -> Tensor:
    """What the attention makes of its output: the atoms that go on."""
    if isinstance(module, FineGrainedAttention):
        fused: Tensor = module.layer_norm_node(nodes + added)
        return fused
    assert isinstance(module, TokenAttentionFusion)
    if module.use_gate:
        added = module.gate(torch.cat([nodes, added], dim=-1)) * added
    gated: Tensor = module.layer_norm(nodes + added)
    return gated


def head_importance(view: AttentionView) -> Floats:
    """``| Att_h^T dy/dAtt_h |`` of one structure (Michel, Levy and Neubig, NeurIPS 2019), [H].

    An attention's output is linear in its weights, so that the product equals ``sum A dy/dA`` over the head. Michel's
    figure is the mean of these over structures, l2-normalised over the heads of a layer:
    :func:`normalized_importance`.
    """
    return _floats((view.weights * view.gradient).sum(dim=(1, 2)).abs())


def normalized_importance(importances: Floats) -> Floats:
    """Mean over structures of [structures, H], scaled to unit l2 norm over the heads; NaN where no head matters."""
    mean: Floats = importances.mean(axis=0)
    norm = float(np.linalg.norm(mean))
    return mean / norm if norm > 0 else np.full_like(mean, np.nan)


def follow(subject: Subject, weights: Floats) -> Floats:
    """Weights on the encoder's output tokens followed to its input pieces by rollout (Abnar and Zuidema, ACL 2020).

    The output token at a place is a mixture of all pieces. The total weight stays what it was.
    """
    maps = subject.path.self_attention(subject.structure.encoding)
    if maps.shape[-1] != len(weights):
        raise AttributionError(f"expected weights over {maps.shape[-1]} tokens, got {len(weights)}")
    return np.asarray(weights @ rollout(maps).numpy(), dtype=np.float64)


def _floats(values: Tensor) -> Floats:
    array: Floats = values.detach().double().cpu().numpy()
    return array
