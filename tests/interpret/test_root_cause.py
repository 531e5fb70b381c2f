"""The cause of a collapse by counterfactual, on tables in which it is known."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from interpret.root_cause import ALIKE, difference_share, root_cause

CHANGES = ("attention_softened", "fusion_off", "nodes_standardized", "attention_sharpened")
INDEPENDENT = 0.04


def table(own: float, count: int = 20, *, leave_out: tuple[str, ...] = (), **restored: float) -> pd.DataFrame:
    """Structures whose atoms differ by these shares of independent ones, scattered by a fifth; unnamed changes restore
    nothing."""
    generator = np.random.default_rng(0)
    shares = {"attention.atom_to_token": own}
    shares |= {f"counterfactual.{c}": restored.get(c, own) for c in CHANGES if c not in leave_out}
    columns: dict[str, object] = {"id": [f"S{i:02d}" for i in range(count)]}
    for prefix, share in shares.items():
        independent = INDEPENDENT * np.exp(0.5 * generator.normal(size=count))
        columns[f"{prefix}.atom_difference_independent"] = independent
        columns[f"{prefix}.atom_difference"] = share * independent * np.exp(0.2 * generator.normal(size=count))
    return pd.DataFrame(columns)


@pytest.mark.parametrize(
    ("restored", "change", "meaning"),
    [
        ({"nodes_standardized": 0.9}, "nodes_standardized", "over-smoothed before attention"),
        # Standardised atoms differ more, whatever made them alike: the specific cause goes first.
        ({"fusion_off": 0.4, "nodes_standardized": 1.0}, "fusion_off", "the fusion makes the atoms alike"),
        ({"attention_softened": 0.5, "nodes_standardized": 0.9}, "attention_softened", "the heads are saturated"),
        ({"attention_sharpened": 0.6}, "attention_sharpened", "too small to tell atoms apart"),
    ],
)
def test_what_restores_the_difference_is_the_cause(restored: dict[str, float], change: str, meaning: str) -> None:
    found = root_cause(table(0.01, **restored))
    assert meaning in found.sentence
    cause = next(row for row in found.rows if row.change == change)
    factor = restored[change] / 0.01
    assert cause.factor.low < factor < cause.factor.high
    assert f"restores {cause.factor.value:.3g} times the difference" in found.sentence
    assert [row.change for row in found.rows if row.restores] == sorted(restored, key=lambda c: -restored[c])


def test_rows_are_ranked_by_what_they_restore() -> None:
    found = root_cause(table(0.01, nodes_standardized=0.9, fusion_off=0.4, attention_softened=0.03))
    assert [row.change for row in found.rows[:3]] == ["nodes_standardized", "fusion_off", "attention_softened"]
    # Three times of next to nothing is next to nothing.
    assert [row.restores for row in found.rows] == [True, True, False, False]


def test_atoms_that_differ_have_no_collapse_to_explain() -> None:
    found = root_cause(table(0.55, nodes_standardized=1.0))
    assert "no collapse to explain" in found.sentence
    assert found.share.low > ALIKE


def test_queries_that_do_not_see_the_atoms_are_restored_by_nothing() -> None:
    assert "queries themselves" in root_cause(table(0.001)).sentence


def test_a_difference_of_exactly_nothing_can_be_restored() -> None:
    found = root_cause(table(0.0, nodes_standardized=0.8))
    assert found.sentence == "standardising the atoms restores the difference: atoms are over-smoothed before attention"
    assert math.isnan(found.rows[0].factor.value)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_too_few_structures_are_said_to_be_too_few(count: int) -> None:
    sentence = root_cause(table(0.01, count, nodes_standardized=0.9)).sentence
    assert ("not enough structures" if count else "no structure has atoms of different classes") in sentence


def test_structures_of_one_class_do_not_count() -> None:
    structures = table(0.01, nodes_standardized=0.9)
    names = [name for name in structures if "difference" in str(name)]
    structures.loc[:4, names] = np.nan
    assert root_cause(structures).share.count == 15


def test_a_change_that_was_not_made_is_not_a_cause() -> None:
    found = root_cause(table(0.01, leave_out=("fusion_off",), nodes_standardized=0.9))
    assert "fusion_off" not in {row.change for row in found.rows}
    assert "over-smoothed" in found.sentence


def test_the_order_of_rows_does_not_matter() -> None:
    structures = table(0.01, nodes_standardized=0.9)
    shuffled = structures.sample(frac=1.0, random_state=1)
    assert root_cause(structures) == root_cause(shuffled)


def test_no_attention_has_no_cause() -> None:
    found = root_cause(pd.DataFrame({"id": ["a", "b"], "prediction": [0.0, 1.0]}))
    assert found.rows == ()
    assert found.share.count == 0


def test_the_share_leaves_out_uniform_maps() -> None:
    frame = pd.DataFrame({"x.atom_difference": [0.0, 0.01], "x.atom_difference_independent": [0.0, 0.04]})
    share = difference_share(frame, "x")
    assert math.isnan(share[0])
    assert share[1] == 0.25


def test_rows_are_plain_values() -> None:
    rows = [row.to_dict() for row in root_cause(table(0.01, nodes_standardized=0.9)).rows]
    assert json.loads(json.dumps(rows))[0]["change"] == "nodes_standardized"
    assert rows[0]["share_low"] < rows[0]["share"] < rows[0]["share_high"]
    assert rows[0]["structures"] == 20
