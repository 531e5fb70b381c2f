"""The gated family of cross-modal attention: how much text is let into the fused vector.

Every variant yields one fused vector [B, c]. Gate values are outputs of submodules, so that taps see them:
``quality`` (is the text worth reading), ``fusion`` (how much of it to use), ``effective`` (what is applied).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from model.attention import CrossModalAttention
from model.config import ModelConfig


class GateValue(nn.Identity):
    """Passes a gate [B, 1] on unchanged: a place to watch it, and to replace it."""


def _network(widths: tuple[int, ...], dropout: float) -> nn.Sequential:
    """Linear layers with ReLU between, dropout after the first, a sigmoid at the end."""
    layers: list[nn.Module] = []
    for index, (a, b) in enumerate(pairwise(widths)):
        layers.append(nn.Linear(a, b))
        if index < len(widths) - 2:
            layers.append(nn.ReLU())
            if index == 0:
                layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, nn.Sigmoid())


class TextQualityGate(nn.Module):
    """The original detector: a network's score times ``sigmoid(|t| - 3)``, so a short vector is poor text."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.quality_network = _network((width, hidden, hidden // 2, 1), dropout)

    def forward(self, text: Tensor) -> Tensor:
        """[B, c] to [B, 1] in [0, 1]."""
        score: Tensor = self.quality_network(text)
        return score * torch.sigmoid(text.norm(dim=-1, keepdim=True) - 3.0)


class ImprovedTextQualityGate(nn.Module):
    """Shallower, with a learnable norm threshold and a weighted average in place of the product."""

    def __init__(self, width: int, hidden: int, dropout: float, use_norm: bool) -> None:
        super().__init__()
        self.quality_network = _network((width, hidden, 1), dropout)
        self.norm_threshold = nn.Parameter(torch.tensor(3.0))
        self.norm_weight = nn.Parameter(torch.tensor(0.3))
        self.use_norm = use_norm

    def forward(self, text: Tensor) -> Tensor:
        """[B, c] to [B, 1] in [0, 1]."""
        score: Tensor = self.quality_network(text)
        if not self.use_norm:
            return score
        share = torch.sigmoid(self.norm_weight)
        return share * score + (1 - share) * torch.sigmoid(text.norm(dim=-1, keepdim=True) - self.norm_threshold)


class GatedCrossModalAttention(nn.Module):
    """Base of the family: cross-modal attention, a gate, layer norm over what the gate lets through."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, dropout = config.projection_features, config.cross_modal_dropout
        self.cross_attention = CrossModalAttention(
            width, config.cross_modal_hidden_dim, config.cross_modal_num_heads, dropout
        )
        self.layer_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.effective = GateValue()


class QualityGatedAttention(GatedCrossModalAttention):
    """The original: effective w = quality * fusion; fused = (1 - w) graph + w text."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        width, hidden = config.projection_features, config.cross_modal_gate_hidden_dim
        self.text_quality_gate = self._quality_gate(config)
        self.adaptive_fusion_gate = _network((2 * width, hidden, hidden // 2, 1), config.cross_modal_dropout)

    def _quality_gate(self, config: ModelConfig) -> nn.Module:
        return TextQualityGate(
            config.projection_features, config.cross_modal_gate_hidden_dim, config.cross_modal_dropout
        )

    def forward(self, graph: Tensor, text: Tensor) -> Tensor:
        """[B, c] and [B, c] to [B, c]."""
        quality = self.text_quality_gate(text)
        fusion = self.adaptive_fusion_gate(torch.cat([graph, text], dim=-1))
        weight = self.effective(quality * fusion)
        new_graph, new_text = self.cross_attention(graph, text)
        fused: Tensor = self.dropout(self.layer_norm((1 - weight) * new_graph + weight * new_text + graph))
        return fused


class ImprovedQualityGatedAttention(QualityGatedAttention):
    """The original with the improved quality gate."""

    def _quality_gate(self, config: ModelConfig) -> nn.Module:
        return _improved_gate(config)


def _improved_gate(config: ModelConfig) -> ImprovedTextQualityGate:
    return ImprovedTextQualityGate(
        config.projection_features,
        config.cross_modal_gate_hidden_dim,
        config.cross_modal_dropout,
        config.cross_modal_gate_use_norm,
    )


class SimplifiedGatedAttention(GatedCrossModalAttention):
    """One gate w; fused = graph + w text: text is added, never traded against the graph."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        width = config.projection_features
        self.adaptive_gate = _network((2 * width, config.cross_modal_hidden_dim // 2, 1), config.cross_modal_dropout)

    def scale(self) -> Tensor | float:
        """Factor on the gate; 1 unless a variant warms it up."""
        return 1.0

    def forward(self, graph: Tensor, text: Tensor) -> Tensor:
        """[B, c] and [B, c] to [B, c]."""
        gate = self.effective(self.adaptive_gate(torch.cat([graph, text], dim=-1)) * self.scale())
        new_graph, new_text = self.cross_attention(graph, text)
        fused: Tensor = self.dropout(self.layer_norm(new_graph + gate * new_text + graph))
        return fused


class BalancedGatedAttention(GatedCrossModalAttention):
    """Symmetric, effective weight in [0.5, 1]: no modality can be shut out."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        width, hidden = config.projection_features, config.cross_modal_gate_hidden_dim
        self.text_quality_gate = _improved_gate(config)
        self.fusion_gate = _network((2 * width, hidden, 1), config.cross_modal_dropout)

    def forward(self, graph: Tensor, text: Tensor) -> Tensor:
        """[B, c] and [B, c] to [B, c]."""
        quality = self.text_quality_gate(text)
        fusion = self.fusion_gate(torch.cat([graph, text], dim=-1))
        weight = self.effective(0.5 + 0.5 * quality * fusion)
        new_graph, new_text = self.cross_attention(graph, text)
        mixed_graph = (1 - weight) * graph + weight * new_graph
        mixed_text = weight * text + (1 - weight) * new_text
        fused: Tensor = self.dropout(self.layer_norm(mixed_graph + mixed_text))
        return fused


class WarmUpGatedAttention(SimplifiedGatedAttention):
    """The simplified gate times a factor that rises from 0 to 1 over the first training steps.

    The step is a buffer, advanced once a training forward pass and stored in the checkpoint; in evaluation the
    gate has the strength it was trained with at that step.
    """

    current_step: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.warmup_steps = config.cross_modal_gate_warmup_steps
        self.register_buffer("current_step", torch.tensor(0))

    def scale(self) -> Tensor | float:
        """min(step / warm-up steps, 1)."""
        if self.warmup_steps <= 0:
            return 1.0
        return (self.current_step / self.warmup_steps).clamp(max=1.0)

    def forward(self, graph: Tensor, text: Tensor) -> Tensor:
        """[B, c] and [B, c] to [B, c]."""
        if self.training:
            self.current_step += 1
        return super().forward(graph, text)


GATED_ATTENTION: dict[str, Callable[[ModelConfig], GatedCrossModalAttention]] = {
    "quality": QualityGatedAttention,
    "simplified": SimplifiedGatedAttention,
    "improved-quality": ImprovedQualityGatedAttention,
    "balanced": BalancedGatedAttention,
    "warm-up": WarmUpGatedAttention,
}
