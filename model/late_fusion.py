"""Late fusion: the pooled graph and the pooled text become one vector. One registry by published name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import ModelConfig


class DenseFusion(nn.Module):
    """The published default has no fusion module: two features are joined and pass ``fc1`` and a ReLU.

    This holds no parameters; ``fc1`` belongs to the network, as in the published state dicts.
    """

    def __init__(self, average: bool) -> None:
        super().__init__()
        self.average = average

    def forward(self, graph: Tensor, text: Tensor) -> Tensor:
        """[B, c] and [B, c] to their mean [B, c] (older release) or their concatenation [B, 2c]."""
        return (graph + text) / 2 if self.average else torch.cat([graph, text], dim=-1)


def _scalar_gate(width: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, width // 2), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width // 2, 1), nn.Sigmoid()
    )


class GatedFusion(nn.Module):
    """A scalar gate for each modality, normalised to sum to 1, weights two linear maps."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, out, dropout = (
            config.projection_features,
            config.late_fusion_output_dim,
            config.cross_modal_dropout,
        )
        self.gate_graph = _scalar_gate(width, dropout)
        self.gate_text = _scalar_gate(width, dropout)
        self.graph_transform = nn.Linear(width, out)
        self.text_transform = nn.Linear(width, out)
        self.fusion_transform = nn.Sequential(nn.Linear(out, out), nn.LayerNorm(out), nn.ReLU(), nn.Dropout(dropout))

    def forward(self, graph: Tensor, text: Tensor) -> Tensor:
        """[B, c] and [B, c] to [B, o]."""
        gate_graph, gate_text = self.gate_graph(graph), self.gate_text(text)
        total = gate_graph + gate_text + 1e-8
        fused = gate_graph / total * self.graph_transform(graph) + gate_text / total * self.text_transform(text)
        result: Tensor = self.fusion_transform(fused)
        return result


class BilinearFusion(nn.Module):
    """Low-rank bilinear pooling: the sum over rank of products of two linear maps."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, self.rank, self.out = (
            config.projection_features,
            config.late_fusion_rank,
            config.late_fusion_output_dim,
        )
        self.graph_proj = nn.Linear(width, self.rank * self.out, bias=False)
        self.text_proj = nn.Linear(width, self.rank * self.out, bias=False)
        self.dropout = nn.Dropout(config.cross_modal_dropout)
        self.layer_norm = nn.LayerNorm(self.out)

    def forward(self, graph: Tensor, text: Tensor) -> Tensor:
        """[B, c] and [B, c] to [B, o]."""
        product = self.graph_proj(graph) * self.text_proj(text)
        fused: Tensor = self.dropout(self.layer_norm(product.unflatten(-1, (self.rank, self.out)).sum(dim=1)))
        return fused


class AdaptiveFusion(nn.Module):
    """A softmax over three joins of the aligned features: sum, product, gated mean."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, out, dropout = (
            config.projection_features,
            config.late_fusion_output_dim,
            config.cross_modal_dropout,
        )
        self.graph_align = nn.Linear(width, out)
        self.text_align = nn.Linear(width, out)
        self.fusion_selector = nn.Sequential(
            nn.Linear(2 * out, out), nn.ReLU(), nn.Dropout(dropout), nn.Linear(out, 3), nn.Softmax(dim=-1)
        )
        self.gate_net = nn.Sequential(nn.Linear(2 * out, out), nn.Sigmoid())
        self.layer_norm = nn.LayerNorm(out)
        self.dropout = nn.Dropout(dropout)

    def forward(self, graph: Tensor, text: Tensor) -> Tensor:
        """[B, c] and [B, c] to [B, o]."""
        graph, text = self.graph_align(graph), self.text_align(text)
        both = torch.cat([graph, text], dim=-1)
        gate = self.gate_net(both)
        choices = torch.stack([graph + text, graph * text, gate * graph + (1 - gate) * text], dim=1)
        fused: Tensor = self.dropout(self.layer_norm((self.fusion_selector(both)[..., None] * choices).sum(dim=1)))
        return fused


class TuckerFusion(nn.Module):
    """Tucker decomposition: a linear map of the outer product of two compressed features."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, rank, out = config.projection_features, config.late_fusion_rank, config.late_fusion_output_dim
        self.graph_factor = nn.Linear(width, rank, bias=False)
        self.text_factor = nn.Linear(width, rank, bias=False)
        self.core_factor = nn.Linear(rank * rank, out)
        self.layer_norm = nn.LayerNorm(out)
        self.dropout = nn.Dropout(config.cross_modal_dropout)

    def forward(self, graph: Tensor, text: Tensor) -> Tensor:
        """[B, c] and [B, c] to [B, o]."""
        outer = self.graph_factor(graph)[:, :, None] * self.text_factor(text)[:, None, :]
        fused: Tensor = self.dropout(self.layer_norm(self.core_factor(outer.flatten(1))))
        return fused


LATE_FUSION: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "gated": GatedFusion,
    "bilinear": BilinearFusion,
    "adaptive": AdaptiveFusion,
    "tucker": TuckerFusion,
}


class ProjectionHead(nn.Module):
    """``LayerNorm(fc(gelu(p)) + p)`` of the projection p, with the exact (erf) GELU."""

    def __init__(self, in_features: int, out_features: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.projection = nn.Linear(in_features, out_features)
        self.fc = nn.Linear(out_features, out_features)
        self.dropout = nn.Dropout(dropout)
        self.layer_norm = nn.LayerNorm(out_features)

    def forward(self, values: Tensor) -> Tensor:
        """[B, in] to [B, out]."""
        projected = self.projection(values)
        result: Tensor = self.layer_norm(self.dropout(self.fc(F.gelu(projected))) + projected)
        return result
