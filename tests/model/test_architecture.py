"""Configurations inferred from weights equal the configurations the weights were made with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.architecture import examine, infer_config
from model.checkpoint_layout import find_config, find_weights
from model.config import ModelConfig
from model.errors import CheckpointError
from model.network import CrystalTextNetwork
from model.restricted_reader import read_checkpoint

SMALL: dict[str, Any] = {
    "alignn_layers": 2,
    "gcn_layers": 1,
    "hidden_features": 8,
    "embedding_features": 6,
    "token_features": 10,
    "projection_features": 4,
    "cross_modal_hidden_dim": 8,
    "fine_grained_hidden_dim": 16,
    "middle_fusion_hidden_dim": 12,
    "middle_fusion_layers": (1,),
}
# Fields that leave no trace in names and shapes.
UNTOLD = {
    "graph_dropout", "middle_fusion_dropout", "fine_grained_dropout", "cross_modal_dropout",
    "middle_fusion_num_heads", "fine_grained_num_heads", "cross_modal_num_heads",
    "middle_fusion_initial_scale", "cross_modal_gate_use_norm", "cross_modal_gate_warmup_steps",
    "graph_initial_residual", "use_contrastive_loss", "contrastive_loss_weight", "contrastive_temperature",
    "link", "classification",
}  # fmt: skip
# Fields that mean nothing unless another one switches their module on.
ONLY_WITH = {
    "middle_fusion_": lambda c: c.use_middle_fusion,
    "middle_fusion_use_gate_norm": lambda c: c.middle_fusion_type != "token-attention",
    "middle_fusion_use_learnable_scale": lambda c: c.middle_fusion_type != "token-attention",
    "middle_fusion_use_gate": lambda c: c.middle_fusion_type == "token-attention",
    "middle_fusion_use_projection": lambda c: c.middle_fusion_type == "token-attention",
    "middle_fusion_max_positions": lambda c: c.middle_fusion_type == "positional",
    "fine_grained_": lambda c: c.use_fine_grained_attention,
    "cross_modal_hidden_dim": lambda c: c.use_cross_modal_attention or c.cross_modal_gate != "none",
    "cross_modal_gate_hidden_dim": lambda c: c.cross_modal_gate in ("quality", "improved-quality", "balanced"),
    "late_fusion_rank": lambda c: c.late_fusion_type in ("bilinear", "tucker"),
    "late_fusion_output_dim": lambda c: c.late_fusion_type not in ("concat", "average"),
}

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "no cross-modal": {"use_cross_modal_attention": False},
    "average": {"late_fusion_type": "average"},
    "gated": {"late_fusion_type": "gated", "late_fusion_output_dim": 5},
    "bilinear": {"late_fusion_type": "bilinear", "late_fusion_rank": 3, "late_fusion_output_dim": 6},
    "adaptive": {"late_fusion_type": "adaptive", "late_fusion_output_dim": 7},
    "tucker": {"late_fusion_type": "tucker", "late_fusion_rank": 3, "late_fusion_output_dim": 6},
    "broadcast": {"use_middle_fusion": True},
    "two fusion layers": {"use_middle_fusion": True, "middle_fusion_layers": (0, 1)},
    "fusion layer that does not exist": {"use_middle_fusion": True, "middle_fusion_layers": (1, 7)},
    "gate norm": {"use_middle_fusion": True, "middle_fusion_use_gate_norm": True},
    "scale": {
        "use_middle_fusion": True,
        "middle_fusion_use_learnable_scale": True,
        "middle_fusion_initial_scale": 12.0,
    },
    "positional": {
        "use_middle_fusion": True,
        "middle_fusion_type": "positional",
        "middle_fusion_max_positions": 9,
    },
    "element": {"use_middle_fusion": True, "middle_fusion_type": "element"},
    "token attention": {"use_middle_fusion": True, "middle_fusion_type": "token-attention"},
    "token attention, bare": {
        "use_middle_fusion": True,
        "middle_fusion_type": "token-attention",
        "middle_fusion_use_gate": False,
        "middle_fusion_use_projection": False,
    },
    "fine-grained": {"use_fine_grained_attention": True},
    "fine-grained, no projection": {
        "use_fine_grained_attention": True,
        "fine_grained_use_projection": False,
    },
    "layer norm": {"graph_norm": "layer"},
    "learned elements": {"element_embedding": "learned"},
    "fixed elements": {"element_embedding": "fixed"},
    "no layers": {"alignn_layers": 0, "gcn_layers": 0},
    "two outputs": {"output_features": 2},
} | {
    f"{gate} gate": {"cross_modal_gate": gate, "cross_modal_gate_hidden_dim": 6}
    for gate in ("quality", "simplified", "improved-quality", "balanced", "warm-up")
}


def told(config: ModelConfig) -> dict[str, Any]:
    """The fields that weights can tell."""
    return {
        name: value
        for name, value in config.model_dump().items()
        if name not in UNTOLD and all(used(config) for prefix, used in ONLY_WITH.items() if name.startswith(prefix))
    }


def shapes(network: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in network.state_dict().items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_inferred_config_equals_the_one_built_from(variant: str) -> None:
    config = ModelConfig(**{**SMALL, **VARIANTS[variant]})
    network = CrystalTextNetwork(config)
    inferred = ModelConfig(**infer_config(network.state_dict()).config_fields())
    assert told(inferred) == told(config)
    assert shapes(CrystalTextNetwork(inferred)) == shapes(network)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 20),
    st.sampled_from(["concat", "gated", "adaptive", "tucker", "bilinear"]),
    st.booleans(),
    st.integers(1, 13),
)
def test_any_sizes_are_read_back(
    alignn: int, gcn: int, hidden: int, embedding: int, tokens: int, fusion: str, fine: bool, width: int
) -> None:
    config = ModelConfig(
        alignn_layers=alignn,
        gcn_layers=gcn,
        hidden_features=hidden,
        embedding_features=embedding,
        token_features=tokens,
        late_fusion_type=fusion,
        use_fine_grained_attention=fine,
        fine_grained_hidden_dim=width,
        fine_grained_num_heads=1,
        cross_modal_hidden_dim=width,
        cross_modal_num_heads=1,
    )
    inferred = ModelConfig(**infer_config(CrystalTextNetwork(config).state_dict()).config_fields())
    assert told(inferred) == told(config)


def test_head_counts_are_assumed_in_words() -> None:
    wide = {**SMALL, "use_fine_grained_attention": True, "fine_grained_hidden_dim": 256}
    inference = infer_config(CrystalTextNetwork(ModelConfig(**wide)).state_dict())
    assert inference.assumed["fine_grained_num_heads"] == 8
    assert inference.assumptions["fine_grained_num_heads"] == (
        "8 heads assumed for fine_grained_attention: the file does not say"
    )
    assert "no effect" in inference.assumptions["cross_modal_num_heads"]
    odd = {**wide, "fine_grained_hidden_dim": 12, "fine_grained_num_heads": 3}
    assert infer_config(CrystalTextNetwork(ModelConfig(**odd)).state_dict()).assumed["fine_grained_num_heads"] == 6
    assert {"link", "classification", "graph_norm"} <= inference.assumptions.keys()


def test_scalar_bias_tells_the_log_link() -> None:
    state = CrystalTextNetwork(ModelConfig(**SMALL)).state_dict()
    assert infer_config(state).assumed["link"] == "identity"
    state["fc.bias"] = torch.tensor(-0.36)
    assert infer_config(state).fields["link"] == "log"


def test_quality_norm_is_told_by_parameters_that_moved() -> None:
    state = CrystalTextNetwork(ModelConfig(**SMALL, cross_modal_gate="balanced")).state_dict()
    assert infer_config(state).assumed["cross_modal_gate_use_norm"] is False
    state["gated_cross_attention.text_quality_gate.norm_threshold"] += 0.2
    assert infer_config(state).fields["cross_modal_gate_use_norm"] is True


def test_size_evidence_names_tensor_and_shape() -> None:
    inference = infer_config(CrystalTextNetwork(ModelConfig(**SMALL)).state_dict())
    evidence = inference.evidence["token_features"]
    assert (evidence.value, evidence.name) == (10, "text_projection.projection.weight")
    assert evidence.shape == (4, 10)


def test_weights_of_another_family_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"expected atom_embedding\.layer\.0\.weight .* found 2 tensors"):
        infer_config({"conv1.weight": torch.zeros(1), "bn1.weight": torch.zeros(1)})
    assert examine({"conv1.weight": torch.zeros(1)}).fields["alignn_layers"] == 0


@pytest.mark.parametrize("name", ["full", "no_middle", "late_gated", "mid01_gatenorm_scale", "g1123_full"])
def test_recorded_weights_tell_their_stored_config(shared: Path, name: str) -> None:
    content = read_checkpoint(shared / "oracle" / "checkpoints" / f"{name}.pt").content
    found = find_config(content)
    assert found is not None
    stored = ModelConfig.from_legacy(found.fields)
    inferred = ModelConfig(**infer_config(find_weights(content).state).config_fields())
    assert told(inferred) == told(stored)
