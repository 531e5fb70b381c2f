"""Texts that print their target are told from texts whose numbers equal it by accident."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from interpret.modality.leakage import leakage_rows, printed_numbers, property_word_rows, property_words


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("All Ti(1)-Si(1) bond lengths are 2.70 Å.", ["2.70"]),
        ("angles range from 48-60°", ["48", "60"]),
        ("TiO2 in P4_2/mnm, a 8-coordinate Ba(12) along (0, 0, 1)", []),
        ("a gap of 1.12 eV", ["1.12"]),
        ("no number", []),
    ],
)
def test_printed_numbers(text: str, numbers: list[str]) -> None:
    assert [number.written for number in printed_numbers(text)] == numbers


@given(st.floats(0, 20), st.integers(0, 4))
def test_a_number_equals_what_rounds_to_it(target: float, decimals: int) -> None:
    (number,) = printed_numbers(f"gap {target:.{decimals}f} eV")
    assert number.equals(target)
    assert not number.equals(target + 1.1 * 10.0**-decimals)
    assert not number.equals(target - 1.1 * 10.0**-decimals)


def test_match_and_chance_by_counting() -> None:
    texts = ["gap 1.12 eV", "bond of 0.00 Å", "length 2.35 Å and 1.12 Å", "no number", "gap 9.99 eV", "gap 3.0 eV"]
    targets = np.array([1.121, 0.0, 5.0, 0.0, 2.0, np.nan])
    rows = leakage_rows(list("abcdef"), texts, targets)
    assert [row["match"] for row in rows[:5]] == [1, 1, 0, 0, 0]
    assert rows[0]["number"] == "1.12"
    # Of the other four labelled targets: none is 1.12, one is 0.00, one is 1.12, and so on.
    assert [row["chance"] for row in rows[:5]] == [0, 0.25, 0.25, 0, 0]
    assert np.isnan(rows[5]["match"])
    assert np.isnan(rows[5]["chance"])


def test_chance_is_the_mean_over_all_exchanges() -> None:
    """Against the definition: how often a text's numbers equal the target of each other structure."""
    generator = np.random.default_rng(0)
    targets = np.round(generator.uniform(0, 3, 30), 1)
    texts = [f"{a:.1f} Å and {b:.0f}°" for a, b in generator.uniform(0, 3, (30, 2))]
    rows = leakage_rows([str(i) for i in range(30)], texts, targets)
    for i, row in enumerate(rows):
        numbers = printed_numbers(texts[i])
        hits = [any(n.equals(targets[j]) for n in numbers) for j in range(30) if j != i]
        assert row["chance"] == pytest.approx(np.mean(hits))


def test_property_words_and_their_separation() -> None:
    """Against scipy's Mann-Whitney U; the p-value is small for a word that tells and large for one that does not."""
    generator = np.random.default_rng(1)
    targets = np.where(np.arange(60) % 2, 0.0, generator.uniform(0.5, 3, 60))
    idle = generator.permutation(60) < 20
    texts = [
        f"{'Metallic copper' if target == 0 else 'Copper'} is {'magnetic' if other else 'red'}."
        for target, other in zip(targets, idle, strict=True)
    ]
    rows = {row["word"]: row for row in property_word_rows(texts, targets)}
    assert set(rows) == {"metallic", "magnetic"}
    for word, present in (("metallic", targets == 0), ("magnetic", idle)):
        u = stats.mannwhitneyu(targets[present], targets[~present]).statistic
        assert rows[word]["separation"] == pytest.approx(u / (present.sum() * (~present).sum()))
        assert rows[word]["structures"] == present.sum()
    assert rows["metallic"]["separation"] == 0
    assert rows["metallic"]["p_value"] == 0.001
    assert rows["magnetic"]["p_value"] > 0.05


def test_p_value_of_no_effect_is_uniform() -> None:
    """In repeated draws without effect a p below 0.1 comes in about a tenth, however many words there are."""
    generator = np.random.default_rng(2)
    words = ["metallic", "magnetic", "insulating", "stable"]
    smallest = []
    for seed in range(40):
        targets = generator.normal(size=40)
        texts = [" ".join(w for w in words if generator.random() < 0.5) for _ in range(40)]
        smallest.append(min(row["p_value"] for row in property_word_rows(texts, targets, seed=seed)))
    assert stats.binomtest(sum(p <= 0.1 for p in smallest), 40, 0.1).pvalue > 0.01
    assert stats.kstest(smallest, "uniform").pvalue > 0.01


def test_no_property_word_no_row() -> None:
    assert property_word_rows(["a", "b"], np.array([1.0, 2.0])) == []
    assert property_words("A metallic, Superconductor phase; metallic GaP") == ["metallic", "superconductor"]


def test_a_word_of_one_structure_does_not_hide_another() -> None:
    """One structure is enough to be at the end of the order; that must not pass for what twenty of forty do."""
    targets = np.arange(40.0)
    texts = [f"{'metallic' if target < 20 else 'red'} {'stable' if target == 30 else ''}" for target in targets]
    rows = {row["word"]: row["p_value"] for row in property_word_rows(texts, targets)}
    assert rows["metallic"] == 0.001
    assert rows["stable"] > 0.3
