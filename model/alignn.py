"""ALIGNN backbone in plain torch: edge-gated convolutions on the crystal graph and its line graph.

Choudhary and DeCost, Atomistic Line Graph Neural Network, npj Comput. Mater. 7, 185 (2021).
Parameter names are those of the published implementation, so its state dicts load as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RadialBasis(nn.Module):
    """Gaussian expansion exp(-gamma (x - c)^2) on evenly spaced centres, gamma = 1 / step."""

    centers: Tensor

    def __init__(self, low: float, high: float, bins: int) -> None:
        super().__init__()
        self.register_buffer("centers", torch.linspace(low, high, bins))
        # 1 / step and not 1 / step^2: the published code has it so and trained weights depend on it.
        self.gamma = (bins - 1) / (high - low)

    def forward(self, values: Tensor) -> Tensor:
        """[M] to [M, bins]."""
        return torch.exp(-self.gamma * (values[:, None] - self.centers) ** 2)


class EmbeddingLayer(nn.Module):
    """Linear, batch norm, SiLU: [M, in] to [M, out]."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(in_features, out_features), nn.BatchNorm1d(out_features), nn.SiLU())

    def forward(self, values: Tensor) -> Tensor:
        """[M, in] to [M, out]."""
        result: Tensor = self.layer(values)
        return result


class EdgeGatedConvolution(nn.Module):
    """Edge-gated graph convolution (Bresson and Laurent, arXiv 1711.07553) with a residual on nodes and edges."""

    def __init__(self, features: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.src_gate = nn.Linear(features, features)
        self.dst_gate = nn.Linear(features, features)
        self.edge_gate = nn.Linear(features, features)
        self.bn_edges = nn.BatchNorm1d(features)
        self.src_update = nn.Linear(features, features)
        self.dst_update = nn.Linear(features, features)
        self.bn_nodes = nn.BatchNorm1d(features)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, source: Tensor, target: Tensor, nodes: Tensor, edges: Tensor, *, nodes_only: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Update nodes [N, d] and edges [E, d] of a graph whose edge k runs from source[k] to target[k].

        Where ``nodes_only``, edges are returned as they came: for the last layer that reads them.
        """
        # The edges' product is added onto what was gathered from both ends, and its bias before gathering: there are
        # ten to a hundred edges to a node, so every pass over them counts.
        ends = F.linear(nodes, self.src_gate.weight, self.src_gate.bias + self.edge_gate.bias).index_select(0, source)
        ends = ends.add_(self.dst_gate(nodes).index_select(0, target))
        message = torch.addmm(ends, edges, self.edge_gate.weight.t())
        sigma = torch.sigmoid(message)
        weighted = torch.zeros_like(nodes).index_add(0, target, self.dst_update(nodes).index_select(0, source) * sigma)
        total = torch.zeros_like(nodes).index_add(0, target, sigma)
        updated = self.src_update(nodes) + weighted / (total + 1e-6)
        nodes = nodes + self.dropout(F.silu(self.bn_nodes(updated)))
        if not nodes_only:
            edges = self.dropout(F.silu(self.bn_edges(message))).add_(edges)
        return nodes, edges


class AlignnLayer(nn.Module):
    """One convolution on the crystal graph, then one on the line graph fed with the updated bonds."""

    def __init__(self, features: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.node_update = EdgeGatedConvolution(features, dropout)
        self.edge_update = EdgeGatedConvolution(features, dropout)

    def forward(
        self,
        bonds: tuple[Tensor, Tensor],
        angles: tuple[Tensor, Tensor],
        x: Tensor,
        y: Tensor,
        z: Tensor,
        *,
        keep_angles: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Atoms x [N, d], bonds y [E, d], angles z [A, d] to their updates, in that order.

        Where ``keep_angles``, angles are returned as they came: for the last layer that reads them.
        """
        x, y = self.node_update(*bonds, x, y)
        y, z = self.edge_update(*angles, y, z, nodes_only=keep_angles)
        return x, y, z


class PairNorm(nn.Module):
    """PairNorm (Zhao and Akoglu, arXiv 1909.12223): per structure, centred atoms at a fixed mean square norm."""

    def forward(self, nodes: Tensor, owner: Tensor, counts: Tensor) -> Tensor:
        """[N, d] with owner [N] and atoms per structure [B] to [N, d]."""
        sums = nodes.new_zeros(len(counts), nodes.shape[1]).index_add(0, owner, nodes)
        centred = nodes - (sums / counts[:, None])[owner]
        square = nodes.new_zeros(len(counts)).index_add(0, owner, centred.square().sum(dim=1))
        # A one-atom structure is all zeros after centring: the constant keeps it there instead of dividing by zero.
        return centred / torch.sqrt(square / counts + 1e-6)[owner][:, None]


class MeanReadout(nn.Module):
    """Average of the atoms of each structure."""

    def forward(self, nodes: Tensor, owner: Tensor, counts: Tensor) -> Tensor:
        """[N, d] with owner [N] and atoms per structure [B] to [B, d]."""
        sums = nodes.new_zeros(len(counts), nodes.shape[1]).index_add(0, owner, nodes)
        return sums / counts[:, None]
