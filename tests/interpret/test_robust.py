"""What a map is read for: per atom where atoms differ, one ranking where they do not, and why."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interpret.record import StructureRecord
from interpret.robust import LEAST_DIFFERENCE, analyze_attention

TAP = "attention.atom_to_token"
PIECES = ("[CLS]", "Ba", "is", "bonded", "to", "O", ".", "[SEP]")
MakeRecord = Callable[..., StructureRecord]


def rows_of(*weights: list[float]) -> np.ndarray:
    """One head with these rows."""
    return np.array([weights], dtype=np.float64)


def two_atoms(make_record: MakeRecord, difference: float, **options: object) -> StructureRecord:
    """Two atoms whose only head differs by this share of attention: from the token Ba to the token O."""
    first = [0.1, 0.4, 0.1, 0.05, 0.05, 0.1, 0.1, 0.1]
    second = list(first)
    second[1] -= difference
    second[5] += difference
    return make_record({TAP: rows_of(first, second)}, elements=["Ba", "O"], **options)


def test_atoms_that_differ_are_read_one_by_one(make_record: MakeRecord) -> None:
    found = analyze_attention(two_atoms(make_record, 0.35), TAP)
    assert found.mode == "atoms differ"
    assert found.difference == pytest.approx(0.35)
    assert "35 %" in found.reason
    assert [found.top(atom, 1)[0].word for atom in (0, 1)] == ["Ba", "O"]
    assert [found.top(atom, 1)[0].weight for atom in (0, 1)] == pytest.approx([0.4, 0.45])
    assert [word.word for word in found.ranking] == ["O", "Ba", "bonded"]


def test_collapsed_atoms_have_one_ranking(make_record: MakeRecord) -> None:
    found = analyze_attention(two_atoms(make_record, 0.005), TAP)
    assert found.mode == "atoms collapsed"
    assert found.per_atom == ()
    assert "less than 1 %" in found.reason
    assert found.top(0) == found.top(1) == found.ranking[:3]
    assert found.ranking[0].word == "Ba"
    assert found.ranking[0].weight == pytest.approx(0.3975)


@pytest.mark.parametrize(("difference", "mode"), [(0.99, "atoms collapsed"), (1.01, "atoms differ")])
def test_the_limit_is_a_hundredth_of_the_attention(difference: float, mode: str, make_record: MakeRecord) -> None:
    assert analyze_attention(two_atoms(make_record, difference * LEAST_DIFFERENCE), TAP).mode == mode


def test_one_atom_is_neither(make_record: MakeRecord) -> None:
    found = analyze_attention(make_record({TAP: np.full((2, 1, 8), 1 / 8)}, elements=["Cu"]), TAP)
    assert found.mode == "one atom"
    assert np.isnan(found.difference)
    assert found.per_atom == ()


def test_one_class_is_neither_even_where_its_rows_differ(make_record: MakeRecord) -> None:
    found = analyze_attention(two_atoms(make_record, 0.35, classes=[0, 0]), TAP)
    assert found.mode == "one class"
    assert "by construction" in found.reason
    assert found.per_atom == ()


def test_a_head_in_which_atoms_differ_is_enough(make_record: MakeRecord) -> None:
    same = np.full((1, 2, 8), 1 / 8)
    other = two_atoms(make_record, 0.35).values(TAP)
    record = make_record({TAP: np.concatenate([same, other])}, elements=["Ba", "O"])
    assert analyze_attention(record, TAP).mode == "atoms differ"


def test_what_filtering_removes_is_stated(make_record: MakeRecord) -> None:
    record = two_atoms(make_record, 0.0)
    weights = dict(zip(PIECES, record.values(TAP)[0, 0], strict=True))
    special = weights["[CLS]"] + weights["[SEP]"]
    stop = weights["is"] + weights["to"]
    assert analyze_attention(record, TAP).removed_share == pytest.approx(special + stop + weights["."])
    assert analyze_attention(record, TAP, stop_words=True).removed_share == pytest.approx(special + weights["."])
    kept = analyze_attention(record, TAP, stop_words=True, punctuation=True)
    assert kept.removed_share == pytest.approx(special)
    assert {word.word for word in kept.ranking} == {"Ba", "is", "bonded", "to", "O", "."}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.booleans(), st.booleans())
def test_rankings_and_what_was_removed_make_up_all_attention(
    make_record: MakeRecord, seed: int, stop_words: bool, punctuation: bool
) -> None:
    weights = np.random.default_rng(seed).dirichlet(np.ones(8), size=(3, 4))
    record = make_record({TAP: weights}, elements=["Ba", "O", "Ti", "O"])
    found = analyze_attention(record, TAP, stop_words=stop_words, punctuation=punctuation)
    assert sum(word.weight for word in found.ranking) + found.removed_share == pytest.approx(1.0)
    assert [word.weight for word in found.ranking] == sorted((word.weight for word in found.ranking), reverse=True)
    averaged = weights.mean(axis=0)
    for atom, ranking in enumerate(found.per_atom):
        for word in ranking:
            assert word.weight == pytest.approx(averaged[atom, PIECES.index(word.word)])


def test_words_spelled_alike_are_one_entry_with_their_control(make_record: MakeRecord) -> None:
    pieces = ["[CLS]", "O", "Ba", "O", "[SEP]"]
    record = make_record({TAP: rows_of([0.1, 0.3, 0.3, 0.2, 0.1])}, elements=["Cu"], pieces=pieces)
    (first, second) = analyze_attention(record, TAP).ranking
    assert (first.word, first.weight, first.uniform) == ("O", pytest.approx(0.5), pytest.approx(2 / 5))
    assert (second.word, second.uniform) == ("Ba", pytest.approx(1 / 5))
    assert first.ratio == pytest.approx(1.25)


def test_ties_are_in_the_order_of_the_text(make_record: MakeRecord) -> None:
    pieces = ["[CLS]", "Ti", "Ba", "O", "[SEP]"]
    record = make_record({TAP: np.full((1, 1, 5), 0.2)}, elements=["Cu"], pieces=pieces)
    assert [word.word for word in analyze_attention(record, TAP).ranking] == ["Ti", "Ba", "O"]


def test_categories_are_those_of_the_words(make_record: MakeRecord) -> None:
    found = analyze_attention(two_atoms(make_record, 0.0), TAP)
    assert {word.word: word.category for word in found.ranking} == {
        "Ba": "element",
        "O": "element",
        "bonded": "chemistry",
    }


def test_an_empty_text_has_nothing_to_rank(make_record: MakeRecord) -> None:
    record = make_record({TAP: np.full((2, 2, 2), 0.5)}, elements=["Ba", "O"], pieces=["[CLS]", "[SEP]"])
    found = analyze_attention(record, TAP)
    assert found.ranking == ()
    assert found.removed_share == pytest.approx(1.0)
    assert found.top() == ()
