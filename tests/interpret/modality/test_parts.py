"""Sentences of robocrystallographer told apart."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interpret.modality.parts import PARTS, classify, keep_parts, kinds, text_parts
from model.demo import demo_texts

# A sentence of each template, from the shipped descriptions and those of JARVIS.
SENTENCES = {
    "All Ti(1)-Si(1) bond lengths are 2.70 Å.": "bond lengths",
    "The K(1)-Bi(4) bond length is 3.74 Å.": "bond lengths",
    "There are three shorter (3.61 Å) and three longer (3.73 Å) Ba(1)-Ba(1) bond lengths.": "bond lengths",
    "There are a spread of K(1)-Bi(1) bond distances ranging from 3.60-3.77 Å.": "bond lengths",
    "The corner-sharing octahedra are not tilted.": "tilt angles",
    "The corner-sharing octahedral tilt angles range from 48-60°.": "tilt angles",
    "Li(1) is bonded in an octahedral geometry to six equivalent N(1) atoms.": "coordination",
    "There are two inequivalent Be sites.": "coordination",
    "In the first Be site, Be(1) is bonded to four equivalent Be(2) atoms to form corner-sharing BeBe4 tetrahedra.": (
        "coordination"
    ),
    "The structure is two-dimensional and consists of one VSe2 sheet oriented in the (0, 0, 1) direction.": (
        "dimensionality"
    ),
    "The structure consists of four Ge clusters inside a NaBa4 framework.": "dimensionality",
    "TbMnSi crystallizes in the orthorhombic Pnma space group.": "symmetry",
    "GeS is Hittorf-derived structured.": "composition",
    "It was first made in 1932.": "other",
}


@pytest.mark.parametrize(("sentence", "part"), SENTENCES.items(), ids=range(len(SENTENCES)))
def test_templates(sentence: str, part: str) -> None:
    assert classify(sentence) == part


def test_first_sentence_says_two_things() -> None:
    text = "LiF is Halite, Rock Salt structured and crystallizes in the cubic Fm-3m space group. It melts."
    found = [(part.part, text[part.start : part.end]) for part in text_parts(text)]
    assert found == [
        ("composition", "LiF is Halite, Rock Salt structured "),
        ("symmetry", "and crystallizes in the cubic Fm-3m space group. "),
        ("other", "It melts."),
    ]
    untyped = "TbMnSi crystallizes in the orthorhombic Pnma space group."
    assert [untyped[p.start : p.end] for p in text_parts(untyped)] == ["TbMnSi ", untyped[7:]]


@given(st.text(max_size=300) | st.sampled_from(demo_texts()))
def test_parts_are_the_text(text: str) -> None:
    parts = text_parts(text)
    assert "".join(text[part.start : part.end] for part in parts) == (text if parts else "")
    assert all(first.part != second.part for first, second in pairwise(parts))
    assert keep_parts(text, parts, PARTS) == text


def test_every_shipped_description_is_understood() -> None:
    for text in demo_texts():
        present = kinds(text_parts(text))
        assert present[:2] == ("composition", "symmetry")
        assert "other" not in present
        assert "space group" not in keep_parts(text, text_parts(text), set(present) - {"symmetry"})
        assert "Å" not in keep_parts(text, text_parts(text), set(present) - {"bond lengths"})


def test_keeping_nothing_is_an_empty_text() -> None:
    text = demo_texts()[0]
    assert keep_parts(text, text_parts(text), ()) == ""
