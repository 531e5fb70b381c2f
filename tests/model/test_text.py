"""Normalisation against the upstream recipe applied to whole lines, and the alignment with the original."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.normalizers import BertNormalizer

from model.errors import DataError
from model.text import NormalizedText, default_mappings, mappings_digest, normalize, read_mappings

_BERT = BertNormalizer(lowercase=False, strip_accents=True, clean_text=True, handle_chinese_chars=True)
# Marks of several combining classes, some of which BERT does not strip and canonical ordering moves.
_MARKS = "\u0301\u0316\u0338\u302e\u302f\U0001d165\U0001d16d\u0345"
_TEXTS = st.text(
    st.one_of(
        st.characters(codec="utf-8"),
        st.sampled_from("aÅé≠½中한–−\t\r\n \u00a0\u200b\u212b" + _MARKS),
    ),
    max_size=60,
)


def upstream(text: str, table: dict[str, str]) -> str:
    """The recipe of oracle/README.md, written down independently: line by line, then by character."""
    lines = [_BERT.normalize_str(line) for line in text.split("\n")]
    return "\n".join("".join(table.get(character, " ") for character in line) for line in lines)


def test_recorded_examples(shared: Path) -> None:
    examples = json.loads((shared / "oracle/normalize_examples.json").read_text())
    assert len(examples) > 10
    for raw, expected in examples:
        assert normalize(raw).text == expected


def test_recorded_texts(shared: Path) -> None:
    recorded = json.loads((shared / "oracle/inputs6.json").read_text())
    pairs = list(zip(recorded["texts_raw"], recorded["texts_normalized"], strict=True))
    assert len(pairs) == 6
    for raw, expected in pairs:
        assert normalize(raw).text == expected


@given(_TEXTS)
@settings(max_examples=400, deadline=None)
def test_equals_the_upstream_recipe_on_whole_lines(text: str) -> None:
    assert normalize(text).text == upstream(text, dict(default_mappings()))


@given(_TEXTS)
@settings(max_examples=200, deadline=None)
def test_equals_the_upstream_recipe_with_a_users_map(text: str) -> None:
    # Keeps the marks that a reordering moves, so that their order shows in the result.
    table = {character: character for character in "a=中ᄒ" + _MARKS} | {"é": "ee", "½": "", "–": " - "}
    assert normalize(text, table).text == upstream(text, table)


@given(_TEXTS)
@settings(max_examples=300, deadline=None)
def test_every_character_comes_from_the_one_it_points_to(text: str) -> None:
    result = normalize(text)
    assert result.source_index.dtype == np.int64
    assert result.source_index.shape == (len(result.text),)
    assert result.original_length == len(text)
    for character, source in zip(result.text, result.source_index, strict=True):
        alone = text[source]
        assert character in ("\n" if alone == "\n" else upstream(alone, dict(default_mappings())))
    assert result.text.count("\n") == text.count("\n")


@given(st.text(st.characters(codec="ascii"), max_size=60))
def test_indices_never_go_back_without_combining_marks(text: str) -> None:
    assert (np.diff(normalize(text).source_index) >= 0).all()


def test_reordered_marks_keep_their_sources() -> None:
    # U+1D165 has combining class 216, U+302F 224, U+302E 224: canonical order is 1D165 before the tone marks.
    text = "a\u302e\u302f\u302e\U0001d165b"
    table = {character: character for character in text}
    result = normalize(text, table)
    assert result.text == unicodedata.normalize("NFD", text) == "a\U0001d165\u302e\u302f\u302eb"
    assert result.source_index.tolist() == [0, 4, 1, 2, 3, 5]


def test_one_character_can_become_several_and_accents_nothing() -> None:
    result = normalize("½ e\u0301x")
    assert result.text == "1/2 ex"
    assert result.source_index.tolist() == [0, 0, 0, 1, 2, 4]
    assert result.source_span(0, 3) == (0, 1)
    assert result.source_span(4, 6) == (2, 5)


@pytest.mark.parametrize("span", [(0, 0), (2, 1), (-1, 1), (0, 3)])
def test_spans_outside_the_text_are_refused(span: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="start < end <= 2"):
        normalize("ab").source_span(*span)


def test_misaligned_results_are_refused() -> None:
    with pytest.raises(ValueError, match="one source index for each of 2"):
        NormalizedText("ab", np.zeros(3, dtype=np.int64), (), 2)


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("2.70 Å, é, e\u0301, µ₂ – ½\u00a0\t", ()),
        ("\u0301x", ()),
        ("中中文 😀", (("中", 2), ("文", 1), ("😀", 1))),
        ("a\u200bb\x00", (("\x00", 1), ("\u200b", 1))),
        # The result reads well and means something else.
        ("a ≠ b", (("≠", 1),)),
        ("R3\u0304m", (("\u0304", 1),)),
        ("P\ud800", (("\ud800", 1),)),
    ],
)
def test_lost_characters_are_counted(text: str, lost: tuple[tuple[str, int], ...]) -> None:
    result = normalize(text)
    assert result.lost == lost
    assert result.lost_characters == sum(count for _, count in lost)


@given(_TEXTS)
@settings(max_examples=200, deadline=None)
def test_what_is_not_lost_leaves_a_character(text: str) -> None:
    result = normalize(text)
    lost = {character for character, _ in result.lost}
    reached = set(result.source_index.tolist())
    for index, character in enumerate(text):
        if character not in lost and unicodedata.category(character) != "Mn" and not character.isspace():
            assert index in reached


def test_the_default_map_keeps_ascii_and_greek_and_ends_in_known_characters() -> None:
    table = default_mappings()
    for code in range(0x20, 0x7F):
        assert table[chr(code)] == chr(code)
    for letter in "αβγδεθλμπσφψωΓΔΘΛΞΠΣΦΨΩ":
        assert table[letter] == letter
    # Mapping twice changes nothing: every replacement is made of characters that are kept.
    for replacement in table.values():
        assert all(table[character] == character for character in replacement)
    pairs = {"Α": "A", "ℝ": "R", "ø": "o", "①": "1", "⅔": "2/3", "℃": "°C", "″": '"', "Ⅳ": "IV", "…": "..."}
    for character, expected in pairs.items():
        assert table[character] == expected
    assert "中" not in table
    with pytest.raises(TypeError):
        table["中"] = "?"  # type: ignore[index]


def test_a_users_map_is_read(tmp_path: Path) -> None:
    path = tmp_path / "vocab_mappings.txt"
    path.write_bytes("\ufeff− -\r\n™ (tm)\n\n⋮  \n© ©\n".encode())
    mappings = read_mappings(path)
    assert mappings == {"−": "-", "™": "(tm)", "⋮": " ", "©": "©"}
    result = normalize("a™", mappings)
    assert result.text == " (tm)"
    assert result.lost == (("a", 1),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"ab c\n", "Line 1 of the character map"),
        (b"\n \n", "is empty"),
        (b"\xff\xfe", "cannot be read as UTF-8"),
    ],
)
def test_a_broken_map_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "map.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_mappings(path)


def test_a_missing_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_mappings(tmp_path / "none.txt")


def test_digest_depends_on_the_content_and_not_on_the_order() -> None:
    assert mappings_digest({"a": "b", "c": "d"}) == mappings_digest({"c": "d", "a": "b"})
    assert mappings_digest({"a": "b"}) != mappings_digest({"a": "c"})
    assert mappings_digest(None) == mappings_digest(dict(default_mappings()))


def test_a_long_text_is_aligned_to_its_end() -> None:
    text = "Ba(1)–O(1) bonds are 2.70 Å. " * 10_000
    result = normalize(text)
    assert len(result.text) == len(text)
    assert result.source_index[-1] == len(text) - 1
