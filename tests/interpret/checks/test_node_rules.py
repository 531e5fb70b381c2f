"""Node rules on tables built to show each finding, on tables built not to, and on real runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from interpret.checks import node_measures, nodes
from interpret.checks.base import Outcome
from interpret.checks.estimates import FEWEST_STRUCTURES
from interpret.checks.evidence import Evidence
from interpret.diagnose import diagnose
from model.dataset import CrystalDataset
from tools.zoo_members import homogenised, over_smoothed

RULES = (nodes.OverSmoothing, nodes.HomogenisedByFusion, nodes.ElementOnly, nodes.OrbitsSplit, nodes.OrbitsMerged)
STAGES = ("embedding.nodes", "alignn.0.nodes", "alignn.1.nodes", "fusion.1.nodes", "gcn.0.nodes", "attention.nodes")
HEALTHY = (0.7, 0.6, 0.5, 0.6, 0.5, 0.45)


def evidence(
    network: Any,
    distances: tuple[float, ...] = HEALTHY,
    *,
    count: int = 20,
    scatter: float = 0.3,
    structures: dict[str, Any] | None = None,
    stages: tuple[str, ...] = STAGES,
    **columns: float,
) -> Evidence:
    """Distances between atoms of different classes by stage, scattered over structures, other columns constant."""
    generator = np.random.default_rng(0)
    rows = []
    for number in range(count):
        factor = float(np.exp(scatter * generator.normal()))
        for index, (stage, distance) in enumerate(zip(stages, distances, strict=True)):
            values = {
                "between_class_distance": distance * factor * float(np.exp(0.05 * generator.normal())),
                "between_class_dirichlet_energy": 10 * distance,
                "effective_rank": 2.0,
                "different_element_distance": 1.2 * distance * factor,
                "same_element_distance": 0.02 * distance * factor,
                "within_class_distance": 1e-14,
                "split_orbit_distance": 0.003 * distance * factor,
            }
            rows.append({"id": f"S{number:03d}", "stage_index": index, "stage": stage} | values | columns)
    table = {"id": [f"S{i:03d}" for i in range(count)], "orbits_split": 1, "orbits_cut": 0, "classes_merged": 0}
    table |= {"target": np.nan}
    frame = pd.DataFrame(table | (structures or {}))
    # The tables need not come in any order.
    return Evidence(
        network=network,
        structures=frame.sample(frac=1.0, random_state=3),
        layers=pd.DataFrame(rows).sample(frac=1.0, random_state=4),
    )


@pytest.fixture(scope="module")
def network(make_network: Any) -> Any:
    return make_network()


def test_a_healthy_network_is_clear(network: Any) -> None:
    assert {rule.code: rule().run(evidence(network)).status for rule in RULES} == {rule.code: "clear" for rule in RULES}


# ND501


def test_layers_that_make_atoms_alike_are_named(network: Any) -> None:
    outcome = nodes.OverSmoothing().run(evidence(network, (0.7, 0.6, 0.001, 0.0012, 1e-5, 0.01)))
    assert outcome.status == "found"
    assert outcome.finding is not None
    assert "collapses at alignn.1.nodes" in outcome.reason
    assert outcome.finding.interval is not None
    low, high = outcome.finding.interval
    # The fusion left 1.2 of what was before it.
    assert low < 1e-5 / 0.7 / 1.2 < high
    assert outcome.finding.control == pytest.approx(0.7, rel=0.3)
    assert len(outcome.finding.units) == 10


def test_a_fusion_that_makes_atoms_alike_is_not_over_smoothing(network: Any) -> None:
    made_alike = evidence(network, (0.7, 0.6, 0.5, 5e-5, 4e-5, 1e-4))
    assert nodes.OverSmoothing().run(made_alike).status == "clear"
    assert nodes.HomogenisedByFusion().run(made_alike).status == "found"


def test_attention_after_the_layers_does_not_hide_over_smoothing(network: Any) -> None:
    assert nodes.OverSmoothing().run(evidence(network, (0.7, 0.6, 0.5, 0.6, 1e-6, 0.9))).status == "found"


@pytest.mark.parametrize(("last", "status"), [(0.005, "found"), (0.0141, "cannot tell"), (0.05, "clear")])
def test_two_percent_of_the_input_decide(last: float, status: str, network: Any) -> None:
    distances = (0.7, 0.6, 0.5, 0.5, last, 0.4)
    assert nodes.OverSmoothing().run(evidence(network, distances, scatter=0.0)).status == status


def test_atoms_that_coincide_exactly_are_over_smoothed(network: Any) -> None:
    assert nodes.OverSmoothing().run(evidence(network, (0.7, 0.6, 0.5, 0.5, 0.0, 0.0))).status == "found"


def test_atoms_alike_from_the_start_have_nothing_to_lose(network: Any) -> None:
    outcome = nodes.OverSmoothing().run(evidence(network, (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)))
    assert outcome.status == "cannot tell"


def test_a_network_of_an_embedding_alone_has_no_layer(network: Any) -> None:
    outcome = nodes.OverSmoothing().run(evidence(network, (0.7,), stages=("embedding.nodes",)))
    assert outcome.status == "not applicable"


def test_few_structures_cannot_tell(network: Any) -> None:
    few = evidence(network, (0.7, 0.6, 0.001, 0.001, 1e-5, 0.01), count=FEWEST_STRUCTURES - 1)
    assert nodes.OverSmoothing().run(few).status == "cannot tell"


def test_no_data_is_not_applicable(network: Any) -> None:
    assert all(rule().run(Evidence(network)).status == "not applicable" for rule in RULES)


# ND502


def test_each_fusion_is_judged_by_itself(network: Any) -> None:
    stages = ("embedding.nodes", "alignn.0.nodes", "fusion.0.nodes", "alignn.1.nodes", "fusion.1.nodes")
    outcome = nodes.HomogenisedByFusion().run(evidence(network, (0.7, 0.6, 0.5, 0.5, 0.01), stages=stages))
    assert outcome.status == "found"
    assert outcome.reason.startswith("fusion.1:")
    assert "fusion.0" not in outcome.reason


def test_atoms_alike_before_the_fusion_are_not_its_doing(network: Any) -> None:
    outcome = nodes.HomogenisedByFusion().run(evidence(network, (0.7, 0.6, 0.0, 0.0, 0.0, 0.0)))
    assert outcome.status == "cannot tell"


def test_a_network_without_fusion_cannot_homogenise_by_it(network: Any) -> None:
    stages = ("embedding.nodes", "alignn.0.nodes", "gcn.0.nodes")
    outcome = nodes.HomogenisedByFusion().run(evidence(network, (0.7, 0.6, 0.5), stages=stages))
    assert outcome.status == "not applicable"


def test_the_ratio_leaves_out_what_fusions_did(network: Any) -> None:
    made = evidence(network, (0.8, 0.4, 0.2, 0.02, 0.01, 0.01), scatter=0.0)
    # 0.8 to 0.2 before the fusion, 0.02 to 0.01 after it.
    assert np.median(node_measures.kept_by_layers(made)) == pytest.approx(0.25 * 0.5, rel=0.1)
    assert np.median(node_measures.kept_by_fusion(made, 1)) == pytest.approx(0.1, rel=0.1)


# ND503


def test_atoms_of_one_element_that_are_alike_are_found(network: Any) -> None:
    outcome = nodes.ElementOnly().run(evidence(network, same_element_distance=1e-13))
    assert outcome.status == "found"
    assert outcome.finding is not None
    assert outcome.finding.control == pytest.approx(1e-14 / 0.6, rel=0.5)


def test_without_atoms_of_one_element_in_two_places_nothing_can_be_told(network: Any) -> None:
    assert nodes.ElementOnly().run(evidence(network, same_element_distance=np.nan)).status == "cannot tell"


def test_crystals_of_one_element_have_no_scale(network: Any) -> None:
    assert nodes.ElementOnly().run(evidence(network, different_element_distance=np.nan)).status == "cannot tell"


# ND504, ND505


def test_split_orbits_that_matter_are_found_with_their_number(network: Any) -> None:
    split = {"orbits_split": [2] * 7 + [0] * 13, "orbits_cut": [1] * 7 + [0] * 13}
    outcome = nodes.OrbitsSplit().run(evidence(network, structures=split, split_orbit_distance=0.3))
    assert outcome.status == "found"
    assert "splits 14 orbits in 7 of 20 structures, 7 by a different number of bonds" in outcome.reason


def test_a_variant_that_numbers_its_atoms_does_so_to_all_of_them(network: Any) -> None:
    numbered = evidence(network, split_orbit_distance=0.3, within_class_distance=0.25)
    assert nodes.OrbitsSplit().run(numbered).status == "clear"


def test_graphs_that_split_nothing_are_clear(network: Any) -> None:
    whole = evidence(network, structures={"orbits_split": 0}, split_orbit_distance=np.nan)
    assert nodes.OrbitsSplit().run(whole).status == "clear"


@pytest.mark.parametrize(
    ("merged", "status"), [([0] * 20, "clear"), ([1] + [0] * 19, "clear"), ([1, 2] + [0] * 18, "found")]
)
def test_more_than_one_structure_in_twenty_decides(merged: list[int], status: str, network: Any) -> None:
    outcome = nodes.OrbitsMerged().run(evidence(network, structures={"classes_merged": merged}))
    assert outcome.status == status
    if outcome.finding is not None:
        assert outcome.finding.units == ("S001", "S000")


# Real runs


def ask(bench: Any, network: Any) -> dict[str, Outcome]:
    result = diagnose(network, bench.dataset, bench.encoder, rules=RULES)
    return {outcome.code: outcome for outcome in result.outcomes}


def found(outcomes: dict[str, Outcome]) -> set[str]:
    return {code for code, outcome in outcomes.items() if outcome.status == "found"}


def test_nothing_is_found_in_an_ordinary_network(flow_bench: Any) -> None:
    assert found(ask(flow_bench, flow_bench.network)) == set()


def test_diffusion_is_found_as_over_smoothing_and_nothing_else(flow_bench: Any) -> None:
    network = flow_bench.changed(lambda network: None)
    outcomes = ask(flow_bench, over_smoothed(network))
    assert found(outcomes) == {"ND501"}
    assert "collapses at gcn." in outcomes["ND501"].reason


def test_a_drowning_text_is_found_as_homogenising_and_nothing_else(flow_bench: Any) -> None:
    network = flow_bench.changed(lambda network: None)
    assert found(ask(flow_bench, homogenised(network))) == {"ND502"}


# Two oxygen atoms in different surroundings.
TWO_PLACES = "{0}O2\n1.0\n3.9 0 0\n0 3.9 0\n0 0 6.5\n{0} O\n1 2\ndirect\n0 0 0\n0.5 0.5 0.32\n0.5 0 0.08\n"


@pytest.fixture(scope="module")
def two_places(tmp_path_factory: pytest.TempPathFactory) -> CrystalDataset:
    folder = tmp_path_factory.mktemp("two-places")
    (folder / "cif").mkdir()
    elements = ("Ti", "Sn", "Zr", "Ce", "Pb", "Si")
    for element in elements:
        (folder / "cif" / f"{element}.vasp").write_text(TWO_PLACES.format(element), encoding="utf-8")
    rows = [f'{element},0.0,"{element}O2 has two oxygen sites."' for element in elements]
    (folder / "description.csv").write_text("\n".join(["Id,target,description", *rows]) + "\n", encoding="utf-8")
    return CrystalDataset.from_directory(folder)


def silence(network: Any) -> None:
    """Batch norms of nothing: every atom gets silu(0) = 0 from its surroundings."""
    for layer in (*(layer.node_update for layer in network.alignn_layers), *network.gcn_layers):
        layer.bn_nodes.weight.zero_()
        layer.bn_nodes.bias.zero_()


@pytest.mark.parametrize(("change", "status"), [(silence, "found"), (lambda network: None, "clear")])
def test_a_table_of_elements_is_found(change: Any, status: str, flow_bench: Any, two_places: CrystalDataset) -> None:
    network = flow_bench.changed(change)
    (outcome,) = diagnose(network, two_places, flow_bench.encoder, rules=[nodes.ElementOnly]).outcomes
    assert outcome.status == status
    assert "6 structures" in outcome.reason
