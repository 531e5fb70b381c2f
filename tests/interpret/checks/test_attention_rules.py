"""Attention rules on tables built to show each finding, on tables built not to, and on real runs."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from interpret.checks import attention, attention_measures, attention_validity
from interpret.checks import evidence as evidence_module
from interpret.checks.base import Outcome, Rule
from interpret.checks.estimates import FEWEST_STRUCTURES
from interpret.checks.evidence import Evidence
from interpret.counterfactual import REINITIALIZATIONS
from interpret.diagnose import diagnose
from interpret.hooks import HookRegistry
from interpret.measure.attention import attention_rows, sink_tokens
from interpret.metrics.attention import effective_tokens, entropy, gini, max_weight
from interpret.record import StructureRecord
from tools.zoo_members import homogenised, over_smoothed, saturated_heads, text_faint, text_ignored

TAP = "attention.atom_to_token"
RULES: tuple[type[Rule], ...] = (
    attention.AtomsCollapsed,
    attention.SaturatedHeads,
    attention.RedundantHeads,
    attention.UniformAttention,
    attention.Sinks,
    attention_validity.SingleKeyAttention,
    attention_validity.DeadBranchMap,
    attention_validity.IdleAttention,
    attention_validity.PaddedStatistics,
)
# What they say of every network of the demo's architecture: a property of it, as information.
ALWAYS = {"AT606", "AT607", "AT609"}
# A healthy map of 100 tokens and eight heads.
HEALTHY = {
    "atom_difference": 0.03,
    "atom_difference_independent": 0.05,
    "saturation": 0.0,
    "head_diversity": 0.9,
    "normalized_entropy": 0.999,
    "entropy": 4.6,
    "averaged.entropy": 4.6,
    "averaged.one_hot_fingerprint": 0.0,
    "sink_share": 0.28,
    "sink_share_uniform": 0.27,
    "special_share": 0.02,
    "special_share_uniform": 0.02,
    "gini": 0.05,
    "max_weight": 0.012,
    "effective_tokens": 0.0,
}
CHANGES = {
    "attention_uniform.prediction": 0.003,
    "attention_permuted.prediction": 0.003,
    "attention_sharpened.prediction": 0.01,
    **{f"attention_reinitialized_{i}.prediction": 0.002 for i in range(REINITIALIZATIONS)},
    **{f"attention_reinitialized_{i}.normalized_entropy": 0.9997 for i in range(REINITIALIZATIONS)},
}


def evidence(
    network: Any,
    *,
    count: int = 20,
    tap: str = TAP,
    structures: dict[str, Any] | None = None,
    changes: dict[str, float] | None = None,
    **columns: float,
) -> Evidence:
    """A healthy run but for the columns given; shares and changes of predictions are scattered by a tenth.

    ``changes`` of predictions are how far they move: away from the ordinary one for attention_*, away from that under
    uniform attention for re-initialised weights.
    """
    generator = np.random.default_rng(0)

    def scattered(value: float) -> np.ndarray:
        return np.asarray(value * np.exp(0.1 * generator.normal(size=count)))

    frame: dict[str, Any] = {"id": [f"S{i:03d}" for i in range(count)], "target": np.nan, "graph_classes": 3}
    frame |= {"atoms": 2 + np.arange(count) % 7, "tokens": 60 + 10 * (np.arange(count) % 5)}
    frame["prediction"] = generator.normal(size=count)
    for name, value in (HEALTHY | columns).items():
        flat = name == "normalized_entropy"
        frame[f"{tap}.{name}"] = 1 - scattered(1 - value) if flat else scattered(value)
    moved = CHANGES | (changes or {})
    for name, value in moved.items():
        column = f"counterfactual.{name}"
        if name.endswith("normalized_entropy"):
            frame[column] = 1 - scattered(1 - value)
        else:
            start = "counterfactual.attention_uniform.prediction" if "reinitialized" in name else "prediction"
            frame[column] = frame[start] + scattered(value) * generator.choice([-1, 1], size=count)
    table = pd.DataFrame(frame | (structures or {}))
    heads = [
        {"id": name, "tap": tap, "head": head, "saturation": float(saturation)}
        for name, saturation in zip(table["id"], table[f"{tap}.saturation"], strict=True)
        for head in range(8)
    ]
    # The tables need not come in any order.
    return Evidence(network=network, structures=table.sample(frac=1.0, random_state=1), heads=pd.DataFrame(heads))


@pytest.fixture(scope="module")
def network(make_network: Any) -> Any:
    return make_network()


def test_a_healthy_run_is_clear(network: Any) -> None:
    made = evidence(network)
    assert {rule.code: rule().run(made).status for rule in RULES} == {
        rule.code: "found" if rule.code in ALWAYS else "clear" for rule in RULES
    }


def test_no_data_is_not_applicable(network: Any) -> None:
    for rule in RULES:
        expected = "found" if rule.code == "AT606" else "not applicable"
        if rule.code != "AT607":
            assert rule().run(Evidence(network)).status == expected


@pytest.mark.parametrize("rule", [r for r in RULES if r.code not in ALWAYS])
def test_few_structures_cannot_tell(rule: type[Rule], network: Any) -> None:
    assert rule().run(evidence(network, count=FEWEST_STRUCTURES - 1)).status == "cannot tell"


# AT601


def test_equal_rows_are_found_with_their_cause(network: Any) -> None:
    generator = np.random.default_rng(0)
    restored = {
        "counterfactual.nodes_standardized.atom_difference": 0.04 * np.exp(0.1 * generator.normal(size=20)),
        "counterfactual.nodes_standardized.atom_difference_independent": 0.05,
    }
    outcome = attention.AtomsCollapsed().run(evidence(network, structures=restored, atom_difference=0.0005))
    assert outcome.status == "found"
    assert outcome.finding is not None
    assert outcome.finding.text == outcome.reason
    assert outcome.reason.endswith("times the difference: atoms are over-smoothed before attention")
    assert "0 of one class left out" in outcome.reason


def test_a_flat_map_is_not_a_collapsed_one(network: Any) -> None:
    flat = evidence(network, atom_difference=0.00003, atom_difference_independent=0.00005)
    assert attention.AtomsCollapsed().run(flat).status == "clear"


def test_exactly_uniform_maps_say_nothing_of_atoms(network: Any) -> None:
    uniform = evidence(network, atom_difference=0.0, atom_difference_independent=0.0)
    assert attention.AtomsCollapsed().run(uniform).status == "cannot tell"


def test_structures_of_one_class_are_left_out_and_counted(network: Any) -> None:
    some = {"graph_classes": [1] * 8 + [3] * 12, f"{TAP}.atom_difference": [np.nan] * 8 + [0.03] * 12}
    outcome = attention.AtomsCollapsed().run(evidence(network, structures=some))
    assert "12 structures, 8 of one class left out" in outcome.reason
    alone = {"graph_classes": 1, f"{TAP}.atom_difference": np.nan}
    assert "all structures have one class" in attention.AtomsCollapsed().run(evidence(network, structures=alone)).reason


def test_saturated_heads_are_not_called_collapsed(network: Any) -> None:
    one_hot = evidence(network, saturation=0.95, atom_difference=0.0, atom_difference_independent=0.99)
    outcome = attention.AtomsCollapsed().run(one_hot)
    assert outcome.status == "cannot tell"
    assert "saturated" in outcome.reason
    assert attention.SaturatedHeads().run(one_hot).status == "found"


# AT602: the situation of the field, eight one-hot heads


def test_eight_one_hot_heads_are_called_saturated_not_collapsed(
    network: Any, make_record: Callable[..., StructureRecord]
) -> None:
    structures, heads = [], []
    for number in range(6):
        weights = np.zeros((8, 3, 8))
        tokens = np.random.default_rng(number).permutation(8)
        for head, token in enumerate(tokens[[0, 0, 0, 1, 2, 3, 4, 5]]):
            weights[head, :, token] = 1.0
        assert sorted(set(weights.mean(axis=0).flatten())) == [0.0, 0.125, 0.375]
        record = make_record({TAP: weights}, elements=["Ba", "O", "Ti"])
        rows, name = attention_rows(record, TAP), f"S{number}"
        structures.append({"id": name, "target": np.nan, "graph_classes": 3, "atoms": 3, "tokens": 8, **rows.structure})
        heads += [{"id": name} | row for row in rows.heads]
    made = Evidence(network=network, structures=pd.DataFrame(structures), heads=pd.DataFrame(heads))
    saturated = attention.SaturatedHeads().run(made)
    assert saturated.status == "found"
    assert "share of rows above 0.99 100 %" in saturated.reason
    assert "8 of 8 heads in most of their rows" in saturated.reason
    assert "100 % of head-averaged rows are multiples of 1/8" in saturated.reason
    # All atoms attend alike here, and it is not over-smoothing that makes them.
    collapsed = attention.AtomsCollapsed().run(made)
    assert collapsed.status == "cannot tell"
    assert "over-smoothed" not in collapsed.reason


@pytest.mark.parametrize(("share", "status"), [(0.003, "clear"), (0.06, "clear"), (0.1, "cannot tell"), (0.2, "found")])
def test_a_tenth_of_the_rows_decides(share: float, status: str, network: Any) -> None:
    assert attention.SaturatedHeads().run(evidence(network, saturation=share)).status == status


def test_texts_of_one_token_are_not_saturated(network: Any) -> None:
    outcome = attention.SaturatedHeads().run(evidence(network, saturation=np.nan))
    assert outcome.status == "cannot tell"
    assert "more than one token" in outcome.reason


# AT603, AT604, AT605


@pytest.mark.parametrize(
    ("diversity", "status"), [(0.0, "found"), (0.03, "found"), (0.05, "cannot tell"), (0.2, "clear")]
)
def test_correlated_heads_are_found(diversity: float, status: str, network: Any) -> None:
    assert attention.RedundantHeads().run(evidence(network, head_diversity=diversity)).status == status


def test_one_head_is_not_redundant(network: Any) -> None:
    assert attention.RedundantHeads().run(evidence(network, head_diversity=np.nan)).status == "not applicable"


@pytest.mark.parametrize(
    ("normalized_entropy", "status"),
    [
        (1.0, "found"),
        (1 - 0.00003, "found"),
        # A third of 1 - 0.9997 and the whole of it are as good as random.
        (1 - 0.0001, "cannot tell"),
        (1 - 0.0003, "cannot tell"),
        (1 - 0.0006, "clear"),
        (0.9, "clear"),
    ],
)
def test_attention_is_held_against_untrained_attention(normalized_entropy: float, status: str, network: Any) -> None:
    outcome = attention.UniformAttention().run(evidence(network, normalized_entropy=normalized_entropy))
    assert outcome.status == status
    assert "with re-initialised queries and keys 0.99969" in outcome.reason


def test_sharp_attention_is_not_uniform_even_where_random_attention_is_sharper(network: Any) -> None:
    sharp = {f"attention_reinitialized_{i}.normalized_entropy": 0.01 for i in range(REINITIALIZATIONS)}
    outcome = attention.UniformAttention().run(evidence(network, changes=sharp, normalized_entropy=0.7))
    assert outcome.status == "clear"


def test_a_run_without_the_control_says_so(network: Any) -> None:
    made = evidence(network)
    bare = made.structures[[c for c in made.structures if "reinitialized" not in c]]
    for rule in (attention.UniformAttention, attention_validity.IdleAttention):
        outcome = rule().run(Evidence(network=network, structures=bare))
        assert outcome.status == "not applicable"
        assert "attention_reinitialized_0" in outcome.reason


@pytest.mark.parametrize(("share", "status"), [(0.1, "clear"), (0.28, "clear"), (0.6, "found"), (0.95, "found")])
def test_sinks_are_held_against_their_share_of_tokens(share: float, status: str, network: Any) -> None:
    outcome = attention.Sinks().run(evidence(network, structures={f"{TAP}.sink_share": share}))
    assert outcome.status == status


def test_a_text_that_is_all_punctuation_has_no_sinks(network: Any) -> None:
    made = evidence(network, structures={f"{TAP}.sink_share": 1.0, f"{TAP}.sink_share_uniform": 1.0})
    assert attention.Sinks().run(made).status == "cannot tell"


def test_maps_of_a_fusion_are_judged_too(make_network: Any) -> None:
    tokens = make_network(middle_fusion_type="token-attention", use_fine_grained_attention=False)
    made = evidence(tokens, tap="fusion.1.attention", saturation=0.9)
    assert attention.SaturatedHeads().run(made).status == "found"
    assert attention.Sinks().run(made).status == "clear"
    assert attention.UniformAttention().run(made).status == "not applicable"


# AT606, AT607: the architecture


@pytest.mark.parametrize("changes", [{}, {"cross_modal_gate": "quality"}])
def test_one_key_is_found_by_running_it(changes: dict[str, Any], make_network: Any) -> None:
    network = make_network(**changes)
    outcome = attention_validity.SingleKeyAttention().run(Evidence(network))
    assert outcome.status == "found"
    assert outcome.finding is not None
    assert outcome.finding.severity == "info"
    assert outcome.finding.units == attention_measures.SINGLE_KEY_TAPS
    assert outcome.finding.effect == outcome.finding.control == 1.0
    assert not any(module._forward_hooks for module in network.modules())


def test_weights_that_vary_are_not_of_one_key(make_network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network = make_network()
    halved = lambda self, scores, key_mask=None: 0.5 * torch.softmax(scores, dim=-1)  # noqa: E731
    monkeypatch.setattr(type(network.cross_modal_attention.graph_to_text), "forward", halved)
    outcome = attention_validity.SingleKeyAttention().run(Evidence(network))
    assert outcome.status == "clear"
    assert "least 0.5" in outcome.reason


def test_no_cross_modal_attention_has_no_key(make_network: Any) -> None:
    network = make_network(use_cross_modal_attention=False)
    assert attention_validity.SingleKeyAttention().run(Evidence(network)).status == "not applicable"


def test_the_dead_branch_is_found_by_its_gradient(network: Any) -> None:
    outcome = attention_validity.DeadBranchMap().run(evidence(network))
    assert outcome.status == "found"
    assert outcome.finding is not None
    assert outcome.finding.effect == 0.0
    assert outcome.finding.control > 1e-6


def test_a_branch_that_reaches_the_prediction_is_not_dead(make_network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network = make_network()
    reach = dict.fromkeys(
        [f"fine_grained_attention.{m}" for m in (*attention_measures.TOKEN_TO_ATOM, *attention_measures.ATOM_TO_TOKEN)],
        1e-3,
    )
    monkeypatch.setattr(evidence_module, "gradient_reach", lambda network: reach)
    assert attention_validity.DeadBranchMap().run(evidence(network)).status == "clear"


def test_without_fine_grained_attention_there_is_no_branch(make_network: Any) -> None:
    network = make_network(use_fine_grained_attention=False)
    assert attention_validity.DeadBranchMap().run(evidence(network)).status == "not applicable"


# AT608


@pytest.mark.parametrize(
    ("uniform", "status"),
    [
        (0.0, "found"),
        # Under 0.00001 of a spread of about 1, whatever random queries and keys would do.
        (3e-6, "found"),
        (0.0004, "found"),
        (0.0012, "cannot tell"),
        (0.004, "clear"),
        (0.5, "clear"),
    ],
)
def test_what_attention_moves_is_held_against_random_attention(uniform: float, status: str, network: Any) -> None:
    changes = {"attention_uniform.prediction": uniform}
    outcome = attention_validity.IdleAttention().run(evidence(network, changes=changes))
    assert outcome.status == status


def test_attention_that_moves_much_does_something_even_where_random_attention_moves_more(network: Any) -> None:
    changes = {"attention_uniform.prediction": 0.2}
    changes |= {f"attention_reinitialized_{i}.prediction": 2.0 for i in range(REINITIALIZATIONS)}
    assert attention_validity.IdleAttention().run(evidence(network, changes=changes)).status == "clear"


def test_predictions_that_do_not_vary_cannot_be_judged(network: Any) -> None:
    made = evidence(network)
    constant = {c: 0.5 for c in made.structures if c.endswith("prediction")}
    outcome = attention_validity.IdleAttention().run(evidence(network, structures=constant))
    assert outcome.status == "cannot tell"
    assert "do not vary" in outcome.reason


def test_the_change_is_in_the_unit_of_the_target(network: Any) -> None:
    made = evidence(network)
    scaled = made.structures.copy()
    for name in scaled:
        if name.endswith("prediction"):
            scaled[name] *= 1000.0
    one = attention_validity.IdleAttention().run(made)
    other = attention_validity.IdleAttention().run(Evidence(network=network, structures=scaled))
    assert one.status == other.status == "clear"
    first, second = (
        attention_validity.IdleAttention().measure(made).mean,
        attention_validity.IdleAttention().measure(Evidence(network=network, structures=scaled)).mean,
    )
    assert second == pytest.approx(1000 * first)


# AT609


def test_padded_statistics_are_those_of_the_padded_array(network: Any) -> None:
    generator = np.random.default_rng(0)
    sizes = [(1, 5), (4, 12), (7, 30), (3, 9)]
    most_atoms, most_tokens = 7, 30
    rows, expected = [], []
    for number, (atoms, tokens) in enumerate(sizes):
        real = generator.dirichlet(0.3 * np.ones(tokens), size=(2, atoms))
        padded = np.zeros((2, most_atoms, most_tokens))
        padded[:, :atoms, :tokens] = real
        padded[:, atoms:, :tokens] = 1 / tokens
        statistics = {"gini": gini, "entropy": entropy, "max_weight": max_weight, "effective_tokens": effective_tokens}
        row = {"id": f"S{number}", "atoms": atoms, "tokens": tokens}
        row |= {f"{TAP}.{name}": float(function(real).mean()) for name, function in statistics.items()}
        rows.append(row)
        expected.append({name: float(function(padded).mean()) for name, function in statistics.items()})
    made = Evidence(network=network, structures=pd.DataFrame(rows))
    found = attention_measures.padded_statistics(made, TAP)
    for name, (_, values) in found.items():
        assert values == pytest.approx([row[name] for row in expected], abs=1e-12)


def test_our_own_padded_rows_are_what_the_rule_takes_them_for(make_network: Any, make_batch: Any) -> None:
    network, batch = make_network().double(), make_batch().to(dtype=torch.float64)
    with HookRegistry(network).capture(TAP) as captured, torch.no_grad():
        network(batch)
    capture = captured[TAP]
    rows = []
    for number, (weights, atoms, tokens) in enumerate(
        zip(
            capture.per_structure(),
            batch.atoms_per_structure.tolist(),
            batch.token_mask.sum(dim=1).tolist(),
            strict=True,
        )
    ):
        own = {"gini": gini, "entropy": entropy, "max_weight": max_weight, "effective_tokens": effective_tokens}
        row = {"id": f"S{number}", "atoms": atoms, "tokens": tokens}
        rows.append(row | {f"{TAP}.{name}": float(function(weights).mean()) for name, function in own.items()})
    found = attention_measures.padded_statistics(Evidence(network=network, structures=pd.DataFrame(rows)), TAP)
    whole = capture.values.numpy()
    assert whole.shape[-2:] == (3, 7)
    for name, function in {"gini": gini, "max_weight": max_weight, "entropy": entropy}.items():
        expected = [float(function(part).mean()) for part in whole]
        assert found[name][1] == pytest.approx(expected, abs=1e-9)


def test_recorded_padded_batches_are_as_wrong_as_the_rule_says(shared: Path, network: Any) -> None:
    recorded = np.load(shared / "oracle" / "outputs" / "full.npz")
    inputs = np.load(shared / "oracle" / "inputs6.npz")
    padded = recorded["batch/fine_grained.atom_to_text"].astype(np.float64)
    atoms = inputs["batch/batch_num_nodes"]
    tokens = inputs["batch/attention_mask"].sum(axis=1)
    rows = []
    for number, (weights, n, t) in enumerate(zip(padded, atoms, tokens, strict=True)):
        own = weights[:, :n, :t]
        figures = {"gini": gini, "entropy": entropy, "max_weight": max_weight, "effective_tokens": effective_tokens}
        row = {"id": f"S{number}", "atoms": n, "tokens": t}
        rows.append(row | {f"{TAP}.{name}": float(function(own).mean()) for name, function in figures.items()})
    found = attention_measures.padded_statistics(Evidence(network=network, structures=pd.DataFrame(rows)), TAP)
    # Upstream pads before it projects, so a padded atom's query is a bias and its row only nearly uniform.
    right, wrong = found["gini"]
    assert wrong == pytest.approx([float(gini(part).mean()) for part in padded], abs=0.02)
    assert float(np.mean(wrong)) > 5 * float(np.mean(right))


def test_data_of_one_size_is_not_padded(network: Any) -> None:
    same = evidence(network, structures={"atoms": 5, "tokens": 80})
    assert attention_validity.PaddedStatistics().run(same).status == "clear"


def test_one_structure_is_not_padded(network: Any) -> None:
    assert attention_validity.PaddedStatistics().run(evidence(network, count=1)).status == "not applicable"


# Real runs


def ask(bench: Any, network: Any) -> dict[str, Outcome]:
    result = diagnose(network, bench.dataset, bench.encoder, rules=RULES)
    return {outcome.code: outcome for outcome in result.outcomes}


def found(outcomes: dict[str, Outcome]) -> set[str]:
    return {code for code, outcome in outcomes.items() if outcome.status == "found"} - ALWAYS


def test_nothing_is_found_in_an_ordinary_network(flow_bench: Any) -> None:
    outcomes = ask(flow_bench, flow_bench.network)
    assert found(outcomes) == set()
    assert all(outcomes[code].status == "found" for code in ALWAYS)


@pytest.mark.parametrize(
    ("change", "meaning"),
    [(over_smoothed, "over-smoothed before attention"), (homogenised, "the fusion makes the atoms alike")],
)
def test_a_collapse_is_found_with_its_cause(change: Any, meaning: str, flow_bench: Any) -> None:
    outcomes = ask(flow_bench, change(flow_bench.changed(lambda network: None)))
    assert found(outcomes) == {"AT601"}
    assert outcomes["AT601"].reason.endswith(meaning)


def test_queries_that_do_not_see_the_atoms_are_found(flow_bench: Any) -> None:
    def blind(network: Any) -> None:
        network.fine_grained_attention.a2t_query.weight.zero_()
        network.fine_grained_attention.a2t_query.bias.mul_(10.0)

    outcomes = ask(flow_bench, flow_bench.changed(blind))
    assert found(outcomes) == {"AT601"}
    assert "queries themselves do not depend on the atoms" in outcomes["AT601"].reason


def test_saturated_heads_are_found_and_nothing_else(flow_bench: Any) -> None:
    network = saturated_heads(saturated_heads(copy.deepcopy(flow_bench.network)))
    outcomes = ask(flow_bench, network)
    assert found(outcomes) == {"AT602"}


def test_copied_heads_are_found_and_nothing_else(flow_bench: Any) -> None:
    def copied(network: Any) -> None:
        part = network.fine_grained_attention
        width = part.a2t_query.out_features // part.heads
        for layer in (part.a2t_query, part.a2t_key):
            layer.weight.copy_(layer.weight[:width].repeat(part.heads, 1))
            layer.bias.copy_(layer.bias[:width].repeat(part.heads))
        part.a2t_query.weight.mul_(4.0)

    assert found(ask(flow_bench, flow_bench.changed(copied))) == {"AT603"}


def test_vanished_queries_are_found_as_uniform_and_idle(flow_bench: Any) -> None:
    def vanish(network: Any) -> None:
        for parameter in network.fine_grained_attention.a2t_query.parameters():
            parameter.mul_(1e-3)

    assert found(ask(flow_bench, flow_bench.changed(vanish))) == {"AT604", "AT608"}


def test_attention_to_punctuation_is_found_and_nothing_else(flow_bench: Any) -> None:
    encodings = [flow_bench.encoder.encode([sample.text])[0] for sample in flow_bench.dataset]
    tokens = torch.cat([encoding.embeddings for encoding in encodings]).double().numpy()
    target = np.concatenate([sink_tokens(encoding) for encoding in encodings]).astype(float)
    centred = tokens - tokens.mean(axis=0)
    # Ridge regression: a direction of the embeddings along which sinks stand out.
    direction = np.linalg.solve(
        centred.T @ centred + 1e-2 * np.eye(tokens.shape[1]), centred.T @ (target - target.mean())
    )

    def attract(network: Any) -> None:
        part = network.fine_grained_attention
        width = part.a2t_key.out_features // part.heads
        part.token_proj_in.weight[0] = torch.from_numpy(direction).float()
        part.token_proj_in.bias[0] = 0.0
        part.a2t_key.weight[::width] = 0.0
        part.a2t_key.weight[::width, 0] = 1.0
        part.a2t_query.bias[::width] = 8.0

    outcomes = ask(flow_bench, flow_bench.changed(attract))
    assert "AT605" in found(outcomes)
    assert found(outcomes) <= {"AT605", "AT603", "AT601"}


@pytest.mark.parametrize("change", [text_ignored, text_faint])
def test_attention_without_values_is_found_as_idle(change: Any, flow_bench: Any) -> None:
    network = flow_bench.changed(lambda network: None)
    with torch.no_grad():
        network = change(network)
        if change is text_faint:
            network.fine_grained_attention.a2t_value.weight.mul_(1e-2)
    outcomes = ask(flow_bench, network)
    assert found(outcomes) == {"AT608"}
    assert math.isfinite(outcomes["AT608"].finding.effect)  # type: ignore[union-attr]
