"""What an ablation can compare: the published variants by name, and variants of one's own from a file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import DataError

if TYPE_CHECKING:
    from model.training.config import TrainConfig

# A variant may change the network and how it is trained, never the data: all are judged on one test split.
SECTIONS = ("model.", "training.", "data.element_embeddings")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_WHOLE = {
    "model.use_middle_fusion": True,
    "model.use_fine_grained_attention": True,
    "model.use_cross_modal_attention": True,
}
Changes = Mapping[str, Any]


@dataclass(frozen=True)
class Variant:
    """One network of an ablation.

    Attributes:
        name: as given on the command line; also the folder of its runs.
        meaning: one line.
        changes: of the configuration, by dotted names.
        derived: further changes that depend on the configuration, such as half of its layers.
        whole: whether all three places where text enters are switched on first.
    """

    name: str
    meaning: str
    changes: Changes = field(default_factory=dict)
    derived: Callable[[TrainConfig], Changes] | None = None
    whole: bool = True

    def apply(self, base: TrainConfig) -> TrainConfig:
        """The configuration of this variant.

        Raises:
            TrainingError: the changes do not fit the configuration.
        """
        changes: dict[str, Any] = {**_WHOLE, **_fusion_layer(base)} if self.whole else {}
        if self.derived is not None:
            changes |= self.derived(base)
        return base.changed({**changes, **self.changes})


def _fusion_layer(base: TrainConfig) -> Changes:
    """The published fusion layer, 2, or the last one where a configuration without fusion has fewer layers."""
    model = base.model
    if "middle_fusion_layers" in model.model_fields_set or max(model.middle_fusion_layers) < model.alignn_layers:
        return {}
    return {"model.middle_fusion_layers": [max(0, model.alignn_layers - 1)]}


def _half_the_layers(base: TrainConfig) -> Changes:
    model = base.model
    alignn, gcn = max(1, model.alignn_layers // 2), max(1, model.gcn_layers // 2)
    layers = sorted({min(layer, alignn - 1) for layer in model.middle_fusion_layers})
    return {"model.alignn_layers": alignn, "model.gcn_layers": gcn, "model.middle_fusion_layers": layers}


def _after_every_layer(base: TrainConfig) -> Changes:
    return {"model.middle_fusion_layers": list(range(base.model.alignn_layers))}


def _middle(name: str, meaning: str, **fields: Any) -> Variant:
    return Variant(name, meaning, {f"model.middle_fusion_{key}": value for key, value in fields.items()})


def _gate(name: str, gate: str, meaning: str) -> Variant:
    return Variant(name, meaning, {"model.cross_modal_gate": gate})


def _late(kind: str, meaning: str) -> Variant:
    return Variant(f"late-{kind}", meaning, {"model.cross_modal_gate": "none", "model.late_fusion_type": kind})


def _model(name: str, meaning: str, **fields: Any) -> Variant:
    return Variant(name, meaning, {f"model.{key}": value for key, value in fields.items()})


VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("base", "the configuration as it is given", whole=False),
        Variant("full", "middle fusion, fine-grained attention and cross-modal attention"),
        # Without one of the three places where text enters, or without all of them.
        _model("no-middle-fusion", "full without middle fusion", use_middle_fusion=False),
        _model("no-fine-grained-attention", "full without attention to tokens", use_fine_grained_attention=False),
        _model(
            "no-cross-modal-attention",
            "full without cross-modal attention and its gate",
            use_cross_modal_attention=False,
            cross_modal_gate="none",
        ),
        _model(
            "late-fusion-only",
            "text enters at the end only",
            use_middle_fusion=False,
            use_fine_grained_attention=False,
            use_cross_modal_attention=False,
            cross_modal_gate="none",
        ),
        # Middle fusion.
        _middle("broadcast-fusion", "the same text for every atom", type="broadcast"),
        _middle("positional-fusion", "text plus a vector for each atom's number", type="positional"),
        _middle("element-fusion", "text through a matrix for each element", type="element"),
        _middle("token-attention-fusion", "each atom attends to the tokens", type="token-attention", use_gate=True),
        _middle("token-attention-no-gate", "the same without its gate", type="token-attention", use_gate=False),
        _middle("gate-norm", "layer norm at the gate's input", use_gate_norm=True),
        _middle("learnable-text-scale", "a learnable factor on the text", use_learnable_scale=True),
        _middle("fusion-after-first-layer", "middle fusion after ALIGNN layer 0", layers=[0]),
        Variant("fusion-after-every-layer", "middle fusion after every ALIGNN layer", derived=_after_every_layer),
        # The gated family of global cross-modal attention.
        _gate("no-gate", "none", "cross-modal attention without a gate"),
        _gate("quality-gate", "quality", "the original: text quality times fusion gate"),
        _gate("simplified-gate", "simplified", "one gate, text is added"),
        _gate("improved-quality-gate", "improved-quality", "shallower detector with a learnable threshold"),
        _gate("balanced-gate", "balanced", "weight in [0.5, 1], symmetric"),
        _gate("warm-up-gate", "warm-up", "the simplified gate scaled up over the first steps"),
        # Late fusion.
        _late("concat", "joined features"),
        _late("average", "mean of the features"),
        _late("gated", "a scalar gate for each modality"),
        _late("bilinear", "low-rank bilinear pooling"),
        _late("adaptive", "softmax over sum, product and gated mean"),
        _late("tucker", "Tucker decomposition of the outer product"),
        # Remedies for over-smoothing.
        Variant("fewer-layers", "half of the ALIGNN and GCN layers", derived=_half_the_layers),
        _model("initial-residual", "a tenth of the first features after each layer", graph_initial_residual=0.1),
        _model("layer-norm", "layer norm between graph layers", graph_norm="layer"),
        _model("pair-norm", "PairNorm between graph layers", graph_norm="pair"),
        _model(
            "layer-norm-residual",
            "layer norm and a tenth of the first features",
            graph_norm="layer",
            graph_initial_residual=0.1,
        ),
        Variant(
            "learned-elements",
            "a learned embedding for each element in place of cgcnn features",
            {"model.element_embedding": "learned", "data.element_embeddings": None},
        ),
        Variant(
            "fixed-elements",
            "vectors from the file in data.element_embeddings in place of cgcnn features",
            {"model.element_embedding": "fixed"},
        ),
        # Additional losses.
        _model("contrastive-loss", "InfoNCE between graph and text", use_contrastive_loss=True),
        Variant(
            "attention-diversity-loss",
            "rewards attention that differs between atoms",
            {"training.attention_diversity_weight": 0.1},
        ),
        Variant("gate-diversity-loss", "rewards gates that differ", {"training.gate_diversity_weight": 0.1}),
    )
}


def choose_variants(names: Iterable[str], own: Mapping[str, Variant] | None = None) -> tuple[Variant, ...]:
    """Variants by name, each once, in the order given; the first is the one the others are compared with.

    Args:
        names: of :data:`VARIANTS` or of ``own``.
        own: of :func:`read_variants`.

    Raises:
        DataError: a name is unknown (with the valid ones) or given twice, or none is given.
    """
    known = VARIANTS | dict(own or {})
    chosen = list(names)
    if not chosen:
        raise DataError(f"expected at least one variant; there are: {', '.join(known)}")
    for name in chosen:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.7)
            hint = f" (did you mean {' or '.join(near)}?)" if near else ""
            raise DataError(f"no variant is named {name!r}{hint}; there are: {', '.join(known)}")
        if chosen.count(name) > 1:
            raise DataError(f"expected each variant once, got {name!r} {chosen.count(name)} times")
    return tuple(known[name] for name in chosen)


def read_variants(path: str | Path) -> dict[str, Variant]:
    """Variants of one's own from a YAML file: for each name, changes by dotted names, and ``from`` to start elsewhere.

    Example of a file::

        wide-text:
          model.projection_features: 128
        slow-gates:
          from: quality-gate
          training.gate_learning_rate: 0.1

    Raises:
        DataError: the file cannot be read, or does not have this form.
    """
    import yaml

    path = Path(path)
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the variants {path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise DataError(f"the variants {path} are not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict) or not document:
        raise DataError(f"expected names of variants with their changes in {path}, got {type(document).__name__}")
    return {str(name): _own(str(name), changes, path) for name, changes in document.items()}


def _own(name: str, given: Any, path: Path) -> Variant:
    if not _NAME.fullmatch(name):
        raise DataError(f"expected letters, digits, dots, dashes in the name of a variant in {path}, got {name!r}")
    if name in VARIANTS:
        raise DataError(f"{path} gives {name!r}, which is the name of a published variant: choose another")
    if not isinstance(given, dict):
        raise DataError(f"expected changes by dotted names under {name!r} in {path}, got {given!r}")
    changes = dict(given)
    start = changes.pop("from", "full")
    if start not in VARIANTS:
        raise DataError(f"{name!r} in {path} starts from {start!r}; there are: {', '.join(VARIANTS)}")
    strange = [str(key) for key in changes if not str(key).startswith(SECTIONS)]
    if strange:
        raise DataError(
            f"expected changes of model.NAME or training.NAME under {name!r} in {path}, got {', '.join(strange)}: "
            "data and splits are the same for all variants"
        )
    origin = VARIANTS[start]
    listed = ", ".join(f"{key}={value}" for key, value in changes.items())
    meaning = f"{start} with {listed}" if listed else start
    return Variant(name, meaning, {**origin.changes, **changes}, origin.derived, origin.whole)
