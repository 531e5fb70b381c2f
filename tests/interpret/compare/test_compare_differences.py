"""The statistics table: against scipy and sums written out, gaps with their reasons, the two phenomena apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from interpret.compare.accuracy import attention_against_error, compare_errors, prediction_table
from interpret.compare.catalogue import BETWEEN_ATOMS, GLOBAL
from interpret.compare.differences import COLUMNS, Inference, compare_figures, describe_movement
from interpret.compare.models import compare_runs
from interpret.compare.pairing import Run

from .conftest import TAP, made_run

FEW = Inference(resamples=1999)


def attention_run(label: str, seed: int, modes: str = "atoms differ", **shift: float) -> Run:
    """Attention figures of 40 structures; ``shift`` is added to some."""
    generator = np.random.default_rng(seed)
    names = ("entropy", "normalized_entropy", "max_weight", "gini", "atom_diversity", "atom_divergence")
    base = {name: generator.uniform(0.2, 0.8, 40) for name in names}
    noise = np.random.default_rng(seed + 100 + len(label))
    values: dict[str, Any] = {
        f"{TAP}.{name}": own + shift.get(name, 0.0) + 0.01 * noise.normal(size=40) for name, own in base.items()
    }
    values[f"{TAP}.mode"] = [modes] * 40
    return made_run(values, label)


def test_the_columns_that_were_asked_for_come_first() -> None:
    table, pairs = compare_figures(attention_run("a", 0), attention_run("bb", 0), FEW)
    assert tuple(table.columns[: len(COLUMNS)]) == COLUMNS
    assert COLUMNS == (
        "metric", "mean_a", "mean_b", "difference", "percent_change", "ci_low", "ci_high", "p_value", "p_adjusted",
        "effect_size", "structures",
    )  # fmt: skip
    assert list(pairs.columns) == ["metric", "id", "a", "b", "difference"]
    assert len(pairs) == 40 * len(table)


def test_figures_are_those_of_the_pairs() -> None:
    first, second = attention_run("a", 0), attention_run("bb", 0, entropy=-0.1)
    table, pairs = compare_figures(first, second, FEW)
    for _, row in table.iterrows():
        own = pairs[pairs["metric"] == row["metric"]]
        change = (own["b"] - own["a"]).to_numpy()
        assert row["difference"] == pytest.approx(change.mean())
        assert row["percent_change"] == pytest.approx(100 * change.mean() / own["a"].mean())
        assert row["effect_size"] == pytest.approx(change.mean() / change.std(ddof=1))
        normal = stats.norm.interval(0.95, change.mean(), change.std(ddof=1) / np.sqrt(40))
        assert (row["ci_low"], row["ci_high"]) == pytest.approx(normal, abs=0.1 * (normal[1] - normal[0]))
    order = np.sort(table["p_value"].to_numpy())
    adjusted = np.minimum.accumulate((order * len(order) / np.arange(1, len(order) + 1))[::-1])[::-1]
    assert np.sort(table["p_adjusted"].to_numpy()) == pytest.approx(np.minimum(adjusted, 1))


def test_what_is_undefined_in_one_is_left_out_and_counted() -> None:
    first, second = attention_run("a", 0), attention_run("bb", 0)
    first.structures.loc[:4, f"{TAP}.gini"] = np.nan
    second.structures.loc[3:9, f"{TAP}.gini"] = np.nan
    row = compare_figures(first, second, FEW)[0].set_index("metric").loc[f"{TAP}.gini"]
    assert (row["structures"], row["undefined"]) == (30, 10)
    assert not row["identical"]
    second.structures[f"{TAP}.gini"] = np.nan
    row = compare_figures(first, second, FEW)[0].set_index("metric").loc[f"{TAP}.gini"]
    assert row["structures"] == 0
    assert row["gap"] == "undefined for every structure in at least one of the two"
    assert np.isnan(row["p_adjusted"])


def test_a_tap_that_one_lacks_is_a_gap_with_its_name() -> None:
    first, second = attention_run("a", 0), attention_run("bb", 0)
    own = second.structures.drop(columns=[c for c in second.structures if c.startswith(TAP)])
    lacking = Run("bb", own.assign(**{"fusion.2.alpha_mean": 0.5}), second.atoms, *[pd.DataFrame()] * 2, {}, {})
    table = compare_figures(first, lacking, FEW)[0].set_index("metric")
    assert table.loc[f"{TAP}.entropy", "gap"] == f"bb has no tap {TAP}"
    assert table.loc["fusion.2.alpha_mean", "gap"] == "a has no tap fusion.2"
    assert (table["structures"] == 0).all()
    sentence = describe_movement(table.reset_index(), first, lacking, FEW).sentence
    assert sentence == "Nothing could be compared: the two models have no tap in common."


@pytest.mark.parametrize(
    ("shift", "moved"),
    [
        ({"entropy": -0.1, "gini": 0.1}, (2, 0)),
        ({"atom_diversity": 0.1}, (0, 1)),
        ({"entropy": -0.1, "atom_divergence": 0.1}, (1, 1)),
    ],
)
def test_the_two_phenomena_are_told_apart(shift: dict[str, float], moved: tuple[int, int]) -> None:
    first, second = attention_run("a", 0), attention_run("bb", 0, **shift)
    movement = describe_movement(compare_figures(first, second, FEW)[0], first, second, FEW)
    assert (len(movement.moved[GLOBAL]), len(movement.moved[BETWEEN_ATOMS])) == moved
    assert (f"lobal statistics moved in {moved[0]} of 4" in movement.sentence) == (moved[0] > 0)
    assert ("atom-to-atom differences did not move (none of 2 metrics)" in movement.sentence) == (moved[1] == 0)
    assert "attend alike" not in movement.sentence


def test_all_atoms_attending_alike_is_said() -> None:
    collapsed = "atoms collapsed"
    first, second = attention_run("a", 0, collapsed), attention_run("bb", 0, collapsed, entropy=-0.1)
    sentence = describe_movement(compare_figures(first, second, FEW)[0], first, second, FEW).sentence
    assert "Global statistics moved in 1 of 4" in sentence
    assert "In both models all atoms attend alike" in sentence
    assert "40 of 40 structures in a" in sentence


def test_all_but_uniform_attention_is_said() -> None:
    first, second = attention_run("a", 0), attention_run("bb", 0)
    for run in (first, second):
        run.structures[f"{TAP}.normalized_entropy"] = np.linspace(0.995, 0.999, 40)
    sentence = describe_movement(compare_figures(first, second, FEW)[0], first, second, FEW).sentence
    assert "all but uniform (entropy 99.70 % and 99.70 % of its maximum)" in sentence


def labelled(predictions: np.ndarray, target: np.ndarray, label: str) -> Run:
    return made_run({"prediction": predictions, "target": target, "fusion.1.alpha_mean": np.abs(predictions)}, label)


def test_errors_and_disagreement() -> None:
    generator = np.random.default_rng(0)
    target = generator.normal(size=30)
    a, b = target + 0.3 * generator.normal(size=30), target + 0.6 * generator.normal(size=30)
    target[:3] = np.nan
    first, second = labelled(a, target, "a"), labelled(b, target, "b")
    predictions = prediction_table(first, second)
    order = np.argsort(-np.abs(b - a), kind="stable")
    assert list(predictions["id"]) == [f"s{i:03d}" for i in order]
    errors = compare_errors(predictions, first, FEW).set_index("measure")
    known = ~np.isnan(target)
    for name, power in (("mean_absolute_error", 1), ("root_mean_square_error", 2)):
        expected = [(np.abs(p - target)[known] ** power).mean() ** (1 / power) for p in (a, b)]
        row = errors.loc[name]
        assert [row["a"], row["b"]] == pytest.approx(expected)
        assert row["difference"] == pytest.approx(expected[1] - expected[0])
        assert row["ci_low"] < row["difference"] < row["ci_high"]
        assert row["labelled"] == 27
        spread = np.abs(target[known] - target[known].mean())
        assert row["mean_predictor"] == pytest.approx((spread**power).mean() ** (1 / power))


def test_without_labels_the_errors_are_a_gap() -> None:
    empty = np.full(6, np.nan)
    first, second = labelled(np.arange(6.0), empty, "a"), labelled(np.arange(6.0), empty, "b")
    errors = compare_errors(prediction_table(first, second), first, FEW)
    assert errors["gap"].str.startswith("0 of 6 structures have a target").all()
    assert errors["a"].isna().all()


def test_attention_against_error_is_spearman() -> None:
    generator = np.random.default_rng(1)
    target = np.zeros(40)
    a, b = generator.normal(size=40), generator.normal(size=40)
    first, second = labelled(a, target, "a"), labelled(b, target, "b")
    pairs = compare_figures(first, second, FEW)[1]
    table = attention_against_error(pairs, prediction_table(first, second), first, second).set_index("of")
    # Here alpha is the error itself.
    assert table.loc["a", "correlation"] == pytest.approx(1)
    expected = stats.spearmanr(np.abs(b) - np.abs(a), np.abs(b) - np.abs(a))
    assert table.loc["change", "correlation"] == pytest.approx(expected.statistic)
    few = attention_against_error(pairs.groupby("metric").head(3), prediction_table(first, second), first, second)
    assert few["gap"].str.startswith("3 structures").all()


def test_labels_permuted_structure_by_structure_move_nothing() -> None:
    """The null of the sign-flip test: of 60 pairs at most 8 % of the adjusted tests are significant."""
    generator = np.random.default_rng(5)
    found = tested = 0
    for _ in range(60):
        base = generator.normal(size=(6, 40)) + generator.normal(size=(1, 40))
        other = base + 0.5 * generator.normal(size=(6, 40)) + 0.3
        swap = generator.random(40) < 0.5
        names = [f"fusion.{i}.alpha_mean" for i in range(6)]
        first = dict(zip(names, np.where(swap, other, base), strict=True))
        second = dict(zip(names, np.where(swap, base, other), strict=True))
        table = compare_figures(made_run(first), made_run(second, "b"), Inference(resamples=299))[0]
        found += int((table["p_adjusted"] < 0.05).sum())
        tested += len(table)
    assert found / tested <= 0.08


def test_one_structure_has_no_interval() -> None:
    first, second = (made_run({"fusion.1.alpha_mean": np.array([x])}, label) for x, label in ((0.2, "a"), (0.3, "b")))
    result = compare_runs(first, second)
    assert result.statistics.loc[0, "gap"] == "one structure has no interval"
    assert np.isnan(result.statistics.loc[0, "p_value"])
    assert not result.identical
