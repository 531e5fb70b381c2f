"""A model against itself: exactly nothing, however the two runs were computed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from interpret.compare import (
    Comparison,
    Hypothesis,
    Inference,
    Run,
    compare,
    compare_all,
    compare_runs,
    observe,
    read_hypothesis,
)
from interpret.compare.catalogue import figures_of
from interpret.diagnose import DiagnoseOptions
from model.dataset import CrystalDataset

from .conftest import HEADS, TAP


def assert_nothing_differs(comparison: Comparison) -> None:
    assert comparison.identical
    assert comparison.movement.sentence == "Identical: no figure differs in any structure."
    table = comparison.statistics[comparison.statistics["structures"] > 1]
    assert len(table) > 15
    for column in ("difference", "ci_low", "ci_high", "effect_size", "percent_change"):
        assert (table[column] == 0).all(), column
    assert (table["p_value"] == 1).all()
    assert (table["p_adjusted"] == 1).all()
    assert table["identical"].all()
    assert (comparison.pairs["difference"].dropna() == 0).all()
    assert (comparison.predictions["disagreement"] == 0).all()
    assert (comparison.errors[["difference", "ci_low", "ci_high"]] == 0).all(axis=None)
    assert (comparison.errors["p_value"] == 1).all()
    assert (comparison.gates["difference"] == 0).all()


def test_a_against_a(network: Any, crystals: CrystalDataset, encoder: Any) -> None:
    comparison = compare(network, copy.deepcopy(network), crystals, encoder)
    assert_nothing_differs(comparison)
    assert "the two checkpoints hold the same weights" in comparison.notes
    matches = comparison.matches
    assert (matches["head_a"] == matches["head_b"]).all()
    assert matches["similarity"].to_numpy() == pytest.approx(1, abs=1e-12)
    heads = comparison.heads
    assert len(heads) == HEADS * heads["metric"].nunique()
    assert heads["identical"].all()
    assert (heads["difference"].dropna() == 0).all()
    same = comparison.representations.query("stage_a == stage_b and level == 'atom'")
    assert (same["cka"] == 1).all()
    assert (same["procrustes"] == 0).all()
    rankings = comparison.rankings[comparison.rankings["structures"] > 0]
    assert (rankings["mean"] == 1).all()
    assert comparison.hypothesis.verdict == "not applicable"


def run_of(network: Any, dataset: CrystalDataset, encoder: Any, **options: Any) -> Run:
    observed = observe([network], ["a"], dataset, encoder, options=DiagnoseOptions(**options), pairs=False)
    return observed.runs[0]


def other_run(how: str, network: Any, crystals: CrystalDataset, encoder: Any) -> Run:
    if how == "batch size":
        return run_of(network, crystals, encoder, batch_size=1)
    if how == "shuffled rows":
        shuffled = CrystalDataset(samples=tuple(crystals[i] for i in (3, 0, 4, 1, 2)), rows=crystals.rows)
        return run_of(network, shuffled, encoder, batch_size=2)
    if how == "threads":
        threads = torch.get_num_threads()
        torch.set_num_threads(3 if threads == 1 else 1)
        try:
            return run_of(network, crystals, encoder)
        finally:
            torch.set_num_threads(threads)
    parts = [CrystalDataset(samples=tuple(crystals)[place::2], rows=crystals.rows) for place in (0, 1)]
    first, second = (run_of(network, part, encoder) for part in parts)
    return first.merge(second)


@pytest.mark.parametrize("how", ["batch size", "shuffled rows", "threads", "two processes"])
def test_a_against_a_computed_otherwise(how: str, network: Any, crystals: CrystalDataset, encoder: Any) -> None:
    first, second = run_of(network, crystals, encoder), other_run(how, network, crystals, encoder)
    comparison = compare_runs(first, second)
    assert_nothing_differs(comparison)
    # What the tolerance takes for zero is rounding, an order of magnitude below it.
    a, b = (figures_of(run).to_numpy() for run in (first, second))
    assert np.nanmax(np.abs(a - b) - 1e-11 * np.fmax(np.abs(a), np.abs(b))) < 1e-12


def test_the_tolerance_hides_no_difference_of_weights(network: Any, crystals: CrystalDataset, encoder: Any) -> None:
    other = copy.deepcopy(network)
    other.fine_grained_attention.a2t_query.weight.data *= 1 + 1e-5
    comparison = compare(network, other, crystals, encoder)
    assert not comparison.identical
    row = comparison.statistics.set_index("metric").loc[f"{TAP}.entropy"]
    assert row["difference"] < 0
    assert row["difference"] == pytest.approx(0, abs=1e-4)


def test_no_effect_is_a_verdict_of_its_own(network: Any, crystals: CrystalDataset, encoder: Any) -> None:
    hypothesis = Hypothesis.model_validate(read_hypothesis().model_dump() | {"treatment": "b"})
    result = compare(network, copy.deepcopy(network), crystals, encoder, hypothesis=hypothesis).hypothesis
    assert result.verdict == "no effect"
    assert all(criterion.change == 0 for criterion in result.criteria if criterion.verdict != "not applicable")


def test_a_lacking_tap_is_a_gap_and_never_identical(
    make_network: Callable[..., Any], network: Any, crystals: CrystalDataset, encoder: Any
) -> None:
    without = make_network(use_middle_fusion=False)
    own, other = network.state_dict(), without.state_dict()
    without.load_state_dict({name: own[name] for name in other})
    comparison = compare(network, without, crystals, encoder, labels=("full", "no middle"))
    assert not comparison.identical
    assert comparison.gaps["fusion.1.alpha_mean"] == "no middle has no tap fusion.1"
    assert comparison.gaps["fusion.1.nodes.between_class_distance"] == "no middle has no tap fusion.1.nodes"
    stages = comparison.statistics.set_index("metric")
    # Before the fusion the two networks are one.
    assert stages.loc["alignn.1.nodes.between_class_distance", "identical"]
    assert comparison.hypothesis.treatment == "full"
    assert comparison.gates["gap"].eq("no middle has no tap fusion.1.gate").all()
    assert comparison.gates["alpha_b"].isna().all()


def test_three_models_are_two_comparisons(
    make_network: Callable[..., Any], network: Any, crystals: CrystalDataset, encoder: Any
) -> None:
    others = [copy.deepcopy(network), make_network(seed=4)]
    few = Inference(resamples=199)
    results = compare_all([network, *others], crystals, encoder, labels="abc", inference=few, untrained=False)
    assert [result.labels for result in results] == [("a", "b"), ("a", "c")]
    assert [result.identical for result in results] == [True, False]
    alone = compare(network, others[1], crystals, encoder, labels="ac", inference=few, untrained=False)
    pd.testing.assert_frame_equal(results[1].to_frame(), alone.to_frame())
    pd.testing.assert_frame_equal(results[1].representations, alone.representations)
