"""Attention between atoms and tokens, and between the two pooled modalities.

The softmax is a module of its own: a hook can see the weights of every head and replace them. Where nobody
watches, the fused kernel runs and no weight matrix is made.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.batch import CrystalBatch


def is_watched(module: nn.Module) -> bool:
    """Whether a forward hook or pre-hook is registered on the module."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def split_heads(values: Tensor, heads: int) -> Tensor:
    """[B, S, H * c] to [B, H, S, c]."""
    return values.reshape(*values.shape[:-1], heads, -1).transpose(1, 2)


def join_heads(values: Tensor) -> Tensor:
    """[B, H, S, c] to [B, S, H * c]."""
    return values.transpose(1, 2).flatten(-2)


class AttentionWeights(nn.Module):
    """Softmax over the keys that exist: scores [B, H, Q, K] and key mask [B, 1, 1, K] to weights."""

    def forward(self, scores: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """Weights [B, H, Q, K]; each row sums to 1 over unmasked keys and is 0 elsewhere."""
        if key_mask is not None:
            scores = scores.masked_fill(~key_mask, float("-inf"))
        return torch.softmax(scores, dim=-1)


def attend(
    weights: AttentionWeights,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    heads: int,
    key_mask: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Multi-head attention [B, Q, h] over [B, K, h], scale 1/sqrt(head width); heads split after projection."""
    q, k, v = (split_heads(part, heads) for part in (query, key, value))
    mask = None if key_mask is None else key_mask[:, None, None, :]
    if not is_watched(weights):
        return join_heads(F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout))
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    return join_heads(F.dropout(weights(scores, mask), dropout) @ v)


class FineGrainedAttention(nn.Module):
    """Atoms attend to tokens and tokens to atoms; post-norm residual on the unprojected inputs.

    Only the atoms go on to the readout. The token-to-atom branch never reaches the prediction, so it is computed
    only where a hook watches it.
    """

    def __init__(
        self, node_dim: int, token_dim: int, hidden_dim: int, heads: int, dropout: float, use_projection: bool
    ) -> None:
        super().__init__()
        self.heads = heads
        self.use_projection = use_projection
        node_in, token_in = (hidden_dim, hidden_dim) if use_projection else (node_dim, token_dim)
        if use_projection:
            self.node_proj_in = nn.Linear(node_dim, hidden_dim)
            self.token_proj_in = nn.Linear(token_dim, hidden_dim)
        self.a2t_query = nn.Linear(node_in, hidden_dim)
        self.a2t_key = nn.Linear(token_in, hidden_dim)
        self.a2t_value = nn.Linear(token_in, hidden_dim)
        self.t2a_query = nn.Linear(token_in, hidden_dim)
        self.t2a_key = nn.Linear(node_in, hidden_dim)
        self.t2a_value = nn.Linear(node_in, hidden_dim)
        self.node_output = nn.Linear(hidden_dim, node_dim)
        self.token_output = nn.Linear(hidden_dim, token_dim)
        self.dropout = nn.Dropout(dropout)
        self.layer_norm_node = nn.LayerNorm(node_dim)
        self.layer_norm_token = nn.LayerNorm(token_dim)
        self.atom_to_token = AttentionWeights()
        self.token_to_atom = AttentionWeights()

    def forward(self, nodes: Tensor, batch: CrystalBatch) -> Tensor:
        """Atoms [N, d] to atoms enhanced by their structure's tokens [N, d]."""
        tokens = batch.token_embeddings
        if self.use_projection:
            node_in, token_in = self.node_proj_in(nodes), self.token_proj_in(tokens)
        else:
            node_in, token_in = nodes, tokens
        dropout = self.dropout.p if self.training else 0.0
        context = attend(
            self.atom_to_token,
            batch.pad_atoms(self.a2t_query(node_in)),
            self.a2t_key(token_in),
            self.a2t_value(token_in),
            heads=self.heads,
            key_mask=batch.token_mask,
            dropout=dropout,
        )
        if is_watched(self.token_to_atom) or is_watched(self.layer_norm_token):
            self._attend_tokens(node_in, token_in, batch, dropout)
        enhanced: Tensor = self.layer_norm_node(nodes + self.node_output(batch.unpad_atoms(context)))
        return enhanced

    def _attend_tokens(self, node_in: Tensor, token_in: Tensor, batch: CrystalBatch, dropout: float) -> None:
        context = attend(
            self.token_to_atom,
            self.t2a_query(token_in),
            batch.pad_atoms(self.t2a_key(node_in)),
            batch.pad_atoms(self.t2a_value(node_in)),
            heads=self.heads,
            key_mask=batch.atom_mask,
            dropout=dropout,
        )
        self.layer_norm_token(batch.token_embeddings + self.token_output(context))


class CrossModalAttention(nn.Module):
    """Pooled graph and pooled text attend to each other: one query and one key, so every weight is exactly 1."""

    def __init__(self, dim: int, hidden_dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        for side in ("g2t", "t2g"):
            for part in ("query", "key", "value"):
                setattr(self, f"{side}_{part}", nn.Linear(dim, hidden_dim))
        self.graph_output = nn.Linear(hidden_dim, dim)
        self.text_output = nn.Linear(hidden_dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.layer_norm_graph = nn.LayerNorm(dim)
        self.layer_norm_text = nn.LayerNorm(dim)
        self.graph_to_text = AttentionWeights()
        self.text_to_graph = AttentionWeights()

    def _attend(self, weights: AttentionWeights, side: str, query: Tensor, other: Tensor) -> Tensor:
        q, k, v = (
            getattr(self, f"{side}_{part}")(values)[:, None]
            for part, values in (("query", query), ("key", other), ("value", other))
        )
        dropout = self.dropout.p if self.training else 0.0
        return attend(weights, q, k, v, heads=self.heads, dropout=dropout)[:, 0]

    def forward(self, graph: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Graph [B, c] and text [B, c] to both, each enhanced by the other."""
        from_text = self.graph_output(self._attend(self.graph_to_text, "g2t", graph, text))
        from_graph = self.text_output(self._attend(self.text_to_graph, "t2g", text, graph))
        return self.layer_norm_graph(graph + from_text), self.layer_norm_text(text + from_graph)
