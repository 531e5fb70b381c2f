"""Gate rules on tables built to show each finding, on tables built not to, and on real runs."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from interpret.checks import gate_measures
from interpret.checks.base import Outcome
from interpret.checks.estimates import FEWEST_STRUCTURES, mean_of, ratio_of
from interpret.checks.evidence import Evidence
from interpret.checks.registry import select_rules
from interpret.metrics.gates import GateMoments

STRUCTURES, ATOMS = 50, 6
SHUFFLES = 2


def ask(code: str, evidence: Evidence) -> Outcome:
    (rule,) = select_rules([code])
    return rule().run(evidence)


def gate_tables(gates: list[np.ndarray], *, layer: int = 1, seed: int = 0) -> dict[str, Any]:
    """The columns that diagnose writes of gates [N, d], computed here by numpy; every atom a class of its own."""
    structures, atoms = [], []
    for number, gate in enumerate(gates):
        name, alpha, prefix = f"S{number:03d}", gate.mean(axis=1), f"fusion.{layer}"
        count = len(gate)
        structures.append(
            {
                "id": name,
                "target": np.nan,
                "atoms": count,
                "graph_classes": count,
                f"{prefix}.alpha_mean": alpha.mean(),
                f"{prefix}.alpha_sd": alpha.std(ddof=1) if count > 1 else np.nan,
                f"{prefix}.gate_low_share": (gate < 0.1).mean(),
                f"{prefix}.gate_high_share": (gate > 0.9).mean(),
                f"{prefix}.channel_sd": math.sqrt(gate.var(axis=0, ddof=1).mean()) if count > 1 else np.nan,
            }
        )
        for atom in range(count):
            atoms.append({"id": name, "atom": atom, "graph_class": atom, f"{prefix}.alpha_mean": alpha[atom]})
    moments = GateMoments.from_gate(gates[0])
    for gate in gates[1:]:
        moments = moments.merge(GateMoments.from_gate(gate))
    # The tables need not come in any order.
    order = np.random.default_rng(seed).permutation(len(structures))
    return {
        "structures": pd.DataFrame(structures).iloc[order].reset_index(drop=True),
        "atoms": pd.DataFrame(atoms),
        "moments": {layer: moments},
    }


def with_columns(tables: dict[str, Any], **columns: Any) -> dict[str, Any]:
    """The tables with constant or per-structure columns added; ``__`` in a name stands for a dot."""
    structures = tables["structures"].copy()
    for name, values in columns.items():
        structures[name.replace("__", ".")] = values
    return tables | {"structures": structures}


def layer_rows(structures: pd.DataFrame, **columns: Any) -> pd.DataFrame:
    rows = pd.DataFrame({"id": structures["id"], "stage": "alignn.1.nodes", "fusion.1.text_cosine": 0.1})
    return rows.assign(**columns)


def independent_gates(extra: float, *, sd: float = 0.3856, channels: int = 256, seed: int = 0) -> list[np.ndarray]:
    """Channels at 0.5 -+ sd, drawn independently but for a chance that differs between atoms by ``extra``."""
    generator = np.random.default_rng(seed)
    gates = []
    for _ in range(STRUCTURES):
        chance = np.clip(0.5 + extra * generator.standard_normal((ATOMS, 1)), 0, 1)
        gates.append(0.5 + sd * np.where(generator.random((ATOMS, channels)) < chance, 1.0, -1.0))
    return gates


@pytest.fixture
def network(make_network: Callable[..., Any]) -> Any:
    return make_network()


# GA301


def test_the_spread_seen_in_the_field_is_that_of_independent_channels(network: Any) -> None:
    """Channel spread 0.3856 over 256 channels: null 0.0241, observed about 0.029, ratio about 1.2."""
    gates = independent_gates(0.019)
    outcome = ask("GA301", Evidence(network, **gate_tables(gates)))
    every = np.concatenate(gates)
    observed, null = every.mean(axis=1).std(ddof=1), 0.3856 / 16
    assert observed == pytest.approx(0.0289, abs=1e-3)
    assert outcome.status == "found"
    assert outcome.finding is not None
    assert outcome.finding.severity == "warning"
    assert outcome.finding.structures == STRUCTURES
    assert outcome.finding.control == pytest.approx(null, rel=2e-3)
    assert f"ratio {observed / null:.3g}, 95 % CI 1.1" in outcome.reason
    assert "null 0.0241 = 0.38" in outcome.reason
    assert "/ sqrt(256)" in outcome.reason
    low, high = outcome.finding.interval or (math.nan, math.nan)
    assert low < observed / null < high < math.sqrt(2)


def test_an_alpha_that_carries_a_signal_is_silent(network: Any) -> None:
    outcome = ask("GA301", Evidence(network, **gate_tables(independent_gates(0.1))))
    assert outcome.status == "clear"
    assert "alpha spreads more than independent channels would" in outcome.reason


def test_a_gate_whose_channels_hardly_differ_has_nothing_to_misread(network: Any) -> None:
    outcome = ask("GA301", Evidence(network, **gate_tables(independent_gates(0.02, sd=0.1))))
    assert outcome.status == "clear"
    assert "channels differ little" in outcome.reason


def test_the_spread_over_all_atoms_includes_that_between_structures(network: Any) -> None:
    """The ratio is that of all atoms' alphas, whether they differ within structures or between them."""
    generator = np.random.default_rng(3)
    gates = [g + 0.05 * generator.standard_normal() for g in independent_gates(0.0)]
    gates = [g[: 1 + number % ATOMS] for number, g in enumerate(gates)]
    every = np.concatenate(gates)
    null = math.sqrt(every.var(axis=0, ddof=1).mean() / 256)
    outcome = ask("GA301", Evidence(network, **gate_tables(gates)))
    assert f"ratio {every.mean(axis=1).std(ddof=1) / null:.3g}," in outcome.reason


def test_four_structures_cannot_tell(network: Any) -> None:
    few = independent_gates(0.019)[: FEWEST_STRUCTURES - 1]
    outcome = ask("GA301", Evidence(network, **gate_tables(few)))
    assert outcome.status == "cannot tell"
    assert "not enough structures to tell" in outcome.reason


def test_a_constant_gate_has_no_spread_to_judge(network: Any) -> None:
    gates = [np.full((3, 16), 0.5)] * 6
    assert ask("GA301", Evidence(network, **gate_tables(gates))).status == "cannot tell"


# GA302


def saturation_evidence(network: Any, values: list[np.ndarray], norm: float = 4.0) -> Evidence:
    tables = with_columns(gate_tables(values), fusion__1__scale_ratio=2.0)
    return Evidence(network, layers=layer_rows(tables["structures"], norm=norm), **tables)


def test_closed_and_open_gates_are_saturated(network: Any) -> None:
    generator = np.random.default_rng(0)
    for level, word in ((0.02, "100 % closed and 0 % open"), (0.98, "0 % closed and 100 % open")):
        gates = [level + 0.01 * generator.random((ATOMS, 16)) for _ in range(STRUCTURES)]
        outcome = ask("GA302", saturation_evidence(network, gates))
        assert outcome.status == "found"
        assert word in outcome.reason


def test_a_working_gate_is_not_saturated(network: Any) -> None:
    generator = np.random.default_rng(0)
    gates = [1 / (1 + np.exp(-generator.standard_normal((ATOMS, 16)))) for _ in range(STRUCTURES)]
    assert ask("GA302", saturation_evidence(network, gates)).status == "clear"


def test_inputs_that_saturate_any_gate_are_not_the_gates_doing(network: Any) -> None:
    """A share of 0.9 that a fresh gate has as well, on inputs of norm 200."""
    generator = np.random.default_rng(0)
    gates = [np.where(generator.random((ATOMS, 100)) < 0.9, 0.99, 0.5) for _ in range(STRUCTURES)]
    assert ask("GA302", saturation_evidence(network, gates)).status == "found"
    outcome = ask("GA302", saturation_evidence(network, gates, norm=200.0))
    assert outcome.status == "clear"


@pytest.mark.parametrize("norm", [False, True])
def test_the_fresh_gate_is_what_pytorch_draws(norm: bool, make_network: Any) -> None:
    """Expected saturation and difference between atoms, against many gates drawn by torch itself."""
    network = make_network(middle_fusion_use_gate_norm=norm, hidden_features=256, fine_grained_hidden_dim=16)
    generator = torch.Generator().manual_seed(0)
    atoms = 3.0 * torch.randn(40, 256, generator=generator)
    text = (1.5 * torch.randn(256, generator=generator)).expand(40, 256)
    inputs = torch.cat([atoms, text], dim=1)
    fusion = network.middle_fusion_modules["layer_1"]
    values = []
    for seed in range(20):
        torch.manual_seed(seed)
        fresh = torch.nn.Linear(512, 256)
        with torch.no_grad():
            values.append(torch.sigmoid(fresh(fusion.gate_norm(inputs))).numpy())
    saturated = np.mean([(v < 0.1) | (v > 0.9) for v in values])
    spread = np.sqrt(np.mean([v.var(axis=0, ddof=1).mean() for v in values]))
    structures = pd.DataFrame({"id": ["S"], "fusion.1.scale_ratio": [float(atoms.norm(dim=1).mean() / text[0].norm())]})
    rows = layer_rows(structures, norm=float(atoms.norm(dim=1).mean()), variance=float(atoms.var(dim=0).mean()))
    evidence = Evidence(network, structures=structures, layers=rows)
    assert gate_measures.fresh_saturation(evidence, 1)[0] == pytest.approx(saturated, rel=0.15, abs=1e-3)
    expected = 2 / math.sqrt(math.pi) * spread
    assert gate_measures.fresh_difference(evidence, 1)[0] == pytest.approx(expected, rel=0.1)


# GA303


def scale_evidence(network: Any, ratios: np.ndarray) -> Evidence:
    tables = with_columns(gate_tables(independent_gates(0.0)), fusion__1__scale_ratio=ratios)
    return Evidence(network, layers=layer_rows(tables["structures"]), **tables)


def balanced(network: Any) -> Any:
    """A copy whose gate has weights of equal norm on atoms and text."""
    network = copy.deepcopy(network)
    weight = network.middle_fusion_modules["layer_1"].gate[0].weight
    with torch.no_grad():
        weight[:, 16:] *= weight[:, :16].norm() / weight[:, 16:].norm()
    return network


@pytest.mark.parametrize(
    ("ratio", "status", "words"),
    [
        (27.4 / 2.17, "found", "atoms drown the text"),
        (0.08, "found", "the text drowns the atoms"),
        (5.0, "clear", ""),
        (0.4, "clear", ""),
        (10.0, "cannot tell", ""),
    ],
)
def test_scale_ratio(ratio: float, status: str, words: str, network: Any) -> None:
    ratios = ratio * np.exp(0.1 * np.random.default_rng(0).standard_normal(STRUCTURES))
    outcome = ask("GA303", scale_evidence(balanced(network), ratios))
    assert outcome.status == status
    assert words in outcome.reason


def test_weights_that_make_up_for_the_scale_are_counted(network: Any) -> None:
    network = balanced(network)
    with torch.no_grad():
        network.middle_fusion_modules["layer_1"].gate[0].weight[:, 16:] *= 12.6
    outcome = ask("GA303", scale_evidence(network, np.full(STRUCTURES, 12.6)))
    assert outcome.status == "clear"
    assert "ratio 1, " in outcome.reason


def test_scale_does_not_matter_behind_a_norm(make_network: Any) -> None:
    outcome = ask("GA303", scale_evidence(make_network(middle_fusion_use_gate_norm=True), np.full(STRUCTURES, 12.6)))
    assert outcome.status == "not applicable"


# GA304, GA305


@pytest.mark.parametrize(
    ("change", "weak", "excessive"),
    [(0.01, "found", "clear"), (0.2, "clear", "clear"), (0.9, "clear", "found"), (0.05, "cannot tell", "clear")],
)
def test_change_by_the_text_and_not_by_the_norm(change: float, weak: str, excessive: str, network: Any) -> None:
    """The layer norm's own change of 400 % speaks for neither."""
    spread = change * (1 + 0.1 * np.random.default_rng(0).standard_normal(STRUCTURES))
    tables = with_columns(
        gate_tables(independent_gates(0.0)),
        counterfactual__gate_closed__fusion__1__text_change=spread,
        counterfactual__gate_closed__fusion__1__norm_change=4.0,
        fusion__1__relative_change=4.2,
    )
    evidence = Evidence(network, **tables)
    assert ask("GA304", evidence).status == weak
    assert ask("GA305", evidence).status == excessive


def test_without_a_closed_gate_the_change_is_not_known(network: Any) -> None:
    evidence = Evidence(network, **gate_tables(independent_gates(0.0)))
    assert {ask(code, evidence).status for code in ("GA304", "GA305")} == {"not applicable"}


# GA306


def change_evidence(network: Any, slope: float, count: int = 400) -> Evidence:
    generator = np.random.default_rng(1)
    tables = gate_tables([generator.random((8, 16)) for _ in range(count)])
    alpha = tables["atoms"].groupby("id")["fusion.1.alpha_mean"].transform(lambda a: (a - a.mean()) / a.std())
    # A large part that differs between structures only, which must not count.
    offset = tables["atoms"].groupby("id").ngroup() * 10.0
    tables["atoms"]["fusion.1.gated_text_ratio"] = offset + slope * alpha + generator.standard_normal(len(alpha))
    return Evidence(network, layers=layer_rows(tables["structures"]), **tables)


def test_an_alpha_unrelated_to_the_change_is_found(network: Any) -> None:
    outcome = ask("GA306", change_evidence(network, 0.0))
    assert outcome.status == "found"
    assert outcome.finding is not None
    assert abs(outcome.finding.control) < 0.02


@pytest.mark.parametrize("slope", [1.0, -1.0])
def test_an_alpha_that_goes_with_the_change_is_silent(slope: float, network: Any) -> None:
    assert ask("GA306", change_evidence(network, slope)).status == "clear"


def test_few_structures_do_not_show_that_there_is_no_relation(network: Any) -> None:
    assert ask("GA306", change_evidence(network, 0.0, count=30)).status == "cannot tell"


def test_other_kinds_of_fusion_are_left_out(make_network: Any) -> None:
    assert ask("GA306", change_evidence(make_network(middle_fusion_type="element"), 0.0)).status == "not applicable"


def test_correlation_within_structures_is_pearsons(network: Any) -> None:
    """One atom a class, structures of fewer than three classes and without variation left out."""
    atoms = pd.DataFrame(
        [
            # Two atoms of class 0: the second is its equal and must not count twice.
            *(
                ("A", c, a, x)
                for c, a, x in [(0, 0.1, 1.0), (0, 0.1, 1.0), (1, 0.4, 3.0), (2, 0.2, 5.0), (3, 0.6, 4.0)]
            ),
            *(("B", c, a, x) for c, a, x in [(0, 0.1, 1.0), (1, 0.4, 3.0)]),
            *(("C", c, a, x) for c, a, x in [(0, 0.5, 1.0), (1, 0.5, 3.0), (2, 0.5, 2.0)]),
        ],
        columns=["id", "graph_class", "fusion.1.alpha_mean", "fusion.1.gated_text_ratio"],
    )
    structures = pd.DataFrame({"id": ["C", "B", "A"]})
    values = gate_measures.change_correlation(Evidence(network, structures=structures, atoms=atoms), 1)
    expected = stats.pearsonr([0.1, 0.4, 0.2, 0.6], [1.0, 3.0, 5.0, 4.0]).statistic
    assert values[0] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(values[1:]).all()


# GA307, GA308, GA312


def motion_evidence(network: Any, between: float, by_text: float, *, middle: float = 0.5) -> Evidence:
    """Gates that differ by ``between`` between atoms (standard deviation) and by ``by_text`` under another text."""
    generator = np.random.default_rng(2)
    gates = [middle + between * generator.standard_normal((ATOMS, 16)) for _ in range(STRUCTURES)]
    changes = by_text * (1 + 0.1 * generator.standard_normal((SHUFFLES, STRUCTURES)))
    columns = {f"counterfactual__text_shuffled_{i}__fusion__1__gate_change": changes[i] for i in range(SHUFFLES)}
    tables = with_columns(gate_tables(gates), fusion__1__scale_ratio=2.0, **columns)
    return Evidence(network, layers=layer_rows(tables["structures"], norm=4.0, variance=1.0), **tables)


@pytest.mark.parametrize(
    ("between", "by_text", "expected"),
    [
        (0.1, 0.012, {}),
        (0.1, 0.0002, {"GA307"}),
        (0.0003, 0.03, {"GA308"}),
        (0.0, 0.0, {"GA312"}),
        (1e-6, 1e-6, {"GA312"}),
    ],
    ids=["healthy", "blind to text", "blind to atoms", "constant", "nearly constant"],
)
def test_what_moves_a_gate(between: float, by_text: float, expected: set[str], network: Any) -> None:
    evidence = motion_evidence(network, between, by_text)
    outcomes = {code: ask(code, evidence).status for code in ("GA307", "GA308", "GA312")}
    assert {code for code, status in outcomes.items() if status == "found"} == set(expected)
    if "GA312" in expected:
        assert outcomes["GA307"] == outcomes["GA308"] == "cannot tell"


def test_a_closed_gate_is_saturated_and_not_called_constant(network: Any) -> None:
    evidence = motion_evidence(network, 1e-6, 1e-7, middle=1e-4)
    assert ask("GA302", evidence).status == "found"
    outcome = ask("GA312", evidence)
    assert outcome.status == "clear"
    assert "GA302" in outcome.reason


def test_structures_of_one_class_say_nothing_of_atoms(network: Any) -> None:
    evidence = motion_evidence(network, 0.0003, 0.03)
    evidence.structures["graph_classes"] = 1
    assert ask("GA308", evidence).status == "cannot tell"


# GA309 to GA311


def gated_evidence(network: Any, quality: float, fusion: float) -> Evidence:
    generator = np.random.default_rng(0)
    noise = 1 + 0.02 * generator.standard_normal((2, STRUCTURES))
    columns = {"cross_modal.quality": quality * noise[0], "cross_modal.fusion": fusion * noise[1]}
    columns["cross_modal.effective"] = columns["cross_modal.quality"] * columns["cross_modal.fusion"]
    structures = pd.DataFrame({"id": [f"S{i:03d}" for i in range(STRUCTURES)], "target": np.nan, **columns})
    return Evidence(network, structures=structures)


@pytest.mark.parametrize(
    ("quality", "fusion", "expected"),
    [(0.31, 0.55, {"GA309", "GA310"}), (0.8, 0.2, {"GA309"}), (0.45, 0.8, {"GA310"}), (0.8, 0.7, set())],
)
def test_decision_path(quality: float, fusion: float, expected: set[str], make_network: Any) -> None:
    evidence = gated_evidence(make_network(cross_modal_gate="quality"), quality, fusion)
    outcomes = [ask(code, evidence) for code in ("GA309", "GA310")]
    assert {o.code for o in outcomes if o.status == "found"} == expected
    if "GA309" in expected:
        lower = "quality" if quality < fusion else "fusion"
        assert f"the {lower} weight holds it down" in outcomes[0].reason


def test_variants_without_a_detector_have_no_quality(make_network: Any) -> None:
    evidence = gated_evidence(make_network(cross_modal_gate="simplified"), 0.3, 0.5)
    evidence = Evidence(evidence.network, structures=evidence.structures.drop(columns="cross_modal.quality"))
    assert ask("GA310", evidence).status == "not applicable"
    assert ask("GA309", evidence).status == "found"


@pytest.mark.parametrize("step", [0, 500, 1999])
def test_a_checkpoint_from_the_middle_of_the_warm_up(step: int, make_network: Any) -> None:
    network = make_network(cross_modal_gate="warm-up", cross_modal_gate_warmup_steps=2000)
    evidence = gated_evidence(network, 0.9, 0.9)
    network.gated_cross_attention.current_step.fill_(step)
    assert ask("GA311", evidence).status == "found"
    network.gated_cross_attention.current_step.fill_(2000 + step)
    assert ask("GA311", evidence).status == "clear"


def test_the_untrained_weight_of_every_variant(make_network: Any, make_batch: Any) -> None:
    """The control of GA309 against the network itself with the gates' last layers at zero: sigmoids at one half."""
    from interpret.hooks import HookRegistry

    batch = make_batch()
    for kind in ("quality", "simplified", "improved-quality", "balanced", "warm-up"):
        network = make_network(cross_modal_gate=kind, cross_modal_gate_warmup_steps=4)
        if kind == "warm-up":
            network.gated_cross_attention.current_step.fill_(3)
        with torch.no_grad():
            for name, module in network.gated_cross_attention.named_modules():
                if isinstance(module, torch.nn.Linear) and module.out_features == 1:
                    module.weight.zero_()
                    module.bias.zero_()
                    assert "gate" in name
        with HookRegistry(network).capture("cross_modal.effective") as captured, torch.no_grad():
            network(batch)
        measured = float(captured["cross_modal.effective"].values.mean())
        expected = gate_measures.untrained_weight(network)
        # The original multiplies by sigmoid(|t| - 3) as well, which is left out of account.
        norm = math.sqrt(network.config.projection_features) - 3
        factor = 1 / (1 + math.exp(-norm)) if kind == "quality" else 1.0
        assert measured == pytest.approx(expected * factor, rel=0.05), kind


# Several fusions, and estimates


def test_each_fusion_is_judged_by_itself(make_network: Any) -> None:
    """A closed gate behind one layer is found although the other one works."""
    network = make_network(middle_fusion_layers=(0, 1))
    generator = np.random.default_rng(0)
    working = gate_tables([generator.uniform(0.3, 0.7, (ATOMS, 16)) for _ in range(STRUCTURES)], layer=0)
    closed = gate_tables([generator.uniform(0.0, 0.05, (ATOMS, 16)) for _ in range(STRUCTURES)], layer=1)
    structures = working["structures"].merge(
        closed["structures"].drop(columns=["target", "atoms", "graph_classes"]), on="id"
    )
    structures["fusion.0.scale_ratio"] = structures["fusion.1.scale_ratio"] = 2.0
    rows = pd.concat([layer_rows(structures, norm=4.0).assign(stage=f"alignn.{layer}.nodes") for layer in (0, 1)])
    evidence = Evidence(network, structures=structures, layers=rows, moments=working["moments"] | closed["moments"])
    outcome = ask("GA302", evidence)
    assert outcome.status == "found"
    assert outcome.reason.startswith("fusion.1: the gate is saturated")
    assert outcome.finding is not None
    assert all(unit.startswith("S") for unit in outcome.finding.units)


def test_networks_without_middle_fusion_are_left_out(make_network: Any) -> None:
    evidence = Evidence(make_network(use_middle_fusion=False), structures=pd.DataFrame({"id": ["a"], "target": [1.0]}))
    codes = [rule.code for rule in select_rules(["GA"])]
    assert {ask(code, evidence).status for code in codes} == {"not applicable"}


@given(
    st.lists(st.tuples(st.floats(0.01, 10), st.floats(0.5, 10)), min_size=6, max_size=30), st.sampled_from([0.25, 2, 8])
)
def test_a_ratio_of_sums_scales_with_its_numerator(pairs: list[tuple[float, float]], factor: float) -> None:
    above, below = (np.array(side) for side in zip(*pairs, strict=True))
    one, scaled = ratio_of(above, below), ratio_of(factor * above, below)
    assert one.value == pytest.approx(above.sum() / below.sum())
    # A power of two changes no rounding, and so not which resamples tie.
    assert (scaled.value, scaled.low, scaled.high) == (factor * one.value, factor * one.low, factor * one.high)
    assert one.low <= one.high


def test_intervals_cover_the_truth() -> None:
    """Of 200 draws of 30 structures, about 95 % have an interval with the true ratio in it."""
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        below = generator.uniform(1, 3, 30)
        estimate = ratio_of(0.3 * below + 0.2 * generator.standard_normal(30), below)
        hits += estimate.low <= 0.3 <= estimate.high
    assert 0.88 <= hits / 200 <= 0.99


def test_an_estimate_that_spans_the_limit_cannot_tell() -> None:
    estimate = mean_of(np.array([0.1, 0.2, 0.3, 0.4, 0.5, np.nan]))
    assert estimate.count == 5
    assert estimate.above(0.3) is None
    assert estimate.above(0.01) is True
    assert estimate.above(0.9) is False
    assert estimate.below(0.9) is True
    assert estimate.below(0.01) is False
    assert mean_of(np.array([0.1, 0.1])).above(0.0) is None


def closed(network: Any) -> None:
    network.middle_fusion_modules["layer_1"].gate[0].bias.fill_(-12.0)


def opened(network: Any) -> None:
    network.middle_fusion_modules["layer_1"].gate[0].bias.fill_(12.0)
    network.middle_fusion_modules["layer_1"].text_scale.fill_(0.5)


def constant(network: Any) -> None:
    network.middle_fusion_modules["layer_1"].gate[0].weight.zero_()
    network.middle_fusion_modules["layer_1"].gate[0].bias.zero_()


def large_text(network: Any) -> None:
    for parameter in network.middle_fusion_modules["layer_1"].text_transform[3].parameters():
        parameter.mul_(12.0)


def no_text(network: Any) -> None:
    network.middle_fusion_modules["layer_1"].gate[0].weight[:, 16:] = 0.0


def no_atoms(network: Any) -> None:
    network.middle_fusion_modules["layer_1"].gate[0].weight[:, :16] = 0.0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda network: None, set()),
        (closed, {"GA302", "GA304"}),
        (opened, {"GA302"}),
        (constant, {"GA312"}),
        (large_text, {"GA303", "GA305"}),
        (no_text, {"GA307"}),
        (no_atoms, {"GA308"}),
    ],
    ids=["healthy", "closed", "open", "constant", "large text", "blind to text", "blind to atoms"],
)
def test_real_runs(change: Callable[[Any], None], expected: set[str], flow_bench: Any) -> None:
    """Through diagnose, on real crystals with real texts."""
    outcomes = flow_bench.outcomes(flow_bench.changed(change), ["GA"])
    assert {o.code for o in outcomes if o.status == "found"} == expected
