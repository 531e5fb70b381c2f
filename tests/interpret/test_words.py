"""Words of descriptions: how they are cut, that no weight is lost, what kind they are."""

from __future__ import annotations

import csv
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spglib
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interpret.lexicon import STOP_WORDS, categorize, is_formula
from interpret.words import Word, filter_words, group_words, merge_pieces, sentences
from model.encoder import TextEncoding, load_encoder
from model.errors import TapError
from model.text import normalize

_ENCODER = load_encoder("random:8:0", cache_directory=False)


def encode(text: str) -> TextEncoding:
    return _ENCODER.encode([text])[0]


def words_of(text: str) -> list[str]:
    return [word.text for word in group_words(encode(text)) if word.category != "special"]


def categories(text: str) -> dict[str, str]:
    return {word.text: word.category for word in group_words(encode(text))}


def pieces_by_hand(text: str, spans: list[tuple[int, int]]) -> TextEncoding:
    """An encoding with pieces of our own, as other tokenizers make them: no special tokens."""
    length = len(spans)
    return TextEncoding(
        text=text,
        normalized=normalize(text),
        pieces=tuple(normalize(text).text[slice(*span)] for span in spans),
        spans=np.array(spans, dtype=np.int64).reshape(-1, 2),
        special=np.zeros(length, dtype=bool),
        piece_ids=np.arange(length),
        embeddings=torch.zeros(length, 4),
        pieces_total=length,
    )


@pytest.mark.parametrize(
    "whole",
    [
        *("Ba(1)", "Ba(1)-O(1)", "Mo(1)-S(1,2)", "Cd(AsO3)2", "WSe2(WS2)2MoS2", "Fe3+"),
        *("12-coordinate", "corner-sharing", "F-43m", "P4/nmm", "P6_3/mmc", "P2_1/c", "I-4m2"),
        *(
            "2.70 Å",
            "2.70 A\u030a",
            "2.70\u00a0Å",
            "2.70Å",
            "2.70 A",
            "3.60-3.77 Å",
            "3.60–3.77 Å",
            "53°",
            "0-60°",
        ),
        *(
            "120 degrees",
            "1.5 eV",
            "0.3 eV/atom",
            "300 K",
            "(0, 0, 1)",
            "(001)",
            "[1-10]",
            "µ₂-bridged",
            "β−phase",
        ),
    ],
)
@pytest.mark.parametrize("frame", ["{}", "the {} one", "({})", "one {}, two", "is {}.", "a {}; b", '"{}"', "x\n{}\ny"])
def test_formulas_units_and_symbols_stay_whole(whole: str, frame: str) -> None:
    text = frame.format(whole)
    found = [word for word in group_words(encode(text)) if word.text == whole]
    assert len(found) == 1, words_of(text)
    assert text[found[0].start : found[0].end] == whole
    assert not found[0].is_punctuation


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bond lengths are 2.70 Å.", ["bond", "lengths", "are", "2.70 Å", "."]),
        ("one shorter (1.62 Å) and", ["one", "shorter", "(", "1.62 Å", ")", "and"]),
        ("(Cubic Perovskite) structured", ["(", "Cubic", "Perovskite", ")", "structured"]),
        ("Ba(1),O(1);Si(1)", ["Ba(1)", ",", "O(1)", ";", "Si(1)"]),
        ("1,000 atoms", ["1,000", "atoms"]),
        ("sites—two (e.g. Ba) ...", ["sites", "—", "two", "(", "e.g.", "Ba", ")", ".", ".", "."]),
        ("2 K atoms at 2 K", ["2", "K", "atoms", "at", "2 K"]),
        ("in 2\nÅ", ["in", "2", "Å"]),
        ("sites.Ba is", ["sites", ".", "Ba", "is"]),
        ("((x))", ["(", "(", "x", ")", ")"]),
        ("(1) Ba", ["(", "1", ")", "Ba"]),
        ("e\u0301 x", ["e\u0301", "x"]),
        ("", []),
        (" \n ", []),
        ("中文 Ba", ["Ba"]),
    ],
)
def test_cutting(text: str, expected: list[str]) -> None:
    assert words_of(text) == expected


@given(st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from("BaO()12.,- Å½°\n\u0301")), max_size=80))
@settings(max_examples=200, deadline=None)
def test_every_piece_is_in_one_word_and_sums_are_kept(text: str) -> None:
    encoding = encode(text)
    words = group_words(encoding)
    owners = [piece for word in words for piece in word.pieces]
    assert sorted(owners) == list(range(len(encoding.pieces)))
    own = [word for word in words if word.category != "special"]
    for word in own:
        assert word.text == text[word.start : word.end] != ""
        assert word.pieces
    assert all(a.end <= b.start for a, b in pairwise(own))
    weights = torch.rand(2, 3, len(encoding.pieces), dtype=torch.float64)
    merged = merge_pieces(weights, words)
    assert merged.shape == (2, 3, len(words))
    for index, word in enumerate(words):
        expected = sum(weights[..., piece] for piece in word.pieces)
        torch.testing.assert_close(merged[..., index], expected)
    torch.testing.assert_close(merged.sum(dim=-1), weights.sum(dim=-1))


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_pieces_of_any_tokenizer_find_a_word(data: Any) -> None:
    text = data.draw(st.text(st.sampled_from("abBO(1). ,-½Å\n"), min_size=1, max_size=30))
    length = len(normalize(text).text)
    cuts = sorted(data.draw(st.sets(st.integers(0, length))) | {0, length})
    spans = list(pairwise(cuts))
    empty = data.draw(st.integers(0, length))
    encoding = pieces_by_hand(text, [*spans, (empty, empty)])
    words = group_words(encoding)
    assert sorted(piece for word in words for piece in word.pieces) == list(range(len(spans) + 1))
    assert all(a.end <= b.start for a, b in pairwise(words))


def test_words_that_one_piece_spans_are_one_word() -> None:
    # As byte-level tokenizers do: a piece for " (" and one for "),".
    text = "is (Ba), x"
    words = group_words(pieces_by_hand(text, [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10)]))
    assert [(word.text, word.pieces) for word in words] == [
        ("is", (0,)),
        ("(", (1,)),
        ("Ba", (2,)),
        ("),", (3,)),
        ("x", (4,)),
    ]


def test_special_tokens_are_words_of_their_own() -> None:
    words = group_words(encode("cubic"))
    assert [(word.text, word.category, word.pieces) for word in words] == [
        ("[CLS]", "special", (0,)),
        ("cubic", "crystallography", (1,)),
        ("[SEP]", "special", (2,)),
    ]
    assert all(word.start == word.end for word in (words[0], words[2]))
    assert [word.text for word in group_words(encode(""))] == ["[CLS]", "[SEP]"]


def test_a_truncated_text_ends_in_the_word_that_was_cut() -> None:
    encoding = encode("Ba(1)-O(1) " * 100)
    assert encoding.truncated
    words = group_words(encoding)
    assert sorted(piece for word in words for piece in word.pieces) == list(range(512))
    assert {word.text for word in words[1:-1]} == {"Ba(1)-O(1)"}
    assert 0 < len(words[-2].pieces) < len(words[1].pieces)


@pytest.mark.parametrize(
    "text", ["(" * 50_000, "a" * 100_000, "1" * 100_000, "Ba" * 50_000, "Ba(1)-" * 20_000, ".," * 50_000]
)
def test_hostile_texts_take_no_time(text: str) -> None:
    encoding = encode(text)
    start = time.perf_counter()
    words = group_words(encoding)
    assert time.perf_counter() - start < 2
    assert sorted(piece for word in words for piece in word.pieces) == list(range(len(encoding.pieces)))


def test_merging_keeps_the_type_and_the_gradient() -> None:
    words = group_words(encode("Ba(1) is"))
    weights = torch.rand(4, 7, dtype=torch.float32, requires_grad=True)
    merged = merge_pieces(weights, words)
    assert merged.dtype == torch.float32
    merged.square().sum().backward()
    assert weights.grad is not None
    assert (weights.grad != 0).all()


def test_weights_of_another_text_are_refused() -> None:
    words = group_words(encode("Ba(1) is bonded"))
    with pytest.raises(TapError, match="at least 8 pieces, got 3"):
        merge_pieces(torch.rand(3), words)
    with pytest.raises(TapError, match="each of 5 words, got 3"):
        filter_words(words, torch.rand(2, 3))


def test_filtering_says_what_it_took() -> None:
    words = group_words(encode("The Ba(1) is bonded."))
    assert [word.text for word in words] == ["[CLS]", "The", "Ba(1)", "is", "bonded", ".", "[SEP]"]
    weights = torch.tensor([[0.25, 0.125, 0.125, 0.0625, 0.1875, 0.125, 0.125], [0.0] * 7])
    kept, shown, removed = filter_words(words, weights)
    assert [word.text for word in kept] == ["Ba(1)", "bonded"]
    assert shown[0].tolist() == [0.125, 0.1875]
    assert removed.dtype == torch.float64
    assert removed[0] == 0.6875
    assert torch.isnan(removed[1])
    everything = filter_words(words, weights[0], stop_words=True, punctuation=True, special=True)
    assert everything.words == words
    assert torch.equal(everything.weights, weights[0])
    assert everything.removed_share == 0
    for option, texts in {
        "stop_words": ["The", "Ba(1)", "is", "bonded"],
        "punctuation": ["Ba(1)", "bonded", "."],
        "special": ["[CLS]", "Ba(1)", "bonded", "[SEP]"],
    }.items():
        one = filter_words(words, weights[0], **{option: True})
        assert [word.text for word in one.words] == texts
        assert float(one.removed_share) + float(one.weights.sum()) == 1


@pytest.mark.parametrize(
    ("category", "text"),
    [
        *(("element", text) for text in ("Ba", "Ba(1)", "Ba(1)-O(1)", "TiO6", "Cd(AsO3)2", "O2-", "titanium", "Iron")),
        *(("element", text) for text in ("Fe-based", "beta-MoS2", "Mg0.5Fe0.5O", "CuSO4·5H2O", "[SiO4]")),
        *(
            ("number", text)
            for text in ("2.70 Å", "≈4.41 Å", "53°", "four", "twenty-four", "second", "1/2", "120 degrees")
        ),
        *(("crystallography", text) for text in ("12-coordinate", "F-43m", "octahedra", "corner-sharing", "(0, 0, 1)")),
        *(
            ("crystallography", text)
            for text in ("two-dimensional", "Molybdenite-derived", "T-shaped", "(001)", "cubic")
        ),
        *(("chemistry", text) for text in ("bonded", "lengths", "superconductor", "oxidation", "single-bond")),
        *(("other", text) for text in ("is", "spread", "q6", "Xyz", "Ba(", "A" * 200, "Came")),
    ],
)
def test_categories(category: str, text: str) -> None:
    assert categorize(text, "the", "x") == category


def test_symbols_that_are_words_are_told_by_their_neighbours() -> None:
    words = group_words(
        encode("In the first In site, In(1) is bonded. In is a metal. As shown, As sites exist as I atoms.")
    )
    found = [(word.text, word.category, word.is_stop_word) for word in words]
    assert [entry for entry in found if entry[0] in ("In", "As", "I", "as")] == [
        ("In", "other", True),
        ("In", "element", False),
        ("In", "element", False),
        ("As", "other", True),
        ("As", "element", False),
        ("as", "other", True),
        ("I", "element", False),
    ]


@pytest.mark.parametrize("symbol", ["F222", "C2", "P1", "Pm", "Cm", "I4"])
def test_symbols_that_are_formulas_are_told_by_the_next_word(symbol: str) -> None:
    assert is_formula(symbol)
    assert categories(f"the cubic {symbol} space group")[symbol] == "crystallography"
    assert categories(f"the {symbol} unit")[symbol] == "element"


def test_all_space_groups_are_recognised() -> None:
    symbols = {spglib.get_spacegroup_type(hall).international_short for hall in range(1, 531)}
    assert len(symbols) > 230
    for symbol in symbols:
        assert categorize(symbol, "cubic", "space") == "crystallography", symbol
        assert categorize(symbol.replace("_", ""), "cubic", "space") == "crystallography", symbol
        assert words_of(f"the {symbol} space group.") == ["the", symbol, "space", "group", "."]


def test_real_descriptions(shared: Path) -> None:
    folder = shared / "data/jarvis50"
    with (folder / "description.csv").open(newline="", encoding="utf-8") as stream:
        texts = [row["Description"] for row in csv.DictReader(stream)]
    for text in texts:
        encoding = encode(text)
        words = group_words(encoding)
        # The first word is the reduced formula, as robocrystallographer writes it.
        assert words[1].category == "element"
        rest = {word.text for word in words if word.category == "other" and not word.is_punctuation}
        known = {
            "form",
            "shorter",
            "longer",
            "mixture",
            "range",
            "consists",
            "spread",
            "ranging",
            "inside",
            "not",
        }
        assert {word for word in rest if word.lower() not in STOP_WORDS} <= known | {"q6", "beta", "omega"}
        spans = sentences(text)
        assert "".join(text[start:end] for start, end in spans).replace(" ", "") == text.replace(" ", "")
        for start, end in spans:
            assert text[end - 1] == "."
            assert text[start].isupper()
            assert not text[start:end].startswith("Å")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("All are 2.70 Å. As(1) is.", ["All are 2.70 Å.", "As(1) is."]),
        ("In the F-43m space group. Ba(1) is.", ["In the F-43m space group.", "Ba(1) is."]),
        ("Sites (e.g. Ba, i.e. two) are. approx. four", ["Sites (e.g. Ba, i.e. two) are. approx. four"]),
        ("One. Two\nthree\n\nFour", ["One.", "Two\nthree", "Four"]),
        ("Really?! (Yes.) No", ["Really?!", "(Yes.)", "No"]),
        ("  x  ", ["x"]),
        ("", []),
        ("...", ["..."]),
        ("Group. α-Fe2O3 is. 2.70 Å", ["Group.", "α-Fe2O3 is.", "2.70 Å"]),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert [text[start:end] for start, end in sentences(text)] == expected


@given(st.text(st.sampled_from("Ab1.?! \n)Å"), max_size=40))
def test_sentences_cover_the_text_in_order(text: str) -> None:
    spans = sentences(text)
    covered = "".join(text[start:end] for start, end in spans)
    assert "".join(covered.split()) == "".join(text.split())
    assert all(start < end for start, end in spans)
    assert all(a[1] <= b[0] for a, b in pairwise(spans))


def test_a_word_is_a_plain_value() -> None:
    word = Word("Ba", 0, 2, (1,), "element", False, False)
    assert word == Word("Ba", 0, 2, (1,), "element", False, False)
    assert len({word, word}) == 1
