"""Edits change what they say and nothing else."""

from __future__ import annotations

import re

import pytest
import spglib

from interpret.modality.edits import EDITS, SYSTEMS, exchange_elements
from interpret.segmentation import word_spans
from model.demo import demo_texts
from model.structure import ELEMENTS

TEXT = (
    "LiTi2O4 is Spinel structured and crystallizes in the cubic Fd-3m space group. In the first Li site, Li(1) is "
    "bonded to four equivalent O(1) atoms to form LiO4 tetrahedra. The corner-sharing octahedral tilt angles are 59°. "
    "There are a spread of Li(1)-O(1) bond distances ranging from 2.00-2.94 Å. Ti(1) is bonded in a 8-coordinate "
    "geometry to six equivalent O(1) atoms."
)
EXPECTED = {
    "elements exchanged": "TiLi2O4 is Spinel structured and crystallizes in the cubic Fd-3m space group. In the first "
    "Ti site, Ti(1) is bonded to four equivalent O(1) atoms to form TiO4 tetrahedra. The corner-sharing octahedral "
    "tilt angles are 59°. There are a spread of Ti(1)-O(1) bond distances ranging from 2.00-2.94 Å. Li(1) is bonded in "
    "a 8-coordinate geometry to six equivalent O(1) atoms.",
    "element replaced": TEXT.replace("Li", "Na"),
    "structure type": TEXT.replace("Spinel", "Perovskite"),
    "space group": TEXT.replace("Fd-3m", "Fm-3m"),
    "crystal system": TEXT.replace("cubic", "hexagonal"),
    "symmetry": TEXT.replace("cubic Fd-3m", "hexagonal P6_3/mmc"),
    "coordination": TEXT.replace("four", "six")
    .replace("tetrahedra", "octahedra")
    .replace("8-coordinate", "6-coordinate")
    .replace("to six equivalent O(1) atoms.", "to eight equivalent O(1) atoms."),
    "bond lengths": TEXT.replace("2.00-2.94", "2.20-3.23"),
    "reworded": TEXT.replace("structured", "type")
    .replace("crystallizes in", "is crystallized in")
    .replace("is bonded to", "bonds to")
    .replace("to form", "forming")
    .replace("There are", "There exist")
    .replace("is bonded in a", "bonds in a"),
}
BY_NAME = {edit.name: edit for edit in EDITS}


@pytest.mark.parametrize("name", EXPECTED)
def test_expected_text(name: str) -> None:
    edited = BY_NAME[name].apply(TEXT)
    assert edited is not None
    assert edited.text == EXPECTED[name]


def test_sentences_in_another_order_have_the_same_words() -> None:
    edited = BY_NAME["reordered"].apply(TEXT)
    assert edited is not None
    assert edited.text != TEXT
    assert edited.text.startswith(TEXT[: TEXT.index("In the first")])
    assert sorted(edited.text.split()) == sorted(TEXT.split())


@pytest.mark.parametrize("text", ["", "It melts.", "Words without any fact of a crystal, none."])
def test_texts_without_the_fact_are_left_out(text: str) -> None:
    assert [edit.name for edit in EDITS if not edit.control and edit.apply(text) is not None] == []


def test_a_word_that_is_a_symbol_is_not_an_element() -> None:
    """``In the first Be site`` names no indium."""
    edited = BY_NAME["element replaced"].apply("In the first Be site, Be(1) is bonded to In(1).")
    assert edited is not None
    assert edited.text == "In the first Mg site, Mg(1) is bonded to In(1)."


@pytest.mark.parametrize("text", demo_texts()[::8])
def test_on_shipped_texts(text: str) -> None:
    """Each edit changes the words it says; those of facts keep every other word in its place."""
    words = [text[start:end] for start, end in word_spans(text)]
    for edit in EDITS:
        edited = edit.apply(text)
        if edited is None:
            assert edit.name in ("elements exchanged", "structure type", "reordered")
            continue
        assert edited.text != text
        if edit.control or edit.name == "structure type":
            continue
        after = [edited.text[start:end] for start, end in word_spans(edited.text)]
        changed = [(old, new) for old, new in zip(words, after, strict=True) if old != new]
        assert tuple(changed) == edited.replaced
        if edit.name == "bond lengths":
            for old, new in changed:
                for before, now in zip(re.findall(r"\d+\.\d+", old), re.findall(r"\d+\.\d+", new), strict=True):
                    assert float(now) == pytest.approx(1.1 * float(before), abs=0.0051)


@pytest.mark.parametrize("text", demo_texts()[::16])
def test_exchanging_twice_is_the_text(text: str) -> None:
    once = exchange_elements(text)
    if once is not None:
        twice = exchange_elements(once.text)
        assert twice is not None
        assert twice.text == text


def test_space_groups_belong_to_their_systems() -> None:
    """Against spglib's table: what the edits write of a system is true of it."""
    first = {"triclinic": 1, "monoclinic": 3, "orthorhombic": 16, "tetragonal": 75, "trigonal": 143, "hexagonal": 168}
    starts = [*first.items(), ("cubic", 195)]
    number = {}
    for hall in range(1, 531):
        kind = spglib.get_spacegroup_type(hall)
        number[kind.international_short.replace("_", "")] = kind.number
    for system, (target, *symbols) in SYSTEMS.items():
        assert target in SYSTEMS
        assert target != system
        for symbol in symbols:
            own = number[symbol.replace("_", "")]
            assert [name for name, start in starts if start <= own][-1] == system, symbol


def test_every_element_has_a_group() -> None:
    """Replacing any element gives another one."""
    for symbol in list(ELEMENTS)[:103]:
        edited = BY_NAME["element replaced"].apply(f"The {symbol}(1) atoms.")
        assert edited is not None, symbol
        assert re.fullmatch(r"The [A-Z][a-z]?\(1\) atoms\.", edited.text)
        assert symbol != edited.text[4:].split("(")[0]
