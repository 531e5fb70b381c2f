"""Curves, agreement and randomisation over structures: against figures made by hand and by other means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from interpret.attribution.agreement import explainer_agreement, pair_agreements, randomisation_summary
from interpret.attribution.curves import COLUMNS, faithfulness_curves
from interpret.attribution.over_structures import by_structure
from interpret.attribution.tables import AttributionTables, summarize
from interpret.metrics.faithfulness import SHARES, curve_area

PERCENTS = ("1", "5", "10", "20", "50")


def measured(identifier: str, method: str, lost: Any, missed: Any, change: float, **more: Any) -> dict[str, Any]:
    """A row of the faithfulness table, its areas by numpy."""
    shares = [0, 0.01, 0.05, 0.1, 0.2, 0.5, 1]
    curves = {"deletion_area": [0, *lost, change], "insertion_area": [change, *missed, 0]}
    return {
        "id": identifier,
        "side": "text",
        "kind": "words",
        "method": method,
        "change": change,
        **{f"comprehensiveness_{p}": value for p, value in zip(PERCENTS, lost, strict=True)},
        **{f"sufficiency_{p}": value for p, value in zip(PERCENTS, missed, strict=True)},
        "comprehensiveness": np.mean(lost),
        "sufficiency": np.mean(missed),
        **{name: integrate.trapezoid(values, shares) for name, values in curves.items()},
        "tau_leave_one_out": np.nan,
        "characterization": np.nan,
        "infidelity": 0.0,
    } | more


def drawn(structures: int = 6, seeds: int = 3, *, side: str = "text", kind: str = "words") -> pd.DataFrame:
    """A faithfulness table by chance; the last structure has one player, and so no order."""
    generator = np.random.default_rng(3)
    rows = []
    for number in range(structures):
        change = float(generator.gamma(2.0))
        for method in ("ablation", "attention", "uniform", *["random"] * seeds):
            values = generator.gamma(2.0, size=(2, 5))
            if number == structures - 1:
                values = np.full((2, 5), np.nan)
            rows.append(measured(f"s{number}", method, *values, change, side=side, kind=kind))
    return pd.DataFrame(rows)


def point(curves: pd.DataFrame, method: str, curve: str, percent: float) -> pd.Series:
    found = curves[(curves["method"] == method) & (curves["curve"] == curve) & (curves["percent"] == percent)]
    assert len(found) == 1
    return found.iloc[0]


def test_curves_made_by_hand() -> None:
    table = pd.DataFrame(
        [
            measured("a", "ablation", [1, 2, 3, 4, 5], [5, 4, 3, 2, 1], 6.0),
            measured("a", "uniform", [0, 1, 1, 1, 1], [5, 5, 5, 5, 5], 6.0),
            measured("b", "ablation", [3, 4, 5, 6, 7], [7, 6, 5, 4, 3], 8.0),
            measured("b", "uniform", [2, 2, 2, 2, 2], [7, 7, 7, 7, 7], 8.0),
            measured("c", "ablation", [np.nan] * 5, [np.nan] * 5, 100.0),
            measured("c", "uniform", [np.nan] * 5, [np.nan] * 5, 100.0),
        ]
    )
    curves = faithfulness_curves(table)
    own = curves[curves["method"] == "ablation"].set_index("curve")
    assert own.loc["deletion", "percent"].tolist() == [0, 1, 5, 10, 20, 50, 100]
    assert own.loc["deletion", "mean"].tolist() == [0, 2, 3, 4, 5, 6, 7]
    assert own.loc["insertion", "mean"].tolist() == [7, 6, 5, 4, 3, 2, 0]
    assert own.loc["deletion", "beyond_uniform"].tolist() == [0, 1, 1.5, 2.5, 3.5, 4.5, 0]
    # The change of c is known, but c has no order and so no curve: not even its ends count.
    assert set(curves["structures"]) == set(curves["beyond_uniform_structures"]) == {2}
    assert set(curves["undefined"]) == {1}
    at_five = point(curves, "ablation", "deletion", 5)
    assert (at_five["low"], at_five["high"]) == (2, 4), "resamples of two structures reach from one to the other"
    assert point(curves, "uniform", "deletion", 50)["beyond_uniform_high"] == 0


def test_the_random_explainer_is_one_value_a_structure() -> None:
    values = {"a": (1.0, 2.0, 6.0), "b": (5.0, 5.0, 5.0)}
    rows = [measured(name, "random", [v] * 5, [v] * 5, 9.0) for name, seeds in values.items() for v in seeds]
    rows += [measured(name, "uniform", [4.0] * 5, [4.0] * 5, 9.0) for name in values]
    found = point(faithfulness_curves(pd.DataFrame(rows)), "random", "deletion", 10)
    assert (found["mean"], found["low"], found["high"], found["structures"]) == (4.0, 3.0, 5.0, 2)
    assert (found["beyond_uniform"], found["beyond_uniform_low"], found["beyond_uniform_high"]) == (0.0, -1.0, 1.0)


def test_the_area_under_the_saved_curve_is_the_mean_area(tmp_path: Path) -> None:
    table = drawn()
    tables(faithfulness=table).save(tmp_path)
    saved = pd.read_csv(tmp_path / "faithfulness_curves.csv")
    assert tuple(saved.columns) == COLUMNS
    pd.testing.assert_frame_equal(saved, pd.read_parquet(tmp_path / "faithfulness_curves.parquet"))
    areas = pd.read_csv(tmp_path / "attribution_summary.csv").set_index(["method", "figure"])
    for (method, curve), own in saved.groupby(["method", "curve"]):
        area = integrate.trapezoid(own["mean"], own["percent"] / 100)
        by_id = table[table["method"] == method].groupby("id")[f"{curve}_area"].mean()
        assert area == pytest.approx(by_id.mean())
        assert area == pytest.approx(areas.loc[(method, f"{curve}_area"), "mean"])
        assert area == pytest.approx(curve_area((0.0, *SHARES, 1.0), own["mean"].to_numpy()))


@settings(max_examples=5, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(random: Any) -> None:
    made = {"faithfulness": drawn(), "attribution": explained(), "randomisation": redrawn()}
    one = tables(**made)
    other = tables(**{name: table.iloc[random.sample(range(len(table)), len(table))] for name, table in made.items()})
    for ask in ("curves", "explainer_agreement", "randomisation_summary", "summary"):
        pd.testing.assert_frame_equal(getattr(one, ask)(), getattr(other, ask)(), check_exact=True)


def test_kinds_of_one_side_are_not_averaged() -> None:
    words, sentences = drawn(), drawn(kind="sentences")
    columns = [name for name in sentences if name.startswith("comprehensiveness")]
    sentences[columns] *= 10
    both = pd.concat([sentences, words], ignore_index=True)
    curves = faithfulness_curves(both)
    assert list(dict.fromkeys(curves["kind"])) == ["words", "sentences"]
    for kind, alone in (("words", words), ("sentences", sentences)):
        own = curves[curves["kind"] == kind].reset_index(drop=True)
        pd.testing.assert_frame_equal(own, faithfulness_curves(alone))
        summary = summarize(both)
        own = summary[summary["kind"] == kind].reset_index(drop=True)
        pd.testing.assert_frame_equal(own, summarize(alone))
    said = "\n".join(tables(faithfulness=both).lines())
    assert said.count("without the words named") == said.count("without the sentences named") == 1


def test_what_is_undefined_is_nan() -> None:
    curves = faithfulness_curves(drawn(structures=1))
    numbers = [name for name in COLUMNS[5:] if not name.endswith(("structures", "undefined"))]
    assert curves[numbers].isna().all(axis=None)
    assert set(curves["structures"]) == {0}
    without = drawn()
    without = without[without["method"] != "uniform"]
    curves = faithfulness_curves(without)
    assert curves["mean"].notna().all()
    assert curves["beyond_uniform"].isna().all()
    for table in (faithfulness_curves(pd.DataFrame()), faithfulness_curves(drawn().iloc[:0])):
        assert tuple(table.columns) == COLUMNS
        assert not len(table)


def test_a_method_that_some_structures_lack() -> None:
    table = drawn()
    lacking = table[(table["method"] != "attention") | table["id"].isin(["s0", "s1"])]
    found = point(faithfulness_curves(lacking), "attention", "insertion", 20)
    assert (found["structures"], found["undefined"]) == (2, 4)
    expected = table[(table["method"] == "attention") & table["id"].isin(["s0", "s1"])]["sufficiency_20"].mean()
    assert found["mean"] == pytest.approx(expected)


def explained(structures: int = 5, players: int = 9) -> pd.DataFrame:
    """An attribution table by chance."""
    generator = np.random.default_rng(4)
    rows = []
    for number in range(structures):
        for method in ("position", "ablation", "attention", "uniform"):
            values = np.full(players, 0.1) if method == "uniform" else generator.normal(size=players)
            rows += [
                {"id": f"s{number}", "side": "text", "kind": "words", "method": method, "player": p, "value": v}
                for p, v in enumerate(values)
            ]
    return pd.DataFrame(rows)


def test_agreement_is_the_mean_of_tau_of_the_sizes() -> None:
    table = explained()
    found = explainer_agreement(table).set_index(["method", "other"])
    assert list(found.index) == [
        ("ablation", "attention"),
        ("ablation", "uniform"),
        ("ablation", "position"),
        ("attention", "uniform"),
        ("attention", "position"),
        ("uniform", "position"),
    ], "in the order of the methods, explainers that know nothing last"
    wide = table.pivot(index=["id", "player"], columns="method", values="value").abs()
    for method, other in found.index:
        row = found.loc[(method, other)]
        if "uniform" in (method, other):
            assert np.isnan(row["tau"])
            assert (row["structures"], row["undefined"]) == (0, 5)
            continue
        taus = [stats.kendalltau(own[method], own[other]).statistic for _, own in wide.groupby("id")]
        assert row["tau"] == pytest.approx(np.mean(taus))
        assert min(taus) <= row["low"] <= row["tau"] <= row["high"] <= max(taus)
        assert (row["structures"], row["undefined"]) == (5, 0)


def test_equivalent_atoms_have_no_order_though_rounding_gives_them_one() -> None:
    # Values of the two atoms of diamond by ablation, as a run gave them.
    values = {"ablation": (-3.5211634893232056, -3.5211634893232047), "position": (1.0, 0.5)}
    rows = [
        {"id": "C", "side": "graph", "kind": "atoms", "method": method, "player": player, "value": value}
        for method, own in values.items()
        for player, value in enumerate(own)
    ]
    (tau,) = pair_agreements(pd.DataFrame(rows), ("ablation", "position"))["C"].values()
    assert np.isnan(tau)
    found = explainer_agreement(pd.DataFrame(rows)).iloc[0]
    assert (found["structures"], found["undefined"]) == (0, 1)


def redrawn() -> pd.DataFrame:
    """A randomisation table: two stages of three structures, one of which has no correlation."""
    spearman = {"a": (0.9, 0.1), "b": (0.7, 0.3), "c": (np.nan, np.nan)}
    return pd.DataFrame(
        [
            {
                "id": name,
                "side": "text",
                "method": "attention",
                "stage": stage,
                "depth": depth,
                "spearman": values[depth],
                "untrained_pair": 0.25 if name == "a" else 0.35 if name == "b" else np.nan,
            }
            for name, values in spearman.items()
            for depth, stage in enumerate(("head", "attention"))
        ]
    )


def test_randomisation_made_by_hand() -> None:
    found = randomisation_summary(redrawn().iloc[::-1])
    assert found["stage"].tolist() == ["head", "attention"]
    assert found["spearman"].tolist() == pytest.approx([0.8, 0.2])
    assert found["low"].tolist() == [0.7, 0.1]
    assert found["high"].tolist() == [0.9, 0.3]
    assert found["untrained_pair"].tolist() == pytest.approx([0.3, 0.3])
    assert found["untrained_pair_low"].tolist() == [0.25, 0.25]
    assert set(found["structures"]) == set(found["untrained_pair_structures"]) == {2}
    assert set(found["undefined"]) == {1}
    assert not len(randomisation_summary(pd.DataFrame()))


def tables(**given: pd.DataFrame) -> AttributionTables:
    empty = dict.fromkeys(("attribution", "faithfulness", "randomisation", "head_importance"), pd.DataFrame())
    return AttributionTables(**(empty | given), notes={}, provenance={})


def test_all_are_saved_beside_the_tables(tmp_path: Path) -> None:
    one = tables(faithfulness=drawn(), attribution=explained(), randomisation=redrawn())
    one.save(tmp_path)
    for name, ask in (
        ("faithfulness_curves", one.curves),
        ("explainer_agreement", one.explainer_agreement),
        ("randomisation_summary", one.randomisation_summary),
    ):
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / f"{name}.parquet"), ask())
        assert len(pd.read_csv(tmp_path / f"{name}.csv")) == len(ask())
    loaded = AttributionTables.load(tmp_path)
    pd.testing.assert_frame_equal(loaded.curves(), one.curves())
    tables().save(tmp_path / "empty")
    assert (tmp_path / "empty" / "faithfulness_curves.csv").read_text().strip() == ",".join(COLUMNS)


def test_by_structure_sorts_by_id() -> None:
    table = drawn().iloc[::-1]
    found = by_structure(table, "comprehensiveness_5")
    assert list(found.index) == sorted(set(table["id"]))
    one = table[(table["id"] == "s2") & (table["method"] == "random")]
    assert found.loc["s2", "random"] == pytest.approx(one["comprehensiveness_5"].mean())
