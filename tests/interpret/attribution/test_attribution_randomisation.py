"""Weights drawn anew from the output down, one stage after the other."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from interpret.attribution import AttributionError
from interpret.attribution.faithfulness import order_agreement
from interpret.attribution.methods import Request, explain
from interpret.attribution.players import players_of
from interpret.attribution.randomisation import STAGES, STEPS, Cascade, cascade, stage_of
from interpret.attribution.subject import Explained
from interpret.gradients import fresh_copy


def test_every_parameter_has_one_stage_and_is_drawn_in_it(make_network: Any) -> None:
    network = make_network()
    fresh = fresh_copy(network.config, 0).state_dict()
    trained = network.state_dict()
    order = [name for name, _ in STAGES]
    stages = list(cascade(network, 0))
    assert [name for name, _ in stages] == order
    for depth, (_, changed) in enumerate(stages):
        for name, value in changed.state_dict().items():
            expected = fresh if order.index(stage_of(name)) <= depth else trained
            torch.testing.assert_close(value, expected[name], rtol=0, atol=0)
    assert all(torch.equal(value, trained[name]) for name, value in network.state_dict().items())


def test_the_output_comes_first() -> None:
    assert stage_of("fc.weight") == "head"
    assert stage_of("atom_embedding.layer.0.weight") == "embedding"
    assert stage_of("middle_fusion_modules.layer_1.gate.0.bias") == "alignn and fusion"


def test_a_parameter_of_two_stages_is_refused(make_network: Any) -> None:
    network = make_network()
    network.gcn_layers[0].src_update.weight = network.alignn_layers[0].node_update.src_update.weight
    with pytest.raises(AttributionError, match=r"gcn_layers.*is the same tensor as 'alignn_layers"):
        next(cascade(network, 0))
    with pytest.raises(AttributionError, match="needs a CrystalTextNetwork, got Linear"):
        next(cascade(torch.nn.Linear(2, 1), 0))


def test_rows_compare_with_the_explanation_of_each_changed_network(
    make_network: Any, random_encoder: Any, prepare_one: Any
) -> None:
    network, one = make_network(), prepare_one(random_encoder)
    explained = Explained(network, random_encoder)
    request = Request(explained.subject(one), players_of(one, "words"), steps=STEPS)
    original = explain(request)
    rows = Cascade(explained, seed=0).rows(request, original)
    for row, (stage, changed) in zip(rows, cascade(explained.network, 0), strict=True):
        again = Request(Explained(changed, random_encoder).subject(one), request.players, steps=STEPS)
        assert row["stage"] == stage
        assert row["spearman"] == pytest.approx(order_agreement(original, explain(again)))
    assert [row["depth"] for row in rows] == list(range(len(STAGES)))


def test_random_explanations_agree_by_chance(make_network: Any, random_encoder: Any, prepare_one: Any) -> None:
    one = prepare_one(random_encoder)
    request = Request(Explained(make_network(), random_encoder).subject(one), players_of(one, "words"))
    drawn = []
    for seed in range(16):
        request.seed = seed
        drawn.append(explain(request, "random"))
    found = [order_agreement(a, b) for a, b in itertools.combinations(drawn, 2)]
    assert abs(np.mean(found)) < 0.05
    uniform = explain(request, "uniform")
    assert np.isnan(order_agreement(drawn[0], uniform))
