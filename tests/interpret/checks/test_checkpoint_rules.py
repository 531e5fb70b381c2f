"""Checkpoint rules on networks built to show each defect, and on trained ones that have none."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from interpret.checks import checkpoint_training
from interpret.checks.base import Outcome
from interpret.checks.evidence import Evidence
from interpret.checks.registry import run_rules, select_rules
from interpret.gradients import fresh_copy, gradient_reach, modules_without_gradient, probe_batch
from interpret.initialisation import FEWEST_WEIGHTS, fewest_weights, linear_weights, samples
from model.checkpoint import load_checkpoint
from model.config import ModelConfig
from model.network import CrystalTextNetwork

SILENT = {"CK101", "CK102", "CK103", "CK104", "CK106", "CK107", "CK108", "CK109"}
GATES = ("quality", "simplified", "improved-quality", "balanced", "warm-up")


def ask(network: CrystalTextNetwork, code: str) -> Outcome:
    """What one rule says of a network without data."""
    (rule,) = select_rules([code])
    return rule().run(Evidence(network))


def found(network: CrystalTextNetwork) -> set[str]:
    """Codes that speak of a network without data."""
    return {o.code for o in run_rules(select_rules(["CK"]), Evidence(network)) if o.status == "found"}


def adam_steps(
    network: CrystalTextNetwork, steps: int, *, rate: float = 2e-3, make_batch: Callable[..., Any]
) -> CrystalTextNetwork:
    """A few real steps of training towards random targets."""
    network.train()
    batch = make_batch((2, 3, 4, 2, 3), (5, 6, 7, 5, 4), width=network.config.token_features)
    targets = torch.randn(5, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-4)
    for _ in range(steps):
        optimizer.zero_grad()
        (network(batch) - targets).square().mean().backward()
        optimizer.step()
    return network.eval()


@pytest.fixture(scope="module")
def wide() -> dict[str, int]:
    """Widths at which every linear layer but the gates' last is large enough to be tested."""
    return {
        "embedding_features": 24,
        "hidden_features": 40,
        "projection_features": 36,
        "middle_fusion_hidden_dim": 36,
        "fine_grained_hidden_dim": 40,
        "fine_grained_num_heads": 4,
        "cross_modal_hidden_dim": 40,
    }


_TRAINED: list[CrystalTextNetwork] = []


@pytest.fixture
def trained(make_config: Any, make_batch: Any, wide: dict[str, int]) -> CrystalTextNetwork:
    """A copy of a network after forty steps of training on random crystals, trained once."""
    if not _TRAINED:
        torch.manual_seed(0)
        _TRAINED.append(adam_steps(CrystalTextNetwork(make_config(**wide)), 40, make_batch=make_batch))
    return copy.deepcopy(_TRAINED[0])


def reset(module: torch.nn.Module, seed: int = 7) -> None:
    """Draw every part of a module anew, as PyTorch does."""
    torch.manual_seed(seed)
    for part in module.modules():
        if hasattr(part, "reset_parameters"):
            part.reset_parameters()


# --- nothing planted


def test_a_trained_network_is_silent(trained: CrystalTextNetwork) -> None:
    assert found(trained) == {"CK105"}


@pytest.mark.parametrize("steps", [3, 10])
@pytest.mark.parametrize("seed", range(3))
def test_a_network_after_few_steps_is_silent(
    steps: int, seed: int, make_config: Any, make_batch: Any, wide: dict[str, int]
) -> None:
    torch.manual_seed(seed)
    network = adam_steps(CrystalTextNetwork(make_config(**wide)), steps, make_batch=make_batch)
    assert found(network) == {"CK105"}


@pytest.mark.parametrize(
    "changes",
    [
        *({"cross_modal_gate": gate, "cross_modal_gate_warmup_steps": 10} for gate in GATES),
        *({"late_fusion_type": fusion} for fusion in ("gated", "bilinear", "adaptive", "tucker", "average")),
        *({"middle_fusion_type": fusion} for fusion in ("positional", "element", "token-attention")),
        {"use_middle_fusion": False, "use_fine_grained_attention": False, "use_cross_modal_attention": False},
        {"graph_norm": "layer", "element_embedding": "learned"},
        {"middle_fusion_use_gate_norm": True, "fine_grained_use_projection": False, "link": "log"},
        {"gcn_layers": 0, "classification": True},
        {"alignn_layers": 0, "gcn_layers": 2, "use_middle_fusion": False},
    ],
    ids=str,
)
def test_every_variant_is_silent_when_trained(changes: dict[str, Any], make_config: Any, make_batch: Any) -> None:
    torch.manual_seed(0)
    network = adam_steps(CrystalTextNetwork(make_config(**changes)), 20, make_batch=make_batch)
    assert found(network) <= {"CK105"}


def test_a_learnable_text_scale_of_twelve_is_no_rescaling(
    make_config: Any, make_batch: Any, wide: dict[str, int]
) -> None:
    torch.manual_seed(0)
    scale = {"middle_fusion_use_learnable_scale": True, "middle_fusion_initial_scale": 12.0}
    network = adam_steps(CrystalTextNetwork(make_config(**wide, **scale)), 40, make_batch=make_batch)
    assert found(network) == {"CK105"}


@pytest.mark.parametrize(
    "name", ["full", "no_middle", "late_gated", "mid01_gatenorm_scale", "g1123_full", "formats/bare_state_dict"]
)
def test_recorded_checkpoints_are_silent(shared: Path, name: str) -> None:
    assert found(load_checkpoint(shared / "oracle" / "checkpoints" / f"{name}.pt")) == {"CK105"}


def test_rules_leave_the_network_and_the_generator_as_they_were(trained: CrystalTextNetwork) -> None:
    before = copy.deepcopy(trained.state_dict())
    trained.fc.weight.requires_grad_(False)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    found(trained)
    assert torch.equal(torch.rand(4), expected)
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())
    assert not trained.training
    assert not trained.fc.weight.requires_grad
    assert all(p.grad is None or not torch.isnan(p.grad).any() for p in trained.parameters())


# --- CK101


def write(network: CrystalTextNetwork, path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    state = dict(network.state_dict())
    change(state)
    torch.save({"model": state, "config": network.config.model_dump(mode="json")}, path)
    return path


def test_unmatched_keys_are_listed_by_module_and_kind(trained: CrystalTextNetwork, tmp_path: Path) -> None:
    def spoil(state: dict[str, Any]) -> None:
        del state["fc1.weight"], state["fc1.bias"], state["text_projection.fc.bias"]
        state["stray.weight"] = torch.zeros(3)
        state["graph_projection.fc.weight"] = torch.zeros(2, 2)

    network = load_checkpoint(write(trained, tmp_path / "spoiled.pt", spoil), allow_partial=True)
    outcome = ask(network, "CK101")
    assert outcome.finding is not None
    assert outcome.finding.severity == "error"
    assert outcome.reason.startswith("5 keys of the checkpoint did not match the network")
    assert set(outcome.finding.units) == {
        "fc1 (missing)",
        "text_projection (missing)",
        "stray (unexpected)",
        "graph_projection (reshaped)",
    }
    assert outcome.finding.units[0] == "fc1 (missing)"
    assert outcome.finding.control == 0


def test_a_copy_of_a_partially_loaded_network_is_still_reported(trained: CrystalTextNetwork, tmp_path: Path) -> None:
    path = write(trained, tmp_path / "partial.pt", lambda state: state.pop("fc1.weight"))
    load_checkpoint(path, allow_partial=True).save_pretrained(tmp_path / "copy")
    outcome = ask(load_checkpoint(tmp_path / "copy"), "CK101")
    assert outcome.finding is not None
    assert outcome.finding.units == ("fc1 (missing)",)


def test_a_complete_file_and_a_network_in_memory_have_no_unmatched_keys(
    trained: CrystalTextNetwork, tmp_path: Path
) -> None:
    assert ask(trained, "CK101").status == "not applicable"
    trained.save_pretrained(tmp_path / "whole")
    assert ask(load_checkpoint(tmp_path / "whole"), "CK101").status == "clear"


# --- CK102


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fc.weight", float("nan")),
        ("alignn_layers.0.node_update.bn_nodes.running_var", float("inf")),
        ("middle_fusion_modules.layer_1.text_scale", float("-inf")),
    ],
)
def test_one_value_that_is_not_finite_is_found(trained: CrystalTextNetwork, name: str, value: float) -> None:
    with torch.no_grad():
        trained.state_dict()[name].view(-1)[0] = value
    outcome = ask(trained, "CK102")
    assert outcome.finding is not None
    assert outcome.finding.units == (name,)
    # Where no gradient is finite, rules that rest on it say that they cannot tell.
    if name == "fc.weight":
        assert ask(trained, "CK105").status == ask(trained, "CK109").status == "cannot tell"


# --- CK103


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("text_projection.projection.weight", 0.0),
        ("middle_fusion_modules.layer_1.text_transform.3.weight", 0.02),
        ("fine_grained_attention.layer_norm_node.weight", 0.0),
        ("gcn_layers.0.bn_nodes.weight", 0.0),
        ("gcn_layers.0.bn_nodes.running_var", 0.0),
        ("middle_fusion_modules.layer_1.text_scale", 0.0),
    ],
)
def test_constant_tensors_are_found(trained: CrystalTextNetwork, name: str, value: float) -> None:
    trained.state_dict()[name].fill_(value)
    outcome = ask(trained, "CK103")
    assert outcome.finding is not None
    assert outcome.finding.units == (name,)


def test_legitimate_constants_are_not(trained: CrystalTextNetwork) -> None:
    with torch.no_grad():
        for module in trained.modules():
            if isinstance(module, torch.nn.LayerNorm | torch.nn.BatchNorm1d):
                module.reset_parameters()
            elif isinstance(module, torch.nn.Linear) and module.bias is not None:
                module.bias.zero_()
        trained.fc.weight[0, 0] = 0.0
    assert ask(trained, "CK103").status == "clear"


# --- CK104


@pytest.mark.parametrize(
    "name",
    [
        "fine_grained_attention.a2t_query",
        "middle_fusion_modules.layer_1.gate",
        "text_projection",
        "alignn_layers.0.edge_update",
        "fc1",
    ],
)
def test_a_module_drawn_anew_is_found_and_no_other(trained: CrystalTextNetwork, name: str) -> None:
    reset(trained.get_submodule(name))
    outcome = ask(trained, "CK104")
    assert outcome.finding is not None
    assert all(unit.startswith(name) for unit in outcome.finding.units)
    skip = modules_without_gradient(trained.config)
    drawn = [part for part, _ in trained.get_submodule(name).named_modules(prefix=name) if part not in skip]
    tested = {sample.name for sample in samples(trained, skip, fewest=fewest_weights(trained, skip))[0]}
    # A module's statistics are reset with it.
    assert set(outcome.finding.units) == set(drawn) & tested
    assert outcome.finding.control == 1.0


@pytest.mark.parametrize("seed", range(4))
def test_a_network_that_was_never_trained_is_found_whole(seed: int, make_config: Any, wide: dict[str, int]) -> None:
    outcome = ask(fresh_copy(make_config(**wide), seed + 10), "CK104")
    assert outcome.finding is not None
    assert outcome.finding.effect == outcome.finding.control == 1.0


def test_branches_that_cannot_be_trained_do_not_count(trained: CrystalTextNetwork) -> None:
    for name in modules_without_gradient(trained.config):
        reset(trained.get_submodule(name))
    assert ask(trained, "CK104").status == "clear"


def test_norms_are_initial_only_when_exactly_so(trained: CrystalTextNetwork) -> None:
    norm, statistics = trained.fine_grained_attention.layer_norm_node, trained.gcn_layers[0].bn_nodes
    norm.reset_parameters()
    statistics.reset_running_stats()
    outcome = ask(trained, "CK104")
    assert outcome.finding is not None
    assert set(outcome.finding.units) == {"fine_grained_attention.layer_norm_node", "gcn_layers.0.bn_nodes"}
    with torch.no_grad():
        norm.bias[0] = 1e-6
        statistics.running_mean[3] = 1e-6
    assert ask(trained, "CK104").status == "clear"


def test_half_precision_does_not_hide_an_untrained_module(trained: CrystalTextNetwork, tmp_path: Path) -> None:
    reset(trained.fine_grained_attention.a2t_key)
    for dtype in (torch.float16, torch.bfloat16):
        state = {n: v.to(dtype) if v.is_floating_point() else v for n, v in trained.state_dict().items()}
        torch.save({"model": state, "config": trained.config.model_dump(mode="json")}, tmp_path / "half.pt")
        outcome = ask(load_checkpoint(tmp_path / "half.pt"), "CK104")
        assert outcome.finding is not None, dtype
        assert outcome.finding.units == ("fine_grained_attention.a2t_key",)
        # Rounding moves weights of an untrained network across the bound too.
        fresh = fresh_copy(trained.config, 3).to(dtype)
        torch.save({"model": fresh.state_dict(), "config": fresh.config.model_dump(mode="json")}, tmp_path / "half.pt")
        outcome = ask(load_checkpoint(tmp_path / "half.pt"), "CK104")
        assert outcome.finding is not None
        assert outcome.finding.effect == 1.0


def test_small_layers_are_tested_together(make_config: Any, make_batch: Any) -> None:
    torch.manual_seed(0)
    network = adam_steps(CrystalTextNetwork(make_config()), 40, make_batch=make_batch)
    skip = modules_without_gradient(network.config)
    fewest = fewest_weights(network, skip)
    sizes = {name: w.scaled.size for name, w in linear_weights(network).items()}
    assert sizes["fine_grained_attention.a2t_query"] < 300
    names = ("a2t_query", "a2t_key", "a2t_value", "node_output", "node_proj_in", "token_proj_in")
    for seed, name in enumerate(names):
        reset(network.fine_grained_attention.get_submodule(name), seed)
    tested, small = samples(network, skip, fewest=fewest)
    assert "fc" in small
    assert any(s.initial and s.name.startswith("fine_grained_attention") for s in tested)
    assert not any(s.initial for s in tested if not s.name.startswith("fine_grained_attention"))


def test_a_network_of_layers_too_small_to_tell_says_so(make_config: Any) -> None:
    tiny = {"hidden_features": 2, "embedding_features": 2, "projection_features": 2, "atom_input_features": 3}
    heads = {"use_fine_grained_attention": False, "use_cross_modal_attention": False, "use_middle_fusion": False}
    config = make_config(**tiny, **heads, token_features=4, edge_input_features=4, triplet_input_features=4)
    linear = [s for s in samples(fresh_copy(config), fewest=FEWEST_WEIGHTS)[0] if "norm" not in s.evidence]
    assert not [s for s in linear if "bound" in s.evidence]


@pytest.mark.parametrize("movement", [0.02, 0.05, 0.2])
def test_the_number_of_weights_keeps_trained_layers_from_being_called_untrained(movement: float) -> None:
    """Layers of all sizes that moved alike: those that are tested are told from their initial state."""
    draw = np.random.default_rng(0)
    torch.manual_seed(0)
    false = tested = 0
    for _ in range(20):
        layers = torch.nn.ModuleList(torch.nn.Linear(n, n) for n in (8, 16, 16, 24, 32, 32, 48, 64, 64, 64))
        with torch.no_grad():
            for layer in layers:
                for parameter in layer.parameters():
                    step = torch.from_numpy(draw.normal(0, movement, parameter.shape)).float()
                    parameter += step * layer.in_features**-0.5
        found_here, _ = samples(layers, fewest=fewest_weights(layers))
        tested += len(found_here)
        false += sum(sample.initial for sample in found_here)
    assert tested >= 60
    # 0.01 in a network; twenty networks.
    assert false <= 1


def test_the_test_of_a_linear_layer_against_scipy() -> None:
    torch.manual_seed(5)
    layer = torch.nn.Linear(40, 60)
    (sample,), _ = samples(torch.nn.Sequential(layer), fewest=100)
    values = torch.cat([layer.weight.flatten(), layer.bias]).detach().double().numpy()
    bound = 1 / np.sqrt(40)
    p = stats.kstest(values, stats.uniform(-bound, 2 * bound).cdf, method="exact").pvalue
    assert sample.initial
    assert f"{np.abs(values).max() / bound:.4g} of the bound" in sample.evidence
    assert float(sample.evidence.rsplit("=", 1)[1]) == pytest.approx(p, abs=0.03)
    # The same spread and bound in another shape: a two-valued weight is not what PyTorch draws.
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.sign(parameter) * bound / 3**0.5)
    assert not samples(torch.nn.Sequential(layer), fewest=100)[0][0].initial
    # Uniform, and narrower.
    layer.reset_parameters()
    with torch.no_grad():
        layer.weight *= 0.8
    assert not samples(torch.nn.Sequential(layer), fewest=100)[0][0].initial


# --- CK105 and CK109


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gcn_layers": 0},
        {"middle_fusion_layers": (1, 5)},
        {"cross_modal_gate": "quality"},
        {"cross_modal_gate": "warm-up"},
        {"middle_fusion_type": "token-attention", "late_fusion_type": "tucker"},
        {"alignn_layers": 0, "use_middle_fusion": False},
    ],
    ids=str,
)
def test_only_modules_without_gradient_leave_the_prediction_unchanged(
    changes: dict[str, Any], make_config: Any
) -> None:
    """An oracle without gradients: other weights in a module, and the prediction moves or does not."""
    config: ModelConfig = make_config(**changes)
    cut_off = modules_without_gradient(config)
    network = fresh_copy(config, seed=4).double()
    batch = probe_batch(config, seed=4)
    with torch.no_grad():
        expected = network(batch)
        for name, module in network.named_modules():
            own = list(module.parameters(recurse=False))
            if not own:
                continue
            kept = [p.clone() for p in own]
            for parameter in own:
                parameter += 0.3 * torch.rand_like(parameter) + 0.1
            change = float((network(batch) - expected).abs().max())
            assert (change < 1e-12) == (name in cut_off), (name, change)
            for parameter, value in zip(own, kept, strict=True):
                parameter.copy_(value)


def test_branches_by_construction_are_information_only(trained: CrystalTextNetwork) -> None:
    outcome = ask(trained, "CK105")
    assert outcome.finding is not None
    assert outcome.finding.severity == "info"
    assert set(outcome.finding.units) == modules_without_gradient(trained.config)
    for branch in (
        "token-to-atom attention (5)",
        "queries and keys of cross_modal_attention (4)",
        "last bond updates (2)",
    ):
        assert branch in outcome.reason


def test_a_network_where_everything_counts_has_no_dead_branch(make_network: Any) -> None:
    plain = {"use_fine_grained_attention": False, "use_cross_modal_attention": False, "use_middle_fusion": False}
    units = ask(make_network(**plain), "CK105").finding
    assert units is not None
    assert set(units.units) == {"gcn_layers.0.bn_edges", "alignn_layers.1.edge_update.bn_edges"}
    none = ask(make_network(**plain, alignn_layers=0, gcn_layers=0), "CK105")
    assert none.finding is not None
    assert all(unit.startswith(("edge_embedding", "angle_embedding")) for unit in none.finding.units)


@torch.no_grad()
def shut_gate(network: CrystalTextNetwork) -> None:
    network.middle_fusion_modules["layer_1"].gate[0].bias.fill_(-40.0)


@torch.no_grad()
def deaf_head(network: CrystalTextNetwork) -> None:
    network.fc1.weight[:, network.config.projection_features :] = 0.0


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        (shut_gate, {"gate.0", "text_transform.0", "text_transform.3"}),
        (deaf_head, {"t2g_value", "text_output", "layer_norm_text"}),
    ],
)
def test_modules_cut_off_by_weights_are_found(
    trained: CrystalTextNetwork, cut: Callable[[CrystalTextNetwork], None], expected: set[str]
) -> None:
    assert ask(trained, "CK109").status == "clear"
    cut(trained)
    outcome = ask(trained, "CK109")
    assert outcome.finding is not None
    assert outcome.finding.severity == "warning"
    assert {unit.split(".", 2 if "layer_1" in unit else 1)[-1] for unit in outcome.finding.units} == expected
    # What the architecture cuts off stays with CK105.
    assert not set(outcome.finding.units) & modules_without_gradient(trained.config)


def test_a_warm_up_that_never_began_cuts_the_text_off(make_config: Any) -> None:
    network = fresh_copy(make_config(cross_modal_gate="warm-up"))
    assert ask(network, "CK109").status == "clear"
    network.gated_cross_attention.current_step.zero_()
    outcome = ask(network, "CK109")
    assert outcome.finding is not None
    assert any(unit.startswith("gated_cross_attention") for unit in outcome.finding.units)


def test_the_gradient_is_that_of_a_finite_difference(make_config: Any) -> None:
    """Ratios of gradient norms against central differences along the gradient of two modules."""
    config = make_config()
    network = fresh_copy(config, seed=2)
    reach = gradient_reach(network, seed=3)
    twin = copy.deepcopy(network).double()
    batch = probe_batch(config, seed=3)
    pull = torch.randn(3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def norm(module: torch.nn.Linear) -> float:
        slopes = []
        with torch.no_grad():
            for parameter in module.parameters():
                flat = parameter.view(-1)
                for index in range(flat.numel()):
                    ends = []
                    for step in (1e-5, -2e-5):
                        flat[index] += step
                        ends.append(float((twin(batch) * pull).sum()))
                    flat[index] += 1e-5
                    slopes.append((ends[0] - ends[1]) / 2e-5)
        return float(np.linalg.norm(slopes))

    ratio = norm(twin.text_projection.fc) / norm(twin.fc)
    assert reach["text_projection.fc"] / reach["fc"] == pytest.approx(ratio, rel=1e-4)
    assert max(reach.values()) == 1.0


# --- CK106


@pytest.mark.parametrize(("layers", "missing"), [((2,), {2}), ((0, 7), {7}), ((1,), set())])
def test_fusion_after_layers_that_do_not_exist(make_network: Any, layers: tuple[int, ...], missing: set[int]) -> None:
    outcome = ask(make_network(middle_fusion_layers=layers), "CK106")
    units = outcome.finding.units if outcome.finding else ()
    assert set(units) == {f"middle_fusion_modules.layer_{layer}" for layer in missing}
    assert outcome.status == ("found" if missing else "clear")


def test_a_fusion_that_never_runs_is_reported_once(make_config: Any, make_batch: Any, wide: dict[str, int]) -> None:
    """The module is untrained and without gradient, but the cause is the layer, and only that is reported."""
    torch.manual_seed(0)
    config = make_config(**wide, middle_fusion_layers=(2,))
    assert found(adam_steps(CrystalTextNetwork(config), 40, make_batch=make_batch)) == {"CK105", "CK106"}


def test_without_middle_fusion_no_layer_can_be_wrong(make_network: Any) -> None:
    assert ask(make_network(use_middle_fusion=False), "CK106").status == "not applicable"


# --- CK107


def test_a_moved_text_scale_contradicts_a_fixed_one(trained: CrystalTextNetwork) -> None:
    assert ask(trained, "CK107").status == "clear"
    trained.middle_fusion_modules["layer_1"].text_scale.fill_(7.3)
    outcome = ask(trained, "CK107")
    assert outcome.finding is not None
    assert outcome.finding.units == ("middle_fusion_use_learnable_scale is False, by the weights True",)


def test_a_trained_norm_term_contradicts_a_switched_off_one(make_network: Any) -> None:
    network = make_network(cross_modal_gate="improved-quality")
    assert ask(network, "CK107").status == "clear"
    with torch.no_grad():
        network.gated_cross_attention.text_quality_gate.norm_threshold.fill_(2.0)
    assert ask(network, "CK107").status == "found"
    used = make_network(cross_modal_gate="improved-quality", cross_modal_gate_use_norm=True)
    with torch.no_grad():
        used.gated_cross_attention.text_quality_gate.norm_threshold.fill_(2.0)
    assert ask(used, "CK107").status == "clear"


def test_sizes_and_shapes_that_were_overruled_are_reported(trained: CrystalTextNetwork, tmp_path: Path) -> None:
    config = trained.config.model_dump(mode="json") | {"hidden_features": 48}
    torch.save({"model": trained.state_dict(), "config": config}, tmp_path / "other.pt")
    outcome = ask(load_checkpoint(tmp_path / "other.pt", allow_partial=True), "CK107")
    assert outcome.finding is not None
    assert "hidden_features is 48" in outcome.reason
    path = write(trained, tmp_path / "reshaped.pt", lambda state: state.update({"fc.bias": torch.zeros(5)}))
    outcome = ask(load_checkpoint(path, allow_partial=True), "CK107")
    assert outcome.finding is not None
    assert any(unit.startswith("fc.bias") for unit in outcome.finding.units)


@pytest.mark.parametrize(
    "changes",
    [
        {"middle_fusion_layers": (1, 0)},
        {"cross_modal_gate": "simplified", "use_cross_modal_attention": False},
        {"late_fusion_type": "average"},
        {"middle_fusion_layers": ()},
    ],
    ids=str,
)
def test_spellings_are_no_contradictions(make_network: Any, changes: dict[str, Any]) -> None:
    assert ask(make_network(**changes), "CK107").status == "clear"


# --- CK108


@pytest.mark.parametrize("factor", [12.0, 4.0, 1 / 12])
@pytest.mark.parametrize("layers", [(0,), (3,), (0, 3)])
def test_a_rescaled_text_transform_is_found(
    trained: CrystalTextNetwork, factor: float, layers: tuple[int, ...]
) -> None:
    with torch.no_grad():
        for layer in layers:
            for parameter in trained.middle_fusion_modules["layer_1"].text_transform[layer].parameters():
                parameter *= factor
    outcome = ask(trained, "CK108")
    assert outcome.finding is not None
    names = {f"middle_fusion_modules.layer_1.text_transform.{layer}" for layer in layers}
    assert set(outcome.finding.units) == names
    assert found(trained) == {"CK105", "CK108"}


def test_other_layers_may_be_far_out_and_layers_may_spread(trained: CrystalTextNetwork) -> None:
    with torch.no_grad():
        trained.fine_grained_attention.a2t_query.weight *= 50
    assert ask(trained, "CK108").status == "clear"
    # A network in which every layer has another spread, of which the text transform is one.
    draw = np.random.default_rng(0)
    with torch.no_grad():
        for module in trained.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight *= float(np.exp(draw.normal(0, 1.0)))
        trained.middle_fusion_modules["layer_1"].text_transform[3].weight *= 4
    assert ask(trained, "CK108").status == "clear"


def test_no_rescaling_without_a_text_transform(make_network: Any) -> None:
    for changes in ({"use_middle_fusion": False}, {"middle_fusion_layers": (9,)}):
        assert ask(make_network(**changes), "CK108").status == "not applicable"
    gated = make_network(late_fusion_type="gated", use_middle_fusion=False)
    assert ask(gated, "CK108").status == "clear"


def test_too_few_neighbours_are_not_enough_to_tell(make_network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_training.RescaledText, "fewest", 1000)
    assert ask(make_network(), "CK108").status == "cannot tell"
