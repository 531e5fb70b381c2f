"""The registry captures, reduces, intervenes, reports, and never leaves a hook behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from interpret import interventions
from interpret.alignment import align, cosine_similarity
from interpret.hooks import Capture, HookRegistry
from interpret.taps import Tap, TapTable, taps_of
from model.errors import TapError


def count_hooks(network: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


def every_variant() -> list[dict[str, Any]]:
    gates = ["quality", "simplified", "improved-quality", "balanced", "warm-up"]
    middle = ["broadcast", "positional", "element", "token-attention"]
    late = ["concat", "average", "gated", "bilinear", "adaptive", "tucker"]
    return [
        *({"cross_modal_gate": gate} for gate in gates),
        *({"middle_fusion_type": kind} for kind in middle),
        *({"late_fusion_type": kind} for kind in late),
        {"use_cross_modal_attention": False},
        {"use_fine_grained_attention": False, "use_middle_fusion": False},
        {"fine_grained_use_projection": False},
        {"graph_norm": "pair", "graph_initial_residual": 0.2},
        {"middle_fusion_type": "token-attention", "middle_fusion_use_gate": False},
    ]


@pytest.mark.parametrize("changes", every_variant(), ids=str)
def test_every_tap_of_every_variant_fires_with_its_axes(
    changes: dict[str, Any], make_network: Callable[..., Any], make_batch: Callable[..., Any]
) -> None:
    network, batch = make_network(**changes), make_batch()
    with HookRegistry(network).capture("*") as captured, torch.no_grad():
        network(batch)
    assert captured.never_fired == ()
    assert set(captured) == set(taps_of(network))
    atoms, structures = int(batch.atoms_per_structure.sum()), len(batch)
    for capture in captured.values():
        assert capture.values.ndim == len(capture.axes)
        assert capture.values.shape[0] == (atoms if capture.axes[0] == "atom" else structures)
        assert len(capture.per_structure()) == structures


def test_watching_changes_no_prediction(make_network: Callable[..., Any], make_batch: Callable[..., Any]) -> None:
    network, batch = make_network().double(), make_batch()
    with torch.no_grad():
        plain = network(batch)
        with HookRegistry(network).capture("*"):
            watched = network(batch)
    torch.testing.assert_close(plain, watched, rtol=0, atol=1e-12)


def test_rows_of_captured_attention_sum_to_one_over_real_tokens(
    make_network: Callable[..., Any], make_batch: Callable[..., Any]
) -> None:
    network, batch = make_network(), make_batch(atoms=(1, 3), tokens=(4, 7))
    with HookRegistry(network).capture("attention.*") as captured, torch.no_grad():
        network(batch)
    pieces = captured["attention.atom_to_token"].per_structure()
    assert [tuple(piece.shape) for piece in pieces] == [(4, 1, 4), (4, 3, 7)]
    for piece in pieces:
        torch.testing.assert_close(piece.sum(dim=-1), torch.ones(piece.shape[:-1]))
    back = captured["attention.token_to_atom"].per_structure()
    assert [tuple(piece.shape) for piece in back] == [(4, 4, 1), (4, 7, 3)]
    torch.testing.assert_close(back[1].sum(dim=-1), torch.ones(4, 7))


def test_no_hook_is_left_after_a_run_that_raises(
    make_network: Callable[..., Any], make_batch: Callable[..., Any]
) -> None:
    network = make_network()

    def run_and_stop() -> None:
        with HookRegistry(network).capture("*"):
            network(make_batch())
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        run_and_stop()
    assert count_hooks(network) == 0

    def broken(_: Capture) -> dict[str, torch.Tensor]:
        raise ValueError("inside a hook")

    with (
        pytest.raises(ValueError, match="inside a hook"),
        HookRegistry(network).capture("readout", reduce=broken),
    ):
        network(make_batch())
    assert count_hooks(network) == 0


def test_no_hook_is_left_when_a_tap_points_nowhere(make_batch: Callable[..., Any]) -> None:
    module = nn.Sequential(nn.Linear(2, 2))
    table = TapTable([Tap("here", "0", ("structure", "channel"), "x", "graph"), Tap("there", "9", (), "x", "graph")])
    with pytest.raises(TapError, match="'there' points at '9'"), HookRegistry(module, table).capture("*"):
        pass
    assert count_hooks(module) == 0


def test_registry_works_on_any_module_with_a_table() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    table = TapTable([Tap("linear", "0", ("structure", "channel"), "hidden", "graph")])
    values = torch.randn(5, 3)
    with HookRegistry(module, table).capture("linear") as captured:
        module(values)
    torch.testing.assert_close(captured["linear"].values, module[0](values))
    with pytest.raises(TapError, match="without a batch layout"):
        captured["linear"].per_structure()
    with pytest.raises(TapError, match="no tap table of its own"):
        HookRegistry(module)


def test_tap_that_never_fired_is_reported(make_network: Callable[..., Any], make_batch: Callable[..., Any]) -> None:
    network = make_network(middle_fusion_layers=(1, 7))
    with HookRegistry(network).capture("fusion.*.gate") as captured:
        with pytest.raises(TapError, match="never fired: no forward pass ran"):
            captured["fusion.7.gate"]
        network(make_batch())
    assert captured.never_fired == ("fusion.7.gate",)
    with pytest.raises(TapError, match=r"'fusion\.7\.gate' was registered but never fired"):
        captured["fusion.7.gate"]
    with pytest.raises(TapError, match=r"'readout' was not captured; captured here: fusion\.1\.gate"):
        captured["readout"]


def test_unknown_names_list_what_there_is(make_network: Callable[..., Any]) -> None:
    with pytest.raises(TapError, match=r"no tap matches 'gates\.\*'; this network has: text\.projection"):
        HookRegistry(make_network()).capture("gates.*")


def test_module_that_runs_twice_is_an_error() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared = nn.Linear(2, 2)

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return self.shared(self.shared(values))

    table = TapTable([Tap("shared", "shared", ("structure", "channel"), "x", "graph")])
    module = Twice()
    registry = HookRegistry(module, table).capture("shared")
    with pytest.raises(TapError, match="fired twice in one forward pass"), registry:
        module(torch.randn(1, 2))


def test_reduction_keeps_statistics_only(make_network: Callable[..., Any], make_batch: Callable[..., Any]) -> None:
    network, batch = make_network(), make_batch()

    def alpha(capture: Capture) -> dict[str, torch.Tensor]:
        return {"alpha": capture.values.mean(dim=-1)}

    with HookRegistry(network).capture("fusion.1.gate") as full, torch.no_grad():
        network(batch)
    with HookRegistry(network).capture("fusion.1.gate", reduce=alpha) as reduced, torch.no_grad():
        network(batch)
    torch.testing.assert_close(reduced.statistics["fusion.1.gate"]["alpha"], full["fusion.1.gate"].values.mean(dim=-1))
    assert len(reduced) == 0
    with pytest.raises(TapError, match="reduced in its hook"):
        reduced["fusion.1.gate"]


def test_zero_gate_equals_a_network_without_the_text(
    make_network: Callable[..., Any], make_batch: Callable[..., Any]
) -> None:
    network, batch = make_network(), make_batch()
    module = network.middle_fusion_modules["layer_1"]
    with (
        HookRegistry(network).intervene("fusion.1.gate", interventions.zero()).capture("*") as captured,
        torch.no_grad(),
    ):
        network(batch)
    expected = module.layer_norm(captured["alignn.1.nodes"].values)
    torch.testing.assert_close(captured["fusion.1.nodes"].values, expected)


def test_bypass_hands_the_atoms_on(make_network: Callable[..., Any], make_batch: Callable[..., Any]) -> None:
    network, batch = make_network(), make_batch()
    registry = HookRegistry(network).intervene("fusion.1.nodes", interventions.bypass()).capture("*.nodes")
    with registry as captured, torch.no_grad():
        network(batch)
    torch.testing.assert_close(captured["fusion.1.nodes"].values, captured["alignn.1.nodes"].values)


def test_sharpened_attention_is_softmax_of_scaled_scores() -> None:
    scores = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    mask = torch.arange(6) < torch.tensor([6, 4])[:, None]
    from interpret.hooks import BatchLayout, Intervention

    tap = Tap("w", "w", ("structure", "head", "atom", "token"), "weight", "both")
    weights = torch.softmax(scores.masked_fill(~mask[:, None, None], float("-inf")), dim=-1)
    at = Intervention(tap, weights, (), BatchLayout(torch.tensor([4, 4]), mask))
    expected = torch.softmax((2.5 * scores).masked_fill(~mask[:, None, None], float("-inf")), dim=-1)
    torch.testing.assert_close(interventions.sharpen(2.5)(at), expected)
    uniform = interventions.uniform()(at)
    torch.testing.assert_close(uniform[1, 0, 0], torch.tensor([0.25, 0.25, 0.25, 0.25, 0, 0], dtype=torch.float64))
    permuted = interventions.permute(3)(at)
    torch.testing.assert_close(permuted.sort(dim=-1).values, weights.sort(dim=-1).values)
    assert not torch.equal(permuted, weights)
    assert float(permuted[1, :, :, 4:].abs().max()) == 0.0


def test_mean_and_shuffle_stay_within_a_structure(
    make_network: Callable[..., Any], make_batch: Callable[..., Any]
) -> None:
    network, batch = make_network(), make_batch()
    with HookRegistry(network).capture("alignn.0.nodes") as plain, torch.no_grad():
        network(batch)
    before = plain["alignn.0.nodes"].per_structure()
    for intervention, check in (
        (interventions.mean(), lambda old, new: torch.testing.assert_close(new, old.mean(0).expand_as(old))),
        (
            interventions.shuffle(5),
            lambda old, new: torch.testing.assert_close(new.sort(dim=0).values, old.sort(dim=0).values),
        ),
    ):
        registry = HookRegistry(network).intervene("alignn.0.nodes", intervention).capture("alignn.0.nodes")
        with registry as changed, torch.no_grad():
            network(batch)
        for old, new in zip(before, changed["alignn.0.nodes"].per_structure(), strict=True):
            check(old, new)


def test_intervention_of_wrong_shape_is_refused(
    make_network: Callable[..., Any], make_batch: Callable[..., Any]
) -> None:
    registry = HookRegistry(make_network()).intervene("readout", lambda at: at.values[:1])
    with pytest.raises(TapError, match="returned shape \\[1, 16\\], expected \\[3, 16\\]"), registry:
        registry.module(make_batch())


def test_cosine_of_nodes_with_projected_text_names_the_tap_that_fits(
    make_network: Callable[..., Any], make_batch: Callable[..., Any]
) -> None:
    network, batch = make_network(projection_features=16), make_batch()
    taps = taps_of(network)
    with HookRegistry(network).capture("*") as captured, torch.no_grad():
        network(batch)
    # Both have 16 channels: that the spaces differ must be seen all the same.
    with pytest.raises(TapError) as raised:
        cosine_similarity(captured["alignn.1.nodes"], captured["text.projection"], taps)
    for words in ("'alignn.1.nodes' [atom 6, channel 16]", "'text.projection' [structure 3, channel 16]"):
        assert words in str(raised.value)
    assert "Use 'fusion.1.text_transform'" in str(raised.value)

    nodes, text = captured["alignn.1.nodes"], captured["fusion.1.text_transform"]
    expected = torch.nn.functional.cosine_similarity(
        nodes.values.double(), text.values.double()[batch.atom_owner], dim=-1
    )
    torch.testing.assert_close(cosine_similarity(nodes, text, taps), expected)


def test_no_fitting_tap_is_said(make_network: Callable[..., Any], make_batch: Callable[..., Any]) -> None:
    network = make_network(use_middle_fusion=False)
    with HookRegistry(network).capture("*") as captured, torch.no_grad():
        network(make_batch())
    with pytest.raises(TapError, match="no tap that carries text features in node space"):
        align(captured["gcn.0.nodes"], captured["text.projection"], taps_of(network))
