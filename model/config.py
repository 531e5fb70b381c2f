"""What a network of the family is made of: one validated, serialisable description."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from model.errors import CheckpointError

MiddleFusionType = Literal["broadcast", "positional", "element", "token-attention"]
LateFusionType = Literal["concat", "average", "gated", "bilinear", "adaptive", "tucker"]
CrossModalGate = Literal["none", "quality", "simplified", "improved-quality", "balanced", "warm-up"]
GraphNorm = Literal["none", "layer", "pair"]
ElementEmbedding = Literal["none", "learned", "fixed"]

# Fields of the published training configuration that do not change the network.
_NOT_ARCHITECTURE = frozenset({"name", "mask_stopwords", "remove_stopwords", "stopwords_dir", "zero_inflated"})
# The published configuration has these from the release that introduced a choice of late fusion on.
_LATE_FUSION_FIELDS = frozenset({"late_fusion_type", "late_fusion_rank", "late_fusion_output_dim"})


class ModelConfig(BaseModel):
    """Architecture of a multimodal crystal network; names follow the published flat configuration.

    Sizes are numbers of channels. ``token_features`` is the width of the text encoder (768 for
    MatSciBERT, 384 for all-MiniLM-L6-v2), never assumed. Unknown keys are refused.
    Backbone: Choudhary and DeCost, npj Comput. Mater. 7, 185 (2021).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    alignn_layers: int = 4
    gcn_layers: int = 4
    atom_input_features: int = 92
    edge_input_features: int = 80
    triplet_input_features: int = 40
    embedding_features: int = 64
    hidden_features: int = 256
    output_features: int = 1
    graph_dropout: float = 0.0
    token_features: int = 768
    projection_features: int = 64

    # Remedies for over-smoothing; the defaults are the published model.
    graph_norm: GraphNorm = "none"
    graph_initial_residual: float = 0.0
    element_embedding: ElementEmbedding = "none"

    use_middle_fusion: bool = False
    middle_fusion_type: MiddleFusionType = "broadcast"
    middle_fusion_layers: tuple[int, ...] = (2,)
    middle_fusion_hidden_dim: int = 128
    middle_fusion_num_heads: int = 2
    middle_fusion_dropout: float = 0.1
    middle_fusion_use_gate_norm: bool = False
    middle_fusion_use_learnable_scale: bool = False
    middle_fusion_initial_scale: float = 1.0
    middle_fusion_use_gate: bool = True
    middle_fusion_use_projection: bool = True
    middle_fusion_max_positions: int = 100

    use_fine_grained_attention: bool = False
    fine_grained_hidden_dim: int = 256
    fine_grained_num_heads: int = 8
    fine_grained_dropout: float = 0.1
    fine_grained_use_projection: bool = True

    use_cross_modal_attention: bool = True
    cross_modal_hidden_dim: int = 256
    cross_modal_num_heads: int = 4
    cross_modal_dropout: float = 0.1
    cross_modal_gate: CrossModalGate = "none"
    cross_modal_gate_hidden_dim: int = 128
    cross_modal_gate_use_norm: bool = False
    cross_modal_gate_warmup_steps: int = 2000

    late_fusion_type: LateFusionType = "concat"
    late_fusion_rank: int = 16
    late_fusion_output_dim: int = 64

    use_contrastive_loss: bool = False
    contrastive_loss_weight: float = 0.1
    contrastive_temperature: float = 0.1

    link: Literal["identity", "log", "logit"] = "identity"
    classification: bool = False
    # Regression with the identity link: the network learns (target - mean) / scale and predicts in the target's unit.
    target_mean: float = 0.0
    target_scale: float = 1.0

    @field_validator("middle_fusion_layers", mode="before")
    @classmethod
    def _parse_layers(cls, value: Any) -> Any:
        """Accept the published spelling, a comma-separated string that tolerates spaces."""
        if isinstance(value, str):
            return tuple(int(part) for part in value.split(",") if part.strip())
        if isinstance(value, int):
            return (value,)
        return value

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        positive = ("hidden_features", "embedding_features", "token_features", "projection_features")
        for name in (*positive, "atom_input_features", "edge_input_features", "triplet_input_features"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, got {getattr(self, name)}")
        if self.alignn_layers < 0 or self.gcn_layers < 0:
            raise ValueError("expected alignn_layers and gcn_layers >= 0")
        heads = (
            (self.use_fine_grained_attention, "fine_grained_hidden_dim", "fine_grained_num_heads"),
            (self.use_cross_modal_attention, "cross_modal_hidden_dim", "cross_modal_num_heads"),
            (
                self.use_middle_fusion and self.middle_fusion_type == "token-attention",
                "middle_fusion_hidden_dim",
                "middle_fusion_num_heads",
            ),
        )
        for used, width, count in heads:
            if used and (getattr(self, count) < 1 or getattr(self, width) % getattr(self, count)):
                raise ValueError(
                    f"expected {width} ({getattr(self, width)}) to be a multiple of {count} ({getattr(self, count)})"
                )
        if self.cross_modal_gate != "none" and self.late_fusion_type not in ("concat", "average"):
            raise ValueError(
                f"a cross_modal_gate already yields one fused vector: late_fusion_type must be 'concat' "
                f"or 'average', got {self.late_fusion_type!r}"
            )
        return self

    @property
    def missing_fusion_layers(self) -> tuple[int, ...]:
        """Middle-fusion layers that name an ALIGNN layer which does not exist, so they never run."""
        if not self.use_middle_fusion:
            return ()
        return tuple(i for i in self.middle_fusion_layers if not 0 <= i < self.alignn_layers)

    @classmethod
    def from_legacy(cls, flat: Mapping[str, Any], *, token_features: int | None = None) -> ModelConfig:
        """Read the flat configuration of the published training script (any of its releases).

        Args:
            flat: field name to value. Training-only fields are left out; unknown ones are refused.
            token_features: width of the token embeddings where the configuration does not say (768 upstream).

        Raises:
            CheckpointError: a field is unknown or has an impossible value.
        """
        fields = {key: value for key, value in flat.items() if key not in _NOT_ARCHITECTURE}
        older = not _LATE_FUSION_FIELDS & fields.keys() and "hidden_features" in fields
        if fields.pop("use_middle_fusion_attention", False):
            fields["middle_fusion_type"] = "token-attention"
        for old, new in (
            ("middle_fusion_attention_use_gate", "middle_fusion_use_gate"),
            ("middle_fusion_attention_use_projection", "middle_fusion_use_projection"),
        ):
            if old in fields:
                fields[new] = fields.pop(old)
        if older and fields.get("use_cross_modal_attention", True):
            # The older release averaged the two modalities; it had no field to say so.
            fields["late_fusion_type"] = "average"
        if token_features is not None:
            fields["token_features"] = token_features
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'config'}: {e['msg']}" for e in error.errors())
            raise CheckpointError(f"the model configuration is not one of this family: {problems}") from error
