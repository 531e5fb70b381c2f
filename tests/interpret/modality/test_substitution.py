"""Whole words are replaced, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interpret.modality.substitution import apply_replacements, parse_replacement, replace_phrases
from interpret.segmentation import word_spans
from model.demo import demo_texts
from model.errors import DataError

TEXT = "BaO is cubic. Ba(1) is bonded in a body-centered cubic geometry, to BaO6 cuboctahedra at 2.70 Å."


def test_words_only_and_all_of_them() -> None:
    edited = apply_replacements(TEXT, [("cubic", "hexagonal")])
    assert edited.text == TEXT.replace("cubic", "hexagonal")
    assert edited.replaced == (("cubic", "hexagonal"),) * 2


@pytest.mark.parametrize("old", ["Ba", "cub", "2.70 Å at", "O6", "Cubic"])
def test_parts_of_words_do_not_count(old: str) -> None:
    with pytest.raises(DataError, match=r"no word .* it has: BaO, is, cubic, \., Ba\(1\)"):
        apply_replacements(TEXT, [(old, "x")])


@pytest.mark.parametrize("written", ["2.70 \u00c5", "2.70 \u212b", "2.70  A\u030a"])
def test_words_are_compared_as_the_encoder_sees_them(written: str) -> None:
    assert apply_replacements(TEXT, [(written, "3.0 Å")]).text.endswith("at 3.0 Å.")


def test_phrases_and_removal() -> None:
    edited = apply_replacements(TEXT, [("is  bonded in", "sits in"), ("body-centered", "")])
    assert "Ba(1) sits in a  cubic geometry" in edited.text


def test_replacements_do_not_see_each_other() -> None:
    assert apply_replacements("Na and Cl", [("Na", "Cl"), ("Cl", "Na")]).text == "Cl and Na"


def test_two_claims_on_one_word() -> None:
    with pytest.raises(DataError, match="two replacements claim 'bonded in'"):
        apply_replacements(TEXT, [("is bonded", "sits"), ("bonded in", "x")])


def test_replacing_by_the_same_is_refused() -> None:
    with pytest.raises(DataError, match="change nothing"):
        apply_replacements(TEXT, [("cubic", "cubic")])


@pytest.mark.parametrize("argument", ["cubic", "=>hexagonal", "  => x", ""])
def test_what_is_no_replacement(argument: str) -> None:
    with pytest.raises(DataError, match=r"expected a replacement such as 'cubic=>hexagonal'"):
        parse_replacement(argument)


def test_parse() -> None:
    assert parse_replacement(" Fm-3m => P6_3/mmc ") == ("Fm-3m", "P6_3/mmc")
    assert parse_replacement("cubic=>") == ("cubic", "")


def test_capital_at_the_start_of_a_sentence_stays() -> None:
    edited = replace_phrases("There are two. Where there are none.", {"there are": "there exist"})
    assert edited is not None
    assert edited.text == "There exist two. Where there exist none."


@given(st.sampled_from(demo_texts()), st.data())
def test_other_words_stay_as_they_are(text: str, data: st.DataObject) -> None:
    words = [text[start:end] for start, end in word_spans(text)]
    chosen = data.draw(st.sampled_from([word for word in words if word.isalpha()]))
    edited = apply_replacements(text, [(chosen, "zzzz")])
    after = [edited.text[start:end] for start, end in word_spans(edited.text)]
    assert after == ["zzzz" if word == chosen else word for word in words]


def test_of_phrases_that_overlap_the_longer_counts() -> None:
    edited = replace_phrases("Ba is bonded in a cell.", {"is bonded": "bonds", "is bonded in a": "sits in the"})
    assert edited is not None
    assert edited.text == "Ba sits in the cell."
