"""Every fusion variant against its formula, recomputed in numpy from the captured inputs and the weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from interpret.hooks import HookRegistry

Array = npt.NDArray[np.float64]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


class Weights:
    """Parameters of a module as numpy arrays, with the few layers the formulas need."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.values = {name: value.detach().double().numpy() for name, value in module.state_dict().items()}

    def linear(self, name: str, x: Array) -> Array:
        return x @ self.values[f"{name}.weight"].T + self.values.get(f"{name}.bias", 0.0)

    def norm(self, name: str, x: Array) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
        return scaled * self.values[f"{name}.weight"] + self.values[f"{name}.bias"]


def gated(w: Weights, g: Array, t: Array) -> Array:
    a = sigmoid(w.linear("gate_graph.3", relu(w.linear("gate_graph.0", g))))
    b = sigmoid(w.linear("gate_text.3", relu(w.linear("gate_text.0", t))))
    total = a + b + 1e-8
    fused = a / total * w.linear("graph_transform", g) + b / total * w.linear("text_transform", t)
    return relu(w.norm("fusion_transform.1", w.linear("fusion_transform.0", fused)))


def bilinear(w: Weights, g: Array, t: Array) -> Array:
    left, right = w.linear("graph_proj", g), w.linear("text_proj", t)
    return w.norm("layer_norm", (left * right).reshape(len(g), 3, 7).sum(axis=1))


def adaptive(w: Weights, g: Array, t: Array) -> Array:
    g, t = w.linear("graph_align", g), w.linear("text_align", t)
    both = np.concatenate([g, t], axis=1)
    logits = w.linear("fusion_selector.3", relu(w.linear("fusion_selector.0", both)))
    choice = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    gate = sigmoid(w.linear("gate_net.0", both))
    parts = (g + t, g * t, gate * g + (1 - gate) * t)
    return w.norm("layer_norm", sum(choice[:, i : i + 1] * part for i, part in enumerate(parts)))


def tucker(w: Weights, g: Array, t: Array) -> Array:
    outer = np.einsum("bi,bj->bij", w.linear("graph_factor", g), w.linear("text_factor", t))
    return w.norm("layer_norm", w.linear("core_factor", outer.reshape(len(g), -1)))


FORMULAS = {"gated": gated, "bilinear": bilinear, "adaptive": adaptive, "tucker": tucker}


@pytest.mark.parametrize("kind", FORMULAS)
def test_late_fusion_is_its_formula(
    kind: str, make_network: Callable[..., Any], make_batch: Callable[..., Any]
) -> None:
    network, batch = make_network(late_fusion_type=kind).double(), make_batch()
    with HookRegistry(network).capture("cross_modal.graph", "cross_modal.text", "head.*") as captured, torch.no_grad():
        prediction = network(batch)
    graph, text = captured["cross_modal.graph"].values.numpy(), captured["cross_modal.text"].values.numpy()
    fused = FORMULAS[kind](Weights(network.fusion_module), graph, text)
    np.testing.assert_allclose(captured["head.hidden"].values.numpy(), fused, atol=1e-12)
    np.testing.assert_allclose(prediction.numpy(), Weights(network).linear("fc", fused)[:, 0], atol=1e-12)


@pytest.mark.parametrize("kind", ["concat", "average"])
@pytest.mark.parametrize("attention", [True, False])
def test_dense_head_is_its_formula(
    kind: str, attention: bool, make_network: Callable[..., Any], make_batch: Callable[..., Any]
) -> None:
    network = make_network(late_fusion_type=kind, use_cross_modal_attention=attention).double()
    with HookRegistry(network).capture("*") as captured, torch.no_grad():
        prediction = network(make_batch())
    names = ("cross_modal.graph", "cross_modal.text") if attention else ("graph.projection", "text.projection")
    graph, text = (captured[name].values.numpy() for name in names)
    joined = np.concatenate([graph, text], axis=1) if kind == "concat" else (graph + text) / 2
    w = Weights(network)
    np.testing.assert_allclose(prediction.numpy(), w.linear("fc", relu(w.linear("fc1", joined)))[:, 0], atol=1e-12)


@pytest.mark.parametrize(("link", "classification"), [("log", False), ("logit", False), ("identity", True)])
def test_link_functions(
    link: str, classification: bool, make_network: Callable[..., Any], make_batch: Callable[..., Any]
) -> None:
    network = make_network(link=link, classification=classification).double()
    with HookRegistry(network).capture("head.output") as captured, torch.no_grad():
        prediction = network(make_batch()).numpy()
    before = captured["head.output"].values.numpy()[:, 0]
    after = np.exp(before) if link == "log" else sigmoid(before)
    np.testing.assert_allclose(prediction, after, atol=1e-12)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("scale", [None, 12.0])
def test_middle_fusion_is_its_formula(
    norm: bool, scale: float | None, make_network: Callable[..., Any], make_batch: Callable[..., Any]
) -> None:
    changes: dict[str, Any] = {"middle_fusion_use_gate_norm": norm}
    if scale is not None:
        changes |= {"middle_fusion_use_learnable_scale": True, "middle_fusion_initial_scale": scale}
    network, batch = make_network(**changes).double(), make_batch()
    with HookRegistry(network).capture("*") as captured, torch.no_grad():
        network(batch)
    w = Weights(network.middle_fusion_modules["layer_1"])
    nodes, text = captured["alignn.1.nodes"].values.numpy(), captured["text.projection"].values.numpy()
    transformed = w.linear("text_transform.3", relu(w.linear("text_transform.0", text)))
    np.testing.assert_allclose(captured["fusion.1.text_transform"].values.numpy(), transformed, atol=1e-12)
    per_atom = (scale or 1.0) * transformed[batch.atom_owner.numpy()]
    both = np.concatenate([nodes, per_atom], axis=1)
    gate = sigmoid(w.linear("gate.0", w.norm("gate_norm", both) if norm else both))
    np.testing.assert_allclose(captured["fusion.1.gate"].values.numpy(), gate, atol=1e-12)
    fused = w.norm("layer_norm", nodes + gate * per_atom)
    np.testing.assert_allclose(captured["fusion.1.nodes"].values.numpy(), fused, atol=1e-12)


def test_atoms_receive_different_text_where_the_variant_says_so(
    make_network: Callable[..., Any], make_batch: Callable[..., Any]
) -> None:
    batch = make_batch()
    element = make_network(middle_fusion_type="element").double().middle_fusion_modules["layer_1"]
    text = torch.randn(len(batch), 16, dtype=torch.float64)
    spread = element.spread(text, batch)
    for atom, (owner, number) in enumerate(zip(batch.atom_owner, batch.atomic_numbers, strict=True)):
        expected = element.element_weight[number] @ text[owner] + element.element_bias[number]
        torch.testing.assert_close(spread[atom], expected)
    positional = make_network(middle_fusion_type="positional").double().middle_fusion_modules["layer_1"]
    spread = positional.spread(text, batch)
    for atom, (owner, position) in enumerate(zip(batch.atom_owner, batch.atom_position, strict=True)):
        torch.testing.assert_close(spread[atom], text[owner] + positional.position_encoding[position])


def gate_network(w: Weights, name: str, x: Array, layers: tuple[int, ...]) -> Array:
    for index in layers[:-1]:
        x = relu(w.linear(f"{name}.{index}", x))
    return sigmoid(w.linear(f"{name}.{layers[-1]}", x))


@pytest.mark.parametrize("kind", ["quality", "improved-quality", "simplified", "balanced", "warm-up"])
def test_gated_attention_is_its_formula(
    kind: str, make_network: Callable[..., Any], make_batch: Callable[..., Any]
) -> None:
    network, batch = make_network(cross_modal_gate=kind, cross_modal_gate_use_norm=True).double(), make_batch()
    if kind == "warm-up":
        network.gated_cross_attention.current_step.fill_(500)
    with HookRegistry(network).capture("*") as captured, torch.no_grad():
        prediction = network(batch)
    w = Weights(network.gated_cross_attention)
    graph, text = captured["graph.projection"].values.numpy(), captured["text.projection"].values.numpy()
    new_graph, new_text = captured["cross_modal.graph"].values.numpy(), captured["cross_modal.text"].values.numpy()
    both = np.concatenate([graph, text], axis=1)
    length = np.linalg.norm(text, axis=1, keepdims=True)
    if kind in ("simplified", "warm-up"):
        gate = gate_network(w, "adaptive_gate", both, (0, 3)) * (500 / 2000 if kind == "warm-up" else 1.0)
        joined = new_graph + gate * new_text + graph
    elif kind == "quality":
        quality = gate_network(w, "text_quality_gate.quality_network", text, (0, 3, 5)) * sigmoid(length - 3)
        gate = quality * gate_network(w, "adaptive_fusion_gate", both, (0, 3, 5))
        joined = (1 - gate) * new_graph + gate * new_text + graph
    else:
        share = sigmoid(w.values["text_quality_gate.norm_weight"])
        score = gate_network(w, "text_quality_gate.quality_network", text, (0, 3))
        quality = share * score + (1 - share) * sigmoid(length - w.values["text_quality_gate.norm_threshold"])
        if kind == "balanced":
            gate = 0.5 + 0.5 * quality * gate_network(w, "fusion_gate", both, (0, 3))
            joined = (1 - gate) * graph + gate * new_graph + gate * text + (1 - gate) * new_text
        else:
            gate = quality * gate_network(w, "adaptive_fusion_gate", both, (0, 3, 5))
            joined = (1 - gate) * new_graph + gate * new_text + graph
    np.testing.assert_allclose(captured["cross_modal.effective"].values.numpy(), gate, atol=1e-12)
    head = Weights(network)
    hidden = relu(head.linear("fc1", w.norm("layer_norm", joined)))
    np.testing.assert_allclose(prediction.numpy(), head.linear("fc", hidden)[:, 0], atol=1e-12)
