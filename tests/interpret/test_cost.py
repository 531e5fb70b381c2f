"""The printed cost names the rules that really read what the expensive passes measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import interpret.diagnose as diagnose_module
from interpret.checks.base import Outcome
from interpret.checks.evidence import Evidence
from interpret.checks.registry import run_rules, select_rules
from interpret.cost import FORWARD, OTHER_PASSES, PASSES, Stopwatch, cost_lines, pass_name
from interpret.counterfactual import standard_counterfactuals
from interpret.diagnose import diagnose
from model.dataset import CrystalDataset
from model.encoder import load_encoder


@pytest.fixture(scope="module")
def evidence(make_network: Callable[..., Any], textbook_data: Path) -> Evidence:
    """What the rules of a real run are given."""
    seen: list[Evidence] = []

    def spy(rules: Any, evidence: Evidence) -> list[Outcome]:
        seen.append(evidence)
        return []

    network = make_network(token_features=384)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diagnose_module, "run_rules", spy)
        result = diagnose(network, CrystalDataset.from_directory(textbook_data), load_encoder(None))
    assert {FORWARD, "statistics", "texts encoded", "graphs and symmetry", *PASSES} == set(result.cost)
    return seen[0]


def outcomes(evidence: Evidence) -> dict[str, tuple[str, str]]:
    return {outcome.code: (outcome.status, outcome.reason) for outcome in run_rules(select_rules(), evidence)}


@pytest.mark.parametrize("name", PASSES)
def test_rules_that_change_without_a_pass_are_named(name: str, evidence: Evidence) -> None:
    patterns, codes = PASSES[name]
    taken = [
        column
        for column in evidence.structures
        if column.startswith("counterfactual.") and any(fnmatchcase(column.split(".")[1], p) for p in patterns)
    ]
    assert taken
    without = dataclasses.replace(evidence, structures=evidence.structures.assign(**dict.fromkeys(taken, np.nan)))
    before, after = outcomes(evidence), outcomes(without)
    assert {code for code in before if before[code] != after[code]} <= set(codes.split())


def test_every_counterfactual_is_counted() -> None:
    for change in standard_counterfactuals(load_encoder(None), ["one text", "another text"]):
        assert pass_name(change.name) in PASSES
    assert pass_name("a change of somebody else's") == OTHER_PASSES


def test_times_add_up_and_the_slowest_rules_are_named() -> None:
    clock, other = Stopwatch(), Stopwatch()
    with clock.measure("a"):
        pass
    other.seconds["a"] = 2.0
    own = clock.seconds["a"]
    clock.merge(other)
    assert clock.seconds["a"] == pytest.approx(2.0 + own)
    rules = [Outcome(f"AA{i}", "clear", "", seconds=float(i)) for i in range(5)]
    lines = cost_lines({FORWARD: 4.0, "masked texts": 6.0}, rules)
    assert lines[0] == f"cost: 20.0 s, 5.0 times the {FORWARD}"
    assert lines[1].endswith("masked texts (for TF406)")
    assert "AA4 4.00 s, AA3 3.00 s, AA2 2.00 s" in lines[-1]
    assert "times" not in cost_lines({"masked texts": 6.0}, [])[0]
