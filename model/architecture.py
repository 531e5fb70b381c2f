"""The configuration of a network out of the names and shapes of its weights.

What a state dict cannot say (head counts, link function, classification) takes the published default, and
every such assumption is put into words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from model.config import ModelConfig
from model.errors import CheckpointError

StateDict = Mapping[str, Tensor]

# A weight without which nothing can be said about a network of the family.
ANCHOR = "atom_embedding.layer.0.weight"
# Initial values of two parameters of the improved quality gate that move only where its norm term is in use.
_INITIAL_NORM_THRESHOLD, _INITIAL_NORM_WEIGHT = 3.0, 0.3


@dataclass(frozen=True)
class Evidence:
    """The tensor that a configuration field was read from."""

    value: Any
    name: str
    shape: tuple[int, ...]


@dataclass
class Inference:
    """What a state dict says about its network.

    Attributes:
        fields: configuration fields that names and shapes settle, by field name.
        evidence: for the fields that are sizes, the tensor that says so.
        assumed: fields that the weights cannot settle and whose value was chosen.
        assumptions: why, one sentence for each choice.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    evidence: dict[str, Evidence] = field(default_factory=dict)
    assumed: dict[str, Any] = field(default_factory=dict)
    assumptions: dict[str, str] = field(default_factory=dict)

    def config_fields(self) -> dict[str, Any]:
        """Arguments of :class:`model.config.ModelConfig`."""
        return {**self.assumed, **self.fields}


def infer_config(state: StateDict) -> Inference:
    """Infer the architecture from a state dict with upstream's parameter names.

    Raises:
        CheckpointError: the weights are not of this family.
    """
    if ANCHOR not in state or "fc.weight" not in state:
        shown = ", ".join(name[:60] for name in list(state)[:3] if name.isprintable()) or "none with a name"
        raise CheckpointError(
            f"does not hold a network of this family: expected {ANCHOR} and fc.weight among its weights, "
            f"found {len(state)} tensors such as {shown}"
        )
    return examine(state)


def examine(state: StateDict) -> Inference:
    """Like :func:`infer_config`, of whatever part of a network is there."""
    reader = _Reader(state)
    reader.backbone()
    reader.middle_fusion()
    reader.attention()
    reader.head()
    return reader.result


class _Reader:
    def __init__(self, state: StateDict) -> None:
        self.state = state
        self.result = Inference()

    def has(self, prefix: str) -> bool:
        return any(name.startswith(prefix) for name in self.state)

    def size(self, name: str, tensor: str, axis: int) -> int | None:
        """Settle a field by one axis of a tensor; nothing happens where it is absent or has too few axes."""
        found = self.state.get(tensor)
        if found is None or found.dim() <= axis:
            return None
        value = found.shape[axis]
        self.result.fields[name] = value
        self.result.evidence[name] = Evidence(value, tensor, tuple(found.shape))
        return value

    def settle(self, name: str, value: Any) -> None:
        self.result.fields[name] = value

    def assume(self, name: str, value: Any, sentence: str) -> None:
        self.result.assumed[name] = value
        self.result.assumptions[name] = sentence

    def indices(self, prefix: str) -> list[int]:
        pattern = re.compile(re.escape(prefix) + r"(\d{1,6})\.")
        matches = (pattern.match(name) for name in self.state)
        return sorted({int(match.group(1)) for match in matches if match})

    def backbone(self) -> None:
        self.size("hidden_features", ANCHOR, 0)
        self.size("atom_input_features", ANCHOR, 1)
        self.size("embedding_features", "edge_embedding.1.layer.0.weight", 0)
        self.size("edge_input_features", "edge_embedding.1.layer.0.weight", 1)
        self.size("triplet_input_features", "angle_embedding.1.layer.0.weight", 1)
        self.size("projection_features", "text_projection.projection.weight", 0)
        self.size("token_features", "text_projection.projection.weight", 1)
        for name in ("alignn_layers", "gcn_layers"):
            found = self.indices(f"{name}.")
            self.settle(name, found[-1] + 1 if found else 0)
        if self.has("graph_regularizers.0.layer_norm."):
            self.settle("graph_norm", "layer")
        else:
            sentence = "no pair norm and no initial residual assumed between graph layers: they have no weights"
            self.assume("graph_norm", "none", sentence)
        if self.has("element_embedding."):
            self.settle("element_embedding", "learned")
        else:
            self.settle("element_embedding", "fixed" if "element_table" in self.state else "none")

    def middle_fusion(self) -> None:
        layers = self.indices("middle_fusion_modules.layer_")
        self.settle("use_middle_fusion", bool(layers))
        if not layers:
            return
        self.settle("middle_fusion_layers", tuple(layers))
        first = f"middle_fusion_modules.layer_{layers[0]}."
        if f"{first}a2t_query.weight" in self.state:
            self._token_attention_fusion(first)
            return
        kinds = {"position_encoding": "positional", "element_weight": "element"}
        kind = next((kind for name, kind in kinds.items() if first + name in self.state), "broadcast")
        self.settle("middle_fusion_type", kind)
        self.size("middle_fusion_max_positions", f"{first}position_encoding", 0)
        self.size("middle_fusion_hidden_dim", f"{first}text_transform.0.weight", 0)
        self.settle("middle_fusion_use_gate_norm", f"{first}gate_norm.weight" in self.state)
        self._text_scale(layers)

    def _text_scale(self, layers: list[int]) -> None:
        names = [f"middle_fusion_modules.layer_{layer}.text_scale" for layer in layers]
        scales = [self.state[name].float() for name in names if name in self.state]
        if any(bool((scale != 1).any()) for scale in scales):
            self.settle("middle_fusion_use_learnable_scale", True)
        elif scales:
            self.assume(
                "middle_fusion_use_learnable_scale",
                False,
                "a fixed text_scale assumed: it is exactly 1, and a learnable one at 1 computes the same",
            )

    def _token_attention_fusion(self, first: str) -> None:
        self.settle("middle_fusion_type", "token-attention")
        self.settle("middle_fusion_use_projection", f"{first}node_proj_in.weight" in self.state)
        self.settle("middle_fusion_use_gate", f"{first}gate.0.weight" in self.state)
        width = self.size("middle_fusion_hidden_dim", f"{first}a2t_query.weight", 0)
        self._heads("middle_fusion_num_heads", width, first.rstrip("."))

    def _heads(self, name: str, width: int | None, module: str, remark: str = "") -> None:
        """The head count is in no shape: the default, or the largest divisor of the width below it."""
        if not width:
            return
        default: int = ModelConfig.model_fields[name].default
        heads = max(count for count in range(1, default + 1) if width % count == 0)
        plural = "heads" if heads != 1 else "head"
        self.assume(name, heads, f"{heads} {plural} assumed for {module}: the file does not say{remark}")

    def attention(self) -> None:
        prefix = "fine_grained_attention."
        self.settle("use_fine_grained_attention", self.has(prefix))
        if self.has(prefix):
            self.settle("fine_grained_use_projection", f"{prefix}node_proj_in.weight" in self.state)
            width = self.size("fine_grained_hidden_dim", f"{prefix}a2t_query.weight", 0)
            self._heads("fine_grained_num_heads", width, "fine_grained_attention")
        gated = self.has("gated_cross_attention.")
        self.settle("use_cross_modal_attention", gated or self.has("cross_modal_attention."))
        module = "gated_cross_attention.cross_attention" if gated else "cross_modal_attention"
        width = self.size("cross_modal_hidden_dim", f"{module}.g2t_query.weight", 0)
        self._heads(
            "cross_modal_num_heads",
            width,
            module,
            " (no effect: with one query and one key each weight is 1)",
        )
        self.settle("cross_modal_gate", "none")
        if gated:
            self._cross_modal_gate("gated_cross_attention.")

    def _cross_modal_gate(self, prefix: str) -> None:
        improved = f"{prefix}text_quality_gate.norm_threshold" in self.state
        if self.has(f"{prefix}adaptive_gate."):
            warm_up = f"{prefix}current_step" in self.state
            self.settle("cross_modal_gate", "warm-up" if warm_up else "simplified")
            if warm_up:
                steps = ModelConfig.model_fields["cross_modal_gate_warmup_steps"].default
                sentence = f"a warm-up of {steps} steps assumed for the gate: the file does not say"
                self.assume("cross_modal_gate_warmup_steps", steps, sentence)
            return
        if self.has(f"{prefix}fusion_gate."):
            self.settle("cross_modal_gate", "balanced")
        else:
            self.settle("cross_modal_gate", "improved-quality" if improved else "quality")
        self.size("cross_modal_gate_hidden_dim", f"{prefix}text_quality_gate.quality_network.0.weight", 0)
        if improved:
            self._gate_norm(f"{prefix}text_quality_gate.")

    def _gate_norm(self, prefix: str) -> None:
        threshold, weight = (
            float(self.state[prefix + name].float()) if prefix + name in self.state else initial
            for name, initial in (
                ("norm_threshold", _INITIAL_NORM_THRESHOLD),
                ("norm_weight", _INITIAL_NORM_WEIGHT),
            )
        )
        moved = abs(threshold - _INITIAL_NORM_THRESHOLD) > 1e-6 or abs(weight - _INITIAL_NORM_WEIGHT) > 1e-6
        if moved:
            self.settle("cross_modal_gate_use_norm", True)
        else:
            sentence = "the norm term of the quality gate assumed unused: its parameters have their initial values"
            self.assume("cross_modal_gate_use_norm", False, sentence)

    def head(self) -> None:
        self.size("output_features", "fc.weight", 0)
        self._late_fusion()
        bias = self.state.get("fc.bias")
        if bias is not None and bias.dim() == 0:
            # Upstream overwrites the bias with a scalar for the log link, and only then.
            self.settle("link", "log")
        else:
            self.assume("link", "identity", "link 'identity' assumed: the file does not say")
        self.assume("classification", False, "regression assumed: the file does not say")

    def _late_fusion(self) -> None:
        prefix = "fusion_module."
        if self.has(f"{prefix}gate_graph."):
            self.settle("late_fusion_type", "gated")
            self.size("late_fusion_output_dim", f"{prefix}graph_transform.weight", 0)
        elif self.has(f"{prefix}graph_align."):
            self.settle("late_fusion_type", "adaptive")
            self.size("late_fusion_output_dim", f"{prefix}graph_align.weight", 0)
        elif self.has(f"{prefix}core_factor."):
            self.settle("late_fusion_type", "tucker")
            self.size("late_fusion_output_dim", f"{prefix}core_factor.weight", 0)
            self.size("late_fusion_rank", f"{prefix}graph_factor.weight", 0)
        elif self.has(f"{prefix}graph_proj."):
            self.settle("late_fusion_type", "bilinear")
            width = self.size("late_fusion_output_dim", f"{prefix}layer_norm.weight", 0)
            product = self.state.get(f"{prefix}graph_proj.weight")
            if width and product is not None and product.dim() == 2 and product.shape[0] % width == 0:
                rank = product.shape[0] // width
                self.settle("late_fusion_rank", rank)
                evidence = Evidence(rank, f"{prefix}graph_proj.weight", tuple(product.shape))
                self.result.evidence["late_fusion_rank"] = evidence
        elif (dense := self.state.get("fc1.weight")) is not None and dense.dim() == 2:
            gated = self.result.fields["cross_modal_gate"] != "none"
            # One vector of the projections' width enters fc1 where the older release averages the two.
            average = not gated and dense.shape[0] == dense.shape[1]
            self.settle("late_fusion_type", "average" if average else "concat")
