"""An order by chance is called one, the word that decides is found, attention that points elsewhere is not believed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from interpret.attribution import AttributionOptions, AttributionTables, Explanation, attribute, attribute_dataset
from interpret.attribution.faithfulness import infidelity, measure, perturbations, prepare, sensitivity
from interpret.attribution.games import Game
from interpret.attribution.players import Players
from interpret.attribution.reference import random_values
from interpret.metrics.faithfulness import SHARES, removal_counts
from interpret.metrics.statistics import mean_with_interval
from model.dataset import CrystalDataset, Sample

DECIDING, ELSEWHERE = "cubic", "space"
FAITHFUL = ("integrated-gradients", "input-x-gradient", "ablation")


def additive_game(weights: np.ndarray) -> Game:
    names = tuple(f"w{i}" for i in range(len(weights)))
    players = Players(
        "text", "words", names, ("other",) * len(names), tuple((i,) for i in range(len(names))), len(names)
    )
    return Game(players, lambda keep: keep @ weights, "none")


def explained(game: Game, values: np.ndarray, method: str = "random", identifier: str = "x") -> Explanation:
    return Explanation(
        id=identifier,
        method=method,
        side="text",
        kind="words",
        players=game.players.labels,
        categories=game.players.categories,
        values=values,
        target="prediction",
        unit="eV",
        baseline="",
        output=game.full,
    )


def test_eraser_case_through_a_game() -> None:
    """m = 4a + 3b + 2c + 1d: 1, 1, 1, 1 and 2 of four words are the shares of 1 to 50 %."""
    game = additive_game(np.array([4.0, 3.0, 2.0, 1.0]))
    found = measure(explained(game, np.array([4.0, -3.0, 2.0, 1.0]), "any"), game)
    assert found["comprehensiveness"] == pytest.approx((4 * 4 + 7) / 5)
    assert found["sufficiency"] == pytest.approx((4 * 6 + 3) / 5)
    assert found["change"] == 10.0
    assert found["characterization"] == pytest.approx(1 / (0.5 / 0.46 + 0.5 / 0.46))
    by_hand = [0.4 / 0.4] * 4 + [0.7 / 0.7]
    assert found["fidelity_area"] == pytest.approx(np.trapezoid(by_hand, SHARES))
    assert found["tau_leave_one_out"] == pytest.approx(1.0)
    x, lost = [0.0, *SHARES, 1.0], [0.0, 4, 4, 4, 4, 7, 10]
    assert found["deletion_area"] == pytest.approx(np.trapezoid(lost, x))
    assert found["insertion_area"] == pytest.approx(np.trapezoid([10.0, 6, 6, 6, 6, 3, 0], x))


def test_one_player_has_no_order() -> None:
    game = additive_game(np.array([2.0]))
    found = measure(explained(game, np.array([2.0])), game)
    assert np.isnan(found["comprehensiveness"])
    assert found["reason"] == "fewer than two players"


def test_random_and_uniform_explainers_are_told_from_nothing_but_chance() -> None:
    """Expectation in closed form: k of P players drawn without order lose k / P of the sum of positive weights."""
    generator = np.random.default_rng(11)
    random_gap, uniform_gap, faithful_gap = [], [], []
    for structure in range(25):
        game = additive_game(generator.gamma(0.5, size=20))
        expectation = (removal_counts(20) / 20).mean() * game.full
        seeds = [
            measure(explained(game, random_values(game.players, str(structure), s)), game)["comprehensiveness"]
            for s in range(30)
        ]
        uniform = measure(explained(game, np.full(20, 0.05), "uniform"), game)["comprehensiveness"]
        best = measure(explained(game, game.full - game.without_each(), "ablation"), game)["comprehensiveness"]
        random_gap.append(np.mean(seeds) - expectation)
        uniform_gap.append(uniform - expectation)
        faithful_gap.append(best - expectation)
    for gap in (random_gap, uniform_gap):
        interval = mean_with_interval(np.array(gap), resamples=2000)
        assert interval.low <= 0 <= interval.high
        assert interval.high - interval.low < 0.2 * np.mean(faithful_gap)
    assert mean_with_interval(np.array(faithful_gap), resamples=2000).low > 0


def test_ties_are_drawn_anew_for_each_structure() -> None:
    """In cells of two atoms the first decides. Drawn alike for all, chance would have the same luck in each."""
    game = additive_game(np.array([1.0, 0.0]))
    tied = [explained(game, np.ones(2), "uniform", f"structure {number}") for number in range(200)]
    found = np.array([measure(one, game)["comprehensiveness"] for one in tied])
    assert len(set(found)) > 3
    interval = mean_with_interval(found, resamples=2000, method="percentile")
    assert interval.low < 0.5 < interval.high
    assert interval.high - interval.low < 0.1
    again = explained(game, np.ones(2), "uniform", "structure 7")
    assert measure(again, game)["comprehensiveness"] == found[7]


def test_infidelity_by_hand() -> None:
    weights = np.array([4.0, 3.0, 2.0, 1.0])
    game = additive_game(weights)
    # An explanation in proportion to the weights is right about every coalition of an additive game.
    assert infidelity(explained(game, 7 * weights), game) == pytest.approx(0.0, abs=1e-12)
    wrong = np.array([1.0, 2.0, 3.0, 4.0])
    absent = ~perturbations(4)
    said, lost = absent @ wrong, absent @ weights
    scale = (said * lost).mean() / (said**2).mean()
    assert infidelity(explained(game, wrong), game) == pytest.approx(((scale * said - lost) ** 2).mean())


def test_sensitivity_of_an_explanation_that_is_its_input() -> None:
    import torch

    inputs = torch.full((5, 2), 3.0, dtype=torch.float64)
    assert sensitivity(lambda rows: rows[..., 0] * 0 + 1.0, inputs) == 0.0
    found = sensitivity(lambda rows: rows[..., 0], inputs, share=0.1)
    assert 0 < found <= 0.1


def test_everything_is_evaluated_in_one_call_and_nothing_twice() -> None:
    calls: list[int] = []
    game = additive_game(np.arange(1.0, 13.0))
    made = explained(additive_game(np.arange(1.0, 13.0)), np.ones(12))
    inner = game._evaluate
    game._evaluate = lambda keep: (calls.append(len(keep)), inner(keep))[1]
    explanations = [replace(made, values=random_values(game.players, "x", seed)) for seed in range(30)]
    prepare(game, explanations)
    for explanation in explanations:
        measure(explanation, game)
    assert len(calls) == 1
    assert calls[0] == game.evaluated < 30 * 10 + 12 + 2 + 16


@pytest.mark.parametrize("method", FAITHFUL)
def test_the_word_that_decides_comes_first(
    method: str, one_word_decides: Any, linear_encoder: Any, prepare_one: Any
) -> None:
    one = prepare_one(linear_encoder)
    found = attribute(one_word_decides, one, method=method, encoder=linear_encoder)
    first, second = found.top(2)
    assert first[0] == DECIDING
    assert abs(first[1]) > 20 * abs(second[1])


def test_attention_points_elsewhere(one_word_decides: Any, linear_encoder: Any, prepare_one: Any) -> None:
    one = prepare_one(linear_encoder)
    (first, weight), *_ = attribute(one_word_decides, one, method="attention", encoder=linear_encoder).top()
    assert first == ELSEWHERE
    assert weight > 0.9


@pytest.fixture(scope="module")
def texts(crystals: Any) -> CrystalDataset:
    """Eight texts in which the word that decides stands at different places, and attention's word does too."""
    rest = ["TiO2", "is", "Rutile", "structured", "and", "bonded", "to", "six", "equivalent", "atoms", "in", "the"]
    samples = []
    for number in range(8):
        words = [*np.random.default_rng(number).permutation([*rest, DECIDING, ELSEWHERE])]
        samples.append(Sample(f"s{number}", crystals[number % 2], " ".join(words) + ".", 1.0, number))
    return CrystalDataset(samples=tuple(samples), rows=8)


@pytest.fixture(scope="module")
def tables(one_word_decides: Any, linear_encoder: Any, texts: CrystalDataset) -> AttributionTables:
    options = AttributionOptions(randomised=2, limit=6)
    return attribute_dataset(one_word_decides, texts, linear_encoder, options=options)


def test_faithful_methods_beat_chance_and_attention_does_not(tables: AttributionTables) -> None:
    summary = tables.summary().query("side == 'text' and figure == 'comprehensiveness'").set_index("method")
    change = tables.faithfulness.query("side == 'text'")["change"].mean()
    for method in FAITHFUL:
        assert summary.loc[method, "mean"] == pytest.approx(change, rel=0.1)
        assert summary.loc[method, "beyond_uniform_low"] > 0.3 * change
    assert summary.loc["attention", "beyond_uniform_high"] < 0.1 * change
    for method in ("random", "attention"):
        assert summary.loc[method, "beyond_uniform_low"] < 0.05 * change


def test_rules_call_the_attention_unfaithful(tables: AttributionTables, one_word_decides: Any) -> None:
    from interpret.checks.evidence import Evidence
    from interpret.checks.registry import run_rules, select_rules

    structures = pd.DataFrame({"id": sorted(set(tables.faithfulness["id"])), "target": 1.0})
    evidence = Evidence(one_word_decides, structures=structures, extra=tables.evidence)
    status = {outcome.code: outcome for outcome in run_rules(select_rules(["AT62"]), evidence)}
    assert status["AT620"].status == "found"
    assert "by ablation" in status["AT620"].reason
    assert status["AT621"].status == "clear"


def test_tables_hold_what_they_say(tables: AttributionTables, tmp_path: Any) -> None:
    faithfulness, attribution = tables.faithfulness, tables.attribution
    text = faithfulness[faithfulness["side"] == "text"]
    assert (text[text["method"] == "random"].groupby("id").size() == 30).all()
    assert {"random", "uniform", "uniform-attention", "position", "frequency"} <= set(text["method"])
    assert set(faithfulness[faithfulness["side"] == "graph"]["method"]) >= {*FAITHFUL, "random", "uniform"}
    assert "no rule" in tables.notes["deeplift by words"]
    # One method that cannot run costs only itself.
    assert "does not show its self-attention" in tables.notes["attention-rollout by words"]
    assert {"attention", "norm-based", "gradient-x-attention", "value-zeroing"} <= set(text["method"])
    own = attribution.query("id == 's4' and method == 'ablation' and side == 'text'")
    assert own.sort_values("rank")["label"].iloc[0] == DECIDING
    assert set(own["rank"]) == set(range(1, len(own) + 1))
    stages = tables.randomisation.query("method == 'integrated-gradients' and side == 'text' and id == 's0'")
    assert stages["stage"].iloc[0] == "head"
    assert stages["stage"].iloc[-1] == "embedding"
    assert text[text["method"] == "integrated-gradients"]["sensitivity"].notna().sum() == 2
    assert set(tables.head_importance["head"]) == {0, 1, 2, 3}
    (importance,) = tables.head_importances().values()
    assert np.linalg.norm(importance) == pytest.approx(1.0)
    tables.save(tmp_path)
    again = AttributionTables.load(tmp_path)
    for name in tables.evidence:
        pd.testing.assert_frame_equal(again.evidence[name], tables.evidence[name])
    assert any("not told from chance" in line for line in again.lines())


def test_a_killed_run_goes_on(one_word_decides: Any, linear_encoder: Any, texts: CrystalDataset, tmp_path: Any) -> None:
    options = AttributionOptions(
        methods=("ablation", "integrated-gradients"), kinds=("words",), limit=3, randomised=0, random_seeds=2
    )
    whole = attribute_dataset(one_word_decides, texts, linear_encoder, options=options)
    steps: list[int] = []

    def stop(count: int) -> None:
        steps.append(count)
        if len(steps) == 3:
            raise KeyboardInterrupt

    work = tmp_path / "work"
    with pytest.raises(KeyboardInterrupt):
        attribute_dataset(one_word_decides, texts, linear_encoder, options=options, work=work, progress=stop)
    steps.clear()
    steps.extend([0] * 9)
    again = attribute_dataset(one_word_decides, texts, linear_encoder, options=options, work=work, progress=stop)
    assert steps[9:] == [2, 1]
    pd.testing.assert_frame_equal(again.faithfulness, whole.faithfulness)
    assert list(whole.faithfulness["id"].unique()) == ["s0", "s3", "s7"]
    assert not work.exists()
