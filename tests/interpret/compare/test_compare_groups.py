"""Seeds against seeds: the spread between seeds is the yardstick."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from interpret.compare.groups import GroupComparison, compare_groups, least_p_value
from interpret.compare.pairing import Run
from model.errors import DataError, RecordError

from .conftest import made_run

NAME = "fusion.1.alpha_mean"


def group(label: str, means: list[float], structures: int = 30) -> list[Run]:
    base = np.random.default_rng(0).normal(size=structures)
    base -= base.mean()
    return [made_run({NAME: base + mean}, f"{label}-{i}") for i, mean in enumerate(means)]


def test_the_interval_is_welchs_and_the_permutation_complete() -> None:
    a, b = [0.5, 0.55, 0.47], [0.7, 0.62, 0.75, 0.71]
    result = compare_groups(group("a", a), group("b", b), ("full", "none"))
    row = result.statistics.set_index("metric").loc[NAME]
    difference = np.mean(b) - np.mean(a)
    variances = np.var(a, ddof=1) / 3, np.var(b, ddof=1) / 4
    freedom = sum(variances) ** 2 / (variances[0] ** 2 / 2 + variances[1] ** 2 / 3)
    reach = stats.t.ppf(0.975, freedom) * np.sqrt(sum(variances))
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((difference - reach, difference + reach))
    everything = a + b
    splits = list(itertools.combinations(range(7), 3))
    differences = np.array(
        [np.mean([everything[i] for i in range(7) if i not in s]) - np.mean([everything[i] for i in s]) for s in splits]
    )
    share_up = (differences >= difference - 1e-12).mean()
    assert row["p_value"] == pytest.approx(2 * share_up)
    pooled = np.sqrt((2 * np.var(a, ddof=1) + 3 * np.var(b, ddof=1)) / 5)
    assert row["in_seed_sds"] == pytest.approx(difference / pooled)
    assert "1 of 2 metrics differ between full and none by more than seeds explain" in result.sentence
    assert result.seeds.query("metric == @NAME and group == 'none'")["mean"].tolist() == pytest.approx(b)


def test_a_difference_within_the_spread_of_seeds_is_none() -> None:
    result = compare_groups(group("a", [0.4, 0.6, 0.5]), group("b", [0.45, 0.65, 0.55]), ("full", "none"))
    row = result.statistics.set_index("metric").loc[NAME]
    assert row["ci_low"] < 0 < row["ci_high"]
    assert result.sentence.startswith("0 of 2 metrics differ")
    assert any("no permutation test can give p below 0.1" in note for note in result.notes)


def test_one_model_leans_on_the_seeds_of_the_other() -> None:
    a = [0.4, 0.6, 0.5]
    row = compare_groups(group("a", a), group("b", [0.9]), ("full", "none")).statistics.set_index("metric").loc[NAME]
    reach = stats.t.ppf(0.975, 2) * np.std(a, ddof=1) * np.sqrt(1 / 3 + 1)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((0.4 - reach, 0.4 + reach))
    assert np.isnan(row["sd_seeds_b"])
    # Of four models the single one is the largest: 1 of 4, two-sided.
    assert row["p_value"] == row["p_least"] == 0.5


def test_equal_groups_differ_by_exactly_nothing() -> None:
    row = compare_groups(group("a", [0.5, 0.5]), group("b", [0.5, 0.5]), ("x", "y")).statistics.set_index("metric")
    assert row.loc[NAME, ["difference", "in_seed_sds", "ci_low", "ci_high"]].tolist() == [0, 0, 0, 0]
    assert row.loc[NAME, "p_value"] == 1


def test_models_that_do_not_differ_are_no_yardstick() -> None:
    table = compare_groups(group("a", [0.5, 0.5]), group("b", [0.6, 0.6]), ("x", "y")).statistics
    row = table.set_index("metric").loc[NAME]
    assert row["difference"] == pytest.approx(0.1)
    assert np.isnan(row[["ci_low", "ci_high", "in_seed_sds"]].to_numpy(dtype=float)).all()
    assert row["gap"] == "the models of each group do not differ at all"


def test_two_single_models_have_no_yardstick() -> None:
    with pytest.raises(DataError, match="no variance between seeds"):
        compare_groups(group("a", [0.5]), group("b", [0.6]), ("x", "y"))
    with pytest.raises(DataError, match="got 0 and 2"):
        compare_groups([], group("b", [0.6, 0.7]), ("x", "y"))


def test_other_data_in_one_group_is_refused() -> None:
    with pytest.raises(DataError, match="29 ids are in both"):
        compare_groups(group("a", [0.5, 0.6]), group("b", [0.5, 0.6], structures=29), ("x", "y"))


def test_a_metric_that_one_model_lacks_is_a_gap() -> None:
    lacking = [made_run({"fusion.2.alpha_mean": np.linspace(0, 1, 30)}, "b-0")]
    table = compare_groups(group("a", [0.5, 0.6]), lacking, ("x", "y")).statistics.set_index("metric")
    assert table.loc[NAME, "gap"] == "b-0 has no tap fusion.1"
    assert table.loc["fusion.2.alpha_mean", "gap"] == "a-0, a-1 has no tap fusion.2"


def test_structures_undefined_in_any_model_are_left_out_of_all() -> None:
    first, second = group("a", [0.5, 0.6]), group("b", [0.7, 0.8])
    second[1].structures.loc[:9, NAME] = np.nan
    row = compare_groups(first, second, ("x", "y")).statistics.set_index("metric").loc[NAME]
    assert row["structures"] == 20
    assert row["difference"] == pytest.approx(0.2)


@pytest.mark.parametrize(("first", "second", "expected"), [(3, 3, 0.1), (5, 5, 2 / 252), (1, 4, 0.4), (1, 1, 1.0)])
def test_least_p_value(first: int, second: int, expected: float) -> None:
    assert least_p_value(first, second) == pytest.approx(expected)


def test_saved_and_read_back(tmp_path: Path) -> None:
    result = compare_groups(group("a", [0.5, 0.6]), group("b", [0.7, 0.8]), ("x", "y"))
    result.save(tmp_path)
    again = GroupComparison.load(tmp_path)
    assert again.to_frame().equals(result.to_frame())
    assert again.seeds.equals(result.seeds)
    assert (again.labels, again.members, again.sentence) == (result.labels, result.members, result.sentence)
    with pytest.raises(RecordError, match="comparison of groups"):
        GroupComparison.load(tmp_path / "nowhere")
