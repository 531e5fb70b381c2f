"""Middle fusion: text enters the atoms between ALIGNN layers. One registry of variants by published name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from model.attention import AttentionWeights, attend
from model.batch import CrystalBatch
from model.config import ModelConfig

HIGHEST_ATOMIC_NUMBER = 103


class MiddleFusion(nn.Module):
    """``LayerNorm(x + gate([x, t]) * t)`` with t the transformed text, one value of the gate per channel.

    Subclasses say how the text of a structure becomes the text of each of its atoms.
    """

    text_scale: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.hidden_features
        self.text_transform = nn.Sequential(
            nn.Linear(config.projection_features, config.middle_fusion_hidden_dim),
            nn.ReLU(),
            nn.Dropout(config.middle_fusion_dropout),
            nn.Linear(config.middle_fusion_hidden_dim, dim),
        )
        if config.middle_fusion_use_learnable_scale:
            self.text_scale = nn.Parameter(torch.tensor(float(config.middle_fusion_initial_scale)))
        else:
            self.register_buffer("text_scale", torch.tensor(1.0))
        self.gate_norm = nn.LayerNorm(2 * dim) if config.middle_fusion_use_gate_norm else nn.Identity()
        self.gate = nn.Sequential(nn.Linear(2 * dim, dim), nn.Sigmoid())
        self.layer_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(config.middle_fusion_dropout)

    def spread(self, text: Tensor, batch: CrystalBatch) -> Tensor:
        """Transformed text of each structure [B, d] to that of each atom [N, d]."""
        return text[batch.atom_owner]

    def forward(self, nodes: Tensor, text: Tensor, batch: CrystalBatch) -> Tensor:
        """Atoms [N, d] and projected texts [B, p] to fused atoms [N, d]."""
        per_atom = self.spread(self.text_transform(text) * self.text_scale, batch)
        gate = self.gate(self.gate_norm(torch.cat([nodes, per_atom], dim=-1)))
        fused: Tensor = self.dropout(self.layer_norm(nodes + gate * per_atom))
        return fused


class PositionalFusion(MiddleFusion):
    """Adds a learned vector for each atom's number in its structure, so that atoms receive different text.

    The order of atoms in a file then matters to the prediction: a property of the variant, not of the crystal.
    Atoms beyond the last learned position share it.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.position_encoding = nn.Parameter(torch.randn(config.middle_fusion_max_positions, config.hidden_features))

    def spread(self, text: Tensor, batch: CrystalBatch) -> Tensor:
        """Text of the structure plus the vector of the atom's position."""
        last = len(self.position_encoding) - 1
        return text[batch.atom_owner] + self.position_encoding[batch.atom_position.clamp(max=last)]


class ElementFusion(MiddleFusion):
    """One linear map of the text for each element.

    The maps are one stacked parameter, not a module an element: a batch needs a single batched product.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        dim = config.hidden_features
        bound = dim**-0.5
        shape = (HIGHEST_ATOMIC_NUMBER + 1, dim, dim)
        # Uniform on +-1/sqrt(fan in): what torch.nn.Linear draws for the same shape.
        self.element_weight = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        self.element_bias = nn.Parameter(torch.empty(shape[:2]).uniform_(-bound, bound))

    def spread(self, text: Tensor, batch: CrystalBatch) -> Tensor:
        """Text of the structure mapped by the matrix of the atom's element."""
        if batch.atomic_numbers is None:
            raise ValueError("expected atomic_numbers in the batch: element-specific middle fusion needs them")
        # Equal (structure, element) pairs receive equal text: map each once.
        code = batch.atom_owner * (HIGHEST_ATOMIC_NUMBER + 1) + batch.atomic_numbers.clamp(max=HIGHEST_ATOMIC_NUMBER)
        pairs, which = torch.unique(code, return_inverse=True)
        owner = torch.div(pairs, HIGHEST_ATOMIC_NUMBER + 1, rounding_mode="floor")
        element = pairs % (HIGHEST_ATOMIC_NUMBER + 1)
        mapped = torch.einsum("pde,pe->pd", self.element_weight[element], text[owner]) + self.element_bias[element]
        return mapped[which]


class TokenAttentionFusion(nn.Module):
    """Each atom attends to the tokens of its text in place of receiving one vector copied to all atoms."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim, hidden, tokens = config.hidden_features, config.middle_fusion_hidden_dim, config.token_features
        self.heads = config.middle_fusion_num_heads
        self.use_projection = config.middle_fusion_use_projection
        self.use_gate = config.middle_fusion_use_gate
        node_in, token_in = (hidden, hidden) if self.use_projection else (dim, tokens)
        if self.use_projection:
            self.node_proj_in = nn.Linear(dim, hidden)
            self.token_proj_in = nn.Linear(tokens, hidden)
        self.a2t_query = nn.Linear(node_in, hidden)
        self.a2t_key = nn.Linear(token_in, hidden)
        self.a2t_value = nn.Linear(token_in, hidden)
        self.output_proj = nn.Linear(hidden, dim)
        if self.use_gate:
            self.gate = nn.Sequential(nn.Linear(2 * dim, dim), nn.Sigmoid())
        self.dropout = nn.Dropout(config.middle_fusion_dropout)
        self.layer_norm = nn.LayerNorm(dim)
        self.atom_to_token = AttentionWeights()

    def forward(self, nodes: Tensor, text: Tensor, batch: CrystalBatch) -> Tensor:
        """Atoms [N, d] to fused atoms [N, d]; the pooled text is not used."""
        tokens = batch.token_embeddings
        node_in, token_in = (
            (self.node_proj_in(nodes), self.token_proj_in(tokens)) if self.use_projection else (nodes, tokens)
        )
        context = attend(
            self.atom_to_token,
            batch.pad_atoms(self.a2t_query(node_in)),
            self.a2t_key(token_in),
            self.a2t_value(token_in),
            heads=self.heads,
            key_mask=batch.token_mask,
            dropout=self.dropout.p if self.training else 0.0,
        )
        added = self.output_proj(batch.unpad_atoms(context))
        if self.use_gate:
            added = self.gate(torch.cat([nodes, added], dim=-1)) * added
        fused: Tensor = self.dropout(self.layer_norm(nodes + added))
        return fused


MIDDLE_FUSION: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "broadcast": MiddleFusion,
    "positional": PositionalFusion,
    "element": ElementFusion,
    "token-attention": TokenAttentionFusion,
}
