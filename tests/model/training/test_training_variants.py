"""Every published variant trains, is saved, loads with the same predictions, and gates as its formula says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.dataset import CrystalDataset
from model.encoder import TextEncoder
from model.network import CrystalTextNetwork
from model.training import PreparedData, TrainConfig, TrainingError, train
from model.training.examples import examples_for, join

Array = NDArray[np.float64]

VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "no middle fusion": {"model__use_middle_fusion": False},
    "positional": {"model__middle_fusion_type": "positional"},
    "element": {"model__middle_fusion_type": "element"},
    "token-attention": {"model__middle_fusion_type": "token-attention"},
    "gate norm and scale": {
        "model__middle_fusion_use_gate_norm": True,
        "model__middle_fusion_use_learnable_scale": True,
    },
    "no attention": {"model__use_fine_grained_attention": False, "model__use_cross_modal_attention": False},
    **{
        f"gate {gate}": {"model__cross_modal_gate": gate, "model__cross_modal_gate_warmup_steps": 10}
        for gate in ("quality", "simplified", "improved-quality", "balanced", "warm-up")
    },
    "gate improved-quality with norm": {
        "model__cross_modal_gate": "improved-quality",
        "model__cross_modal_gate_use_norm": True,
    },
    **{
        f"late {late}": {"model__late_fusion_type": late}
        for late in ("average", "gated", "bilinear", "adaptive", "tucker")
    },
    "layer norm": {"model__graph_norm": "layer"},
    "pair norm": {"model__graph_norm": "pair"},
    "initial residual": {"model__graph_initial_residual": 0.2},
    "learned elements": {"model__element_embedding": "learned"},
    "log link": {"model__link": "log", "training__learning_rate": 2e-3},
    "contrastive": {"model__use_contrastive_loss": True},
    "diverse attention": {"training__attention_diversity_weight": 0.1},
    "diverse gates": {"training__gate_diversity_weight": 0.1},
    "l1, constant rate": {"training__loss": "l1", "training__schedule": "constant", "training__warm_up": 0.05},
    "huber, slow gates": {"training__loss": "huber", "training__gate_learning_rate": 0.1},
}


class Keep(L.Callback):
    """The network as it is in memory when training ends."""

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.network = pl_module.network


@pytest.fixture(scope="module")
def element_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven random numbers for each element of the halides."""
    path = tmp_path_factory.mktemp("elements") / "vectors.csv"
    values = np.random.default_rng(0).normal(size=(8, 7))
    symbols = ("Li", "Na", "K", "Rb", "F", "Cl", "Br", "I")
    rows = [f"{name},{','.join(map(str, row))}" for name, row in zip(symbols, values, strict=True)]
    path.write_text("element,a,b,c,d,e,f,g\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def run(
    config: TrainConfig, data: tuple[CrystalDataset, TextEncoder, PreparedData], output: Path
) -> tuple[Any, CrystalTextNetwork]:
    """Train, with the outcome and the network as it was in memory."""
    keep = Keep()
    outcome = train(config, data[0], data[1], output, callbacks=[keep], prepared=data[2])
    return outcome, keep.network


@pytest.fixture(scope="module")
def data(
    halides: CrystalDataset, encoder: TextEncoder, prepared: PreparedData
) -> tuple[CrystalDataset, TextEncoder, PreparedData]:
    """All that a run is given."""
    return halides, encoder, prepared


def check_trained(outcome: Any, network: CrystalTextNetwork, data: Any, output: Path) -> None:
    """Loss fell; both checkpoints load to the same predictions."""
    losses = [row["train_loss"] for row in outcome.history]
    assert losses[-1] < 0.9 * losses[0], losses
    batch = join(examples_for(network.config, data[2].examples)).crystals
    with torch.no_grad():
        assert torch.equal(CrystalTextNetwork.from_pretrained(output / "last")(batch), network.eval()(batch))
        predicted = outcome.network(batch)
    assert outcome.network.config == CrystalTextNetwork.from_pretrained(output / "best").config
    errors = {split: [] for split in ("train", "val", "test")}
    of = outcome.record.splits.of()
    for example, value in zip(data[2].examples, predicted, strict=True):
        errors[of[example.id]].append(abs(float(value) - example.target))
    for split, values in errors.items():
        assert getattr(outcome.record.metrics, split).mae == pytest.approx(np.mean(values), rel=1e-4), split


# The gates train in the fast tests of their formula; the rest is left to the slow ones.
FAST = ("full", "token-attention", "element", "late tucker", "pair norm", "learned elements", "diverse attention")


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS]
)
def test_variant_trains_saves_and_loads(name: str, tiny: Callable[..., TrainConfig], data: Any, tmp_path: Path) -> None:
    outcome, network = run(tiny(training__epochs=6, **VARIANTS[name]), data, tmp_path / "run")
    check_trained(outcome, network, data, tmp_path / "run")


def test_fixed_element_vectors(tiny: Callable[..., TrainConfig], data: Any, tmp_path: Path, element_file: Path) -> None:
    document = tiny(training__epochs=6).model_dump(mode="json", exclude_unset=True)
    document["model"]["element_embedding"] = "fixed"
    document["data"] = {"element_embeddings": str(element_file)}
    outcome, network = run(TrainConfig.model_validate(document), data, tmp_path / "run")
    check_trained(outcome, network, data, tmp_path / "run")
    assert outcome.network.config.atom_input_features == 7
    first = [float(value) for value in element_file.read_text(encoding="utf-8").splitlines()[1].split(",")[1:]]
    assert outcome.network.element_table[3].tolist() == pytest.approx(first)
    assert outcome.network.element_table[6].abs().max() == 0


def test_classifier(tiny: Callable[..., TrainConfig], data: Any, tmp_path: Path) -> None:
    middle = float(np.median([example.target for example in data[2].examples]))
    labelled = replace(
        data[2], examples=tuple(replace(each, target=float(each.target > middle)) for each in data[2].examples)
    )
    document = tiny(training__epochs=8).model_dump(mode="json", exclude_unset=True)
    document["model"]["classification"], document["training"]["loss"] = True, "bce"
    outcome, network = run(TrainConfig.model_validate(document), (*data[:2], labelled), tmp_path / "run")
    check_trained(outcome, network, (*data[:2], labelled), tmp_path / "run")
    assert outcome.record.metrics.train.accuracy > outcome.record.baselines.mean.train.accuracy
    assert outcome.record.target.standardized is False


def test_default_model_is_the_published_one() -> None:
    published = {
        "alignn_layers": 4,
        "gcn_layers": 4,
        "hidden_features": 256,
        "embedding_features": 64,
        "atom_input_features": 92,
        "edge_input_features": 80,
        "triplet_input_features": 40,
        "projection_features": 64,
        "graph_norm": "none",
        "graph_initial_residual": 0.0,
        "element_embedding": "none",
        "cross_modal_hidden_dim": 256,
        "cross_modal_num_heads": 4,
        "late_fusion_type": "concat",
    }
    model = TrainConfig().model.model_dump()
    assert {name: model[name] for name in published} == published


# Formulas, recomputed with numpy from the weights of the trained networks and the inputs their modules saw.


def sigmoid(values: Array) -> Array:
    return 1 / (1 + np.exp(-values))


class Weights:
    """The state dict of a network in float64."""

    def __init__(self, network: CrystalTextNetwork) -> None:
        self.state = {name: value.double().numpy() for name, value in network.state_dict().items()}

    def linear(self, name: str, values: Array) -> Array:
        return values @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def stack(self, name: str, values: Array) -> Array:
        """Linear layers with ReLU between and a sigmoid at the end."""
        layers = sorted({int(key[len(name) + 1 :].split(".")[0]) for key in self.state if key.startswith(f"{name}.")})
        for layer in layers[:-1]:
            values = np.maximum(self.linear(f"{name}.{layer}", values), 0)
        return sigmoid(self.linear(f"{name}.{layers[-1]}", values))


def captured(network: CrystalTextNetwork, batch: Any, name: str) -> tuple[list[Array], Array]:
    """Inputs and output of a module in a forward pass, float64."""
    found: dict[str, Any] = {}

    def hook(module: Any, inputs: Any, output: Any) -> None:
        found["inputs"] = [each.detach().double().numpy() for each in inputs if isinstance(each, torch.Tensor)]
        found["output"] = output.detach().double().numpy()

    handle = network.get_submodule(name).register_forward_hook(hook)
    with torch.no_grad():
        network.eval()(batch)
    handle.remove()
    return found["inputs"], found["output"]


def improved(weights: Weights, text: Array, use_norm: bool) -> Array:
    name = "gated_cross_attention.text_quality_gate"
    score = weights.stack(f"{name}.quality_network", text)
    if not use_norm:
        return score
    share = sigmoid(weights.state[f"{name}.norm_weight"])
    norm = np.linalg.norm(text, axis=1, keepdims=True)
    return share * score + (1 - share) * sigmoid(norm - weights.state[f"{name}.norm_threshold"])


def expected_gate(kind: str, weights: Weights, graph: Array, text: Array, steps: int, use_norm: bool) -> Array:
    both, prefix = np.concatenate([graph, text], axis=1), "gated_cross_attention"
    norm = np.linalg.norm(text, axis=1, keepdims=True)
    if kind in ("simplified", "warm-up"):
        gate = weights.stack(f"{prefix}.adaptive_gate", both)
        return gate * (min(steps / 10, 1.0) if kind == "warm-up" else 1.0)
    if kind == "quality":
        quality = weights.stack(f"{prefix}.text_quality_gate.quality_network", text) * sigmoid(norm - 3.0)
        return quality * weights.stack(f"{prefix}.adaptive_fusion_gate", both)
    if kind == "improved-quality":
        return improved(weights, text, use_norm) * weights.stack(f"{prefix}.adaptive_fusion_gate", both)
    return 0.5 + 0.5 * improved(weights, text, use_norm) * weights.stack(f"{prefix}.fusion_gate", both)


@pytest.mark.parametrize(
    ("kind", "use_norm"),
    [(kind, False) for kind in ("quality", "simplified", "improved-quality", "balanced", "warm-up")]
    + [("improved-quality", True), ("balanced", True)],
)
def test_trained_gate_is_its_formula(
    kind: str, use_norm: bool, tiny: Callable[..., TrainConfig], data: Any, tmp_path: Path
) -> None:
    config = tiny(
        training__epochs=2,
        model__cross_modal_gate=kind,
        model__cross_modal_gate_use_norm=use_norm,
        model__cross_modal_gate_warmup_steps=10,
    )
    outcome, network = run(config, data, tmp_path / "run")
    batch = join(data[2].examples).crystals
    (graph, text), _ = captured(network, batch, "gated_cross_attention")
    _, gate = captured(network, batch, "gated_cross_attention.effective")
    steps = outcome.history[-1]["step"]
    assert steps == 8
    expected = expected_gate(kind, Weights(network), graph, text, int(steps), use_norm)
    np.testing.assert_allclose(gate, expected, atol=1e-6)
    assert gate.std() > 0


@pytest.mark.parametrize("kind", ["broadcast", "positional", "element", "token-attention"])
def test_trained_middle_fusion_gate_is_its_formula(
    kind: str, tiny: Callable[..., TrainConfig], data: Any, tmp_path: Path
) -> None:
    _, network = run(tiny(training__epochs=2, model__middle_fusion_type=kind), data, tmp_path / "run")
    batch = join(data[2].examples).crystals
    name, weights = "middle_fusion_modules.layer_1", Weights(network)
    _, gate = captured(network, batch, f"{name}.gate")
    nodes = captured(network, batch, name)[0][0]
    if kind == "token-attention":
        added = captured(network, batch, f"{name}.output_proj")[1]
    else:
        text = captured(network, batch, f"{name}.text_transform")[1]
        owner = np.repeat(np.arange(len(batch)), batch.atoms_per_structure.numpy())
        added = text[owner]
        if kind == "positional":
            place = np.concatenate([np.arange(count) for count in batch.atoms_per_structure.tolist()])
            added = added + weights.state[f"{name}.position_encoding"][place]
        elif kind == "element":
            numbers = batch.atomic_numbers.numpy()
            maps, biases = weights.state[f"{name}.element_weight"], weights.state[f"{name}.element_bias"]
            added = np.stack([maps[z] @ each + biases[z] for z, each in zip(numbers, added, strict=True)])
    expected = sigmoid(weights.linear(f"{name}.gate.0", np.concatenate([nodes, added], axis=1)))
    np.testing.assert_allclose(gate, expected, atol=1e-6)


def test_warm_up_scales_the_gate_step_by_step(tiny: Callable[..., TrainConfig], data: Any, tmp_path: Path) -> None:
    class Watch(L.Callback):
        def __init__(self) -> None:
            self.ratios: list[float] = []

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            gate = pl_module.network.gated_cross_attention

            def keep(module: Any, inputs: Any, output: torch.Tensor) -> None:
                self.raw = output.detach()

            def compare(module: Any, inputs: Any, output: torch.Tensor) -> None:
                if gate.training:
                    self.ratios.append(float((output.detach() / self.raw).mean()))

            gate.adaptive_gate.register_forward_hook(keep)
            gate.effective.register_forward_hook(compare)

    watch = Watch()
    config = tiny(training__epochs=3, model__cross_modal_gate="warm-up", model__cross_modal_gate_warmup_steps=8)
    train(config, data[0], data[1], tmp_path / "run", callbacks=[watch], prepared=data[2])
    assert watch.ratios == pytest.approx([min(step / 8, 1) for step in range(1, 13)])
    saved = CrystalTextNetwork.from_pretrained(tmp_path / "run" / "last")
    assert int(saved.gated_cross_attention.current_step) == 12


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"training__attention_diversity_weight": 1.0, "model__use_fine_grained_attention": False},
            "needs attention from atoms to tokens",
        ),
        ({"training__gate_diversity_weight": 1.0, "model__use_middle_fusion": False}, "needs a middle fusion"),
    ],
)
def test_loss_without_its_part_is_refused(
    changes: dict[str, Any], words: str, tiny: Callable[..., TrainConfig], data: Any, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=words):
        train(tiny(**changes), data[0], data[1], tmp_path / "run", prepared=data[2])


OVERFIT = {
    name: changes
    for name, changes in VARIANTS.items()
    if name not in ("l1, constant rate", "huber, slow gates", "contrastive", "diverse attention", "diverse gates")
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OVERFIT)
def test_sixteen_crystals_are_learned_by_heart(
    name: str, tiny: Callable[..., TrainConfig], data: Any, tmp_path: Path
) -> None:
    """Mean absolute error under 2 % of the targets' standard deviation on 16 crystals, without dropout."""
    chosen = replace(data[2], examples=data[2].examples[::2] + data[2].examples[1:4:2])
    ids = [example.id for example in chosen.examples]
    splits = tmp_path / "splits.csv"
    splits.write_text("id,split\n" + "\n".join(f"{i},{'train' if n < 16 else 'val'}" for n, i in enumerate(ids)) + "\n")
    config = tiny(
        data__splits=str(splits),
        model__hidden_features=32,
        training__epochs=400,
        training__validate_every=100,
        training__batch_size=16,
        training__loss="mse",
        training__dropout=0.0,
        training__gradient_clipping=1.0,
        **{"training__learning_rate": 1e-2, **VARIANTS[name]},
    )
    outcome = train(config, data[0], data[1], tmp_path / "run", prepared=chosen)
    last = CrystalTextNetwork.from_pretrained(tmp_path / "run" / "last")
    batch = join(examples_for(last.config, chosen.examples[:16]))
    with torch.no_grad():
        error = float((last(batch.crystals) - batch.targets).abs().mean())
    spread = float(batch.targets.std())
    assert error < 0.02 * spread, f"{error / spread:.3f} of the spread; loss {outcome.history[-1]['train_loss']:.2e}"
