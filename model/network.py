"""The whole network, assembled from its configuration; forward returns the predictions, nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.alignn import AlignnLayer, EdgeGatedConvolution, EmbeddingLayer, MeanReadout, PairNorm, RadialBasis
from model.attention import CrossModalAttention, FineGrainedAttention
from model.batch import CrystalBatch, from_dgl
from model.config import ModelConfig
from model.errors import StructureError
from model.gated_attention import GATED_ATTENTION
from model.late_fusion import LATE_FUSION, DenseFusion, ProjectionHead
from model.middle_fusion import HIGHEST_ATOMIC_NUMBER, MIDDLE_FUSION
from model.pretrained import PretrainedMixin

if TYPE_CHECKING:
    from model.provenance import Provenance

BOND_LENGTH_RANGE = (0.0, 8.0)
ANGLE_COSINE_RANGE = (-1.0, 1.0)


def as_batch(batch: Any, token_embeddings: Tensor | None = None, token_mask: Tensor | None = None) -> CrystalBatch:
    """A :class:`CrystalBatch` as it is, or one made of the DGL pair ``(g, lg)`` that users of ALIGNN have.

    Args:
        batch: a CrystalBatch, ``(g, lg)`` with the two token arguments, or ``(g, lg, embeddings, mask)``.
        token_embeddings: [B, L, D] and token_mask: [B, L], for ``(g, lg)`` only.

    Raises:
        StructureError: something else came.
    """
    if isinstance(batch, CrystalBatch):
        return batch
    if isinstance(batch, tuple | list):
        if len(batch) == 4:
            graph, line_graph, token_embeddings, token_mask = batch
            return from_dgl(graph, line_graph, token_embeddings, token_mask)
        if len(batch) == 2 and token_embeddings is not None and token_mask is not None:
            graph, line_graph = batch
            return from_dgl(graph, line_graph, token_embeddings, token_mask)
    raise StructureError(
        "expected a CrystalBatch, (g, lg) with token_embeddings and token_mask, or "
        f"(g, lg, token_embeddings, token_mask); got {type(batch).__name__}"
        + (f" of {len(batch)}" if isinstance(batch, tuple | list) else "")
        + ". Texts must be encoded first: model.encoder.load_encoder(...).encode(texts)"
    )


class GraphState(NamedTuple):
    """Features between two steps: atoms x [N, d], bonds y [E, d], angles z [A, d], the first x, and steps done."""

    x: Tensor
    y: Tensor
    z: Tensor
    first: Tensor
    done: int


class GraphRegularizer(nn.Module):
    """What stands between graph layers against over-smoothing: a share of the first features, then a norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.share = config.graph_initial_residual
        self.layer_norm = nn.LayerNorm(config.hidden_features) if config.graph_norm == "layer" else None
        self.pair_norm = PairNorm() if config.graph_norm == "pair" else None

    def forward(self, nodes: Tensor, first: Tensor, batch: CrystalBatch) -> Tensor:
        """[N, d] after a layer and [N, d] before the first to [N, d]."""
        nodes = (1 - self.share) * nodes + self.share * first
        if self.layer_norm is not None:
            nodes = self.layer_norm(nodes)
        if self.pair_norm is not None:
            nodes = self.pair_norm(nodes, batch.atom_owner, batch.atoms_per_structure)
        return nodes


class CrystalTextNetwork(PretrainedMixin, nn.Module):
    """ALIGNN over a crystal, a frozen encoder's tokens of its description, fused as the configuration says.

    ``network(batch) -> [B]`` predictions, in the unit of the training target after the link function.
    """

    element_table: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.provenance: Provenance | None = None
        self._build_backbone(config)
        self._build_fusion(config)
        self._build_head(config)

    def _build_backbone(self, config: ModelConfig) -> None:
        hidden, embedding, dropout = config.hidden_features, config.embedding_features, config.graph_dropout
        elements = HIGHEST_ATOMIC_NUMBER + 1
        if config.element_embedding == "learned":
            self.element_embedding = nn.Embedding(elements, config.atom_input_features)
        elif config.element_embedding == "fixed":
            self.register_buffer("element_table", torch.zeros(elements, config.atom_input_features))
        self.atom_embedding = EmbeddingLayer(config.atom_input_features, hidden)
        self.edge_embedding = nn.Sequential(
            RadialBasis(*BOND_LENGTH_RANGE, config.edge_input_features),
            EmbeddingLayer(config.edge_input_features, embedding),
            EmbeddingLayer(embedding, hidden),
        )
        self.angle_embedding = nn.Sequential(
            RadialBasis(*ANGLE_COSINE_RANGE, config.triplet_input_features),
            EmbeddingLayer(config.triplet_input_features, embedding),
            EmbeddingLayer(embedding, hidden),
        )
        self.alignn_layers = nn.ModuleList(AlignnLayer(hidden, dropout) for _ in range(config.alignn_layers))
        self.gcn_layers = nn.ModuleList(EdgeGatedConvolution(hidden, dropout) for _ in range(config.gcn_layers))
        self.graph_regularizers = nn.ModuleList()
        if config.graph_norm != "none" or config.graph_initial_residual:
            layers = config.alignn_layers + config.gcn_layers
            self.graph_regularizers.extend(GraphRegularizer(config) for _ in range(layers))
        self.readout = MeanReadout()

    def _build_fusion(self, config: ModelConfig) -> None:
        self.graph_projection = ProjectionHead(config.hidden_features, config.projection_features)
        self.text_projection = ProjectionHead(config.token_features, config.projection_features)
        self.middle_fusion_modules = nn.ModuleDict()
        if config.use_middle_fusion:
            build = MIDDLE_FUSION[config.middle_fusion_type]
            for layer in config.middle_fusion_layers:
                self.middle_fusion_modules[f"layer_{layer}"] = build(config)
        if config.use_fine_grained_attention:
            self.fine_grained_attention = FineGrainedAttention(
                config.hidden_features,
                config.token_features,
                config.fine_grained_hidden_dim,
                config.fine_grained_num_heads,
                config.fine_grained_dropout,
                config.fine_grained_use_projection,
            )
        if config.cross_modal_gate != "none":
            self.gated_cross_attention = GATED_ATTENTION[config.cross_modal_gate](config)
        elif config.use_cross_modal_attention:
            self.cross_modal_attention = CrossModalAttention(
                config.projection_features,
                config.cross_modal_hidden_dim,
                config.cross_modal_num_heads,
                config.cross_modal_dropout,
            )

    def _build_head(self, config: ModelConfig) -> None:
        width = config.projection_features
        if config.late_fusion_type in LATE_FUSION:
            self.fusion_module = LATE_FUSION[config.late_fusion_type](config)
            width = config.late_fusion_output_dim
        else:
            self.fusion_module = DenseFusion(average=config.late_fusion_type == "average")
            one = config.cross_modal_gate != "none" or config.late_fusion_type == "average"
            self.fc1 = nn.Linear(width if one else 2 * width, width)
        self.fc = nn.Linear(width, config.output_features)

    def forward(
        self,
        batch: Any,
        token_embeddings: Tensor | None = None,
        token_mask: Tensor | None = None,
        *,
        state: GraphState | None = None,
        lean: bool = False,
    ) -> Tensor:
        """Predictions [B], also for one structure.

        Args:
            batch: as in :func:`as_batch`, like the two token arguments.
            state: of :meth:`advance` on the same crystals, to go on from there: with other texts, or to see what the
                later layers alone make of it.
            lean: leave out the updates of bonds and angles that no layer reads. Predictions and all features of atoms
                are the same; a hook on the bonds or angles of the last layers would see those of the layer before.
        """
        batch = as_batch(batch, token_embeddings, token_mask)
        dtype = self.fc.weight.dtype
        if batch.bond_vectors.dtype != dtype or batch.token_embeddings.dtype != dtype:
            batch = batch.to(dtype=dtype)
        if batch.token_embeddings.shape[-1] != self.config.token_features:
            raise StructureError(
                f"expected token embeddings of width {self.config.token_features} (the network's token_features), "
                f"got {batch.token_embeddings.shape[-1]}: use the text encoder the network was trained with"
            )
        text = self.text_projection(batch.token_embeddings[:, 0])
        state = self.advance(self.start(batch) if state is None else state, batch, text, lean=lean)
        return self.finish(state, batch, text)

    @property
    def steps(self) -> tuple[tuple[str, int], ...]:
        """What happens to atoms in order: ``("alignn", i)``, ``("fusion", i)`` after it, ``("gcn", i)``."""
        steps = []
        for index in range(len(self.alignn_layers)):
            steps.append(("alignn", index))
            if f"layer_{index}" in self.middle_fusion_modules:
                steps.append(("fusion", index))
        return (*steps, *(("gcn", index) for index in range(len(self.gcn_layers))))

    def start(self, batch: CrystalBatch) -> GraphState:
        """Embed atoms, bonds and angles: the state before the first graph layer."""
        features = batch.atom_features
        if self.config.element_embedding != "none":
            if batch.atomic_numbers is None:
                raise StructureError("expected atomic_numbers in the batch: this network embeds elements")
            numbers = batch.atomic_numbers.clamp(max=HIGHEST_ATOMIC_NUMBER)
            learned = self.config.element_embedding == "learned"
            features = self.element_embedding(numbers) if learned else self.element_table[numbers]
        x = self.atom_embedding(features)
        y = self.edge_embedding(batch.bond_vectors.norm(dim=1))
        z = self.angle_embedding(batch.angle_cosines) if len(self.alignn_layers) else batch.angle_cosines
        return GraphState(x, y, z, first=x, done=0)

    def advance(
        self,
        state: GraphState,
        batch: CrystalBatch,
        text: Tensor | None,
        until: int | None = None,
        *,
        lean: bool = False,
    ) -> GraphState:
        """Run graph steps from the state's own up to, and without, step ``until`` (all of them when None).

        The steps are those of :attr:`steps`. The projected text [B, p] enters through the middle fusions; a state from
        before the first of them serves any text, and needs none. ``lean`` is that of :meth:`forward`.
        """
        x, y, z, first, done = state
        last_alignn, last_gcn = len(self.alignn_layers) - 1, len(self.gcn_layers) - 1
        for kind, index in self.steps[done:until]:
            if kind == "alignn":
                bonds, angles = (batch.bond_source, batch.bond_target), (batch.angle_source, batch.angle_target)
                x, y, z = self.alignn_layers[index](bonds, angles, x, y, z, keep_angles=lean and index == last_alignn)
                x = self._regularize(index, x, first, batch)
            elif kind == "fusion":
                x = self.middle_fusion_modules[f"layer_{index}"](x, text, batch)
            else:
                bonds = (batch.bond_source, batch.bond_target)
                x, y = self.gcn_layers[index](*bonds, x, y, nodes_only=lean and index == last_gcn)
                x = self._regularize(len(self.alignn_layers) + index, x, first, batch)
        return GraphState(x, y, z, first, len(self.steps) if until is None else until)

    def finish(self, state: GraphState, batch: CrystalBatch, text: Tensor) -> Tensor:
        """Attention to tokens, readout, fusion and head: predictions [B] from the state after the last graph layer."""
        nodes = state.x
        if self.config.use_fine_grained_attention:
            nodes = self.fine_grained_attention(nodes, batch)
        graph = self.graph_projection(self.readout(nodes, batch.atom_owner, batch.atoms_per_structure))
        output: Tensor = self.fc(self._fuse(graph, text))
        return self._link(output).squeeze(-1)

    def _regularize(self, index: int, nodes: Tensor, first: Tensor, batch: CrystalBatch) -> Tensor:
        if not len(self.graph_regularizers):
            return nodes
        result: Tensor = self.graph_regularizers[index](nodes, first, batch)
        return result

    def _fuse(self, graph: Tensor, text: Tensor) -> Tensor:
        if self.config.cross_modal_gate != "none":
            return F.relu(self.fc1(self.gated_cross_attention(graph, text)))
        if self.config.use_cross_modal_attention:
            graph, text = self.cross_modal_attention(graph, text)
        fused: Tensor = self.fusion_module(graph, text)
        return F.relu(self.fc1(fused)) if self.config.late_fusion_type not in LATE_FUSION else fused

    def _link(self, output: Tensor) -> Tensor:
        if self.config.link == "log":
            output = torch.exp(output)
        elif self.config.link == "logit":
            output = torch.sigmoid(output)
        elif not self.config.classification:
            output = output * self.config.target_scale + self.config.target_mean
        return torch.sigmoid(output) if self.config.classification else output
