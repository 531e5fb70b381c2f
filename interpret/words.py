"""Word-pieces to the words a person reads, with the weight each word receives.

Words are cut in the original text, so that what chemists write as one stays one (``Ba(1)-O(1)``, ``F-43m``,
``12-coordinate``, ``2.70 Å``), and the pieces are laid over them by character offsets. Every piece belongs to
exactly one word and weights are summed, never averaged: a word's weight is what all its pieces received.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from interpret.lexicon import Category, categorize, is_stop_word
from interpret.segmentation import sentences, trim, word_spans
from model.errors import TapError

if TYPE_CHECKING:
    from model.encoder import TextEncoding

__all__ = ["FilteredWords", "Word", "filter_words", "group_words", "merge_pieces", "sentences"]

# A chunk without white space is cut at this many characters behind the last piece.
_BEYOND_LAST_PIECE = 200


@dataclass(frozen=True)
class Word:
    """A word of a text.

    Attributes:
        text: as it is written in the original text; the token itself for special tokens.
        start, end: its span in the original text; empty for special tokens.
        pieces: indices of its word-pieces; at least one.
        category: element, crystallography, chemistry, number, other, or special ([CLS], [SEP]).
        is_stop_word: on the list of function words.
        is_punctuation: nothing but punctuation.
    """

    text: str
    start: int
    end: int
    pieces: tuple[int, ...]
    category: Category
    is_stop_word: bool
    is_punctuation: bool


class FilteredWords(NamedTuple):
    """Words that were kept.

    Attributes:
        words: W' words.
        weights: ``[..., W']``.
        removed_share: ``[...]`` float64, the share of the weight that went with the words taken out; NaN
            where there was no weight.
    """

    words: tuple[Word, ...]
    weights: Tensor
    removed_share: Tensor


def group_words(encoding: TextEncoding) -> tuple[Word, ...]:
    """The words of an encoded text in their order, special tokens included as words of category ``special``.

    A word of which truncation has cut off some pieces is there with the others; one without any piece (behind
    the truncation, or lost in normalisation) is not. Words that one piece spans are one word.
    """
    spans = _source_spans(encoding)
    end = max((last for span in spans if span is not None for last in span[1:]), default=0)
    cut = encoding.text[: _end_of_chunk(encoding.text, end)]
    groups = _assign(spans, word_spans(cut))
    words = [_word(encoding.text, *group) for group in groups]
    return tuple(_with_special(encoding, _categorized(words)))


def merge_pieces(weights: Tensor, words: Sequence[Word]) -> Tensor:
    """Sum the weights of word-pieces over words.

    Args:
        weights: ``[..., L]`` over the pieces of the text, padding taken off; a floating dtype.
        words: of :func:`group_words`. What went to special tokens is the weight of the words of category
            ``special``.

    Returns:
        ``[..., W]`` of the same dtype. With all the words its sum is that of ``weights``.

    Raises:
        TapError: the words were not made for so many pieces.
    """
    indices = [piece for word in words for piece in word.pieces]
    if words and weights.shape[-1] <= max(indices):
        raise TapError(
            f"Expected attention over at least {max(indices) + 1} pieces, got {weights.shape[-1]}: the words "
            "are those of another text."
        )
    owners = [index for index, word in enumerate(words) for _ in word.pieces]
    device = weights.device
    merged = weights.new_zeros((*weights.shape[:-1], len(words)))
    picked = weights.index_select(-1, torch.tensor(indices, dtype=torch.long, device=device))
    return merged.index_add(-1, torch.tensor(owners, dtype=torch.long, device=device), picked)


def filter_words(
    words: Sequence[Word],
    weights: Tensor,
    *,
    stop_words: bool = False,
    punctuation: bool = False,
    special: bool = False,
) -> FilteredWords:
    """Leave out stop words, punctuation and special tokens, and say how much weight went with them.

    The weights that stay are not rescaled.

    Args:
        words: W words.
        weights: ``[..., W]``, from :func:`merge_pieces`.
        stop_words, punctuation, special: True keeps them.

    Raises:
        TapError: the number of words and weights differ.
    """
    if weights.shape[-1] != len(words):
        raise TapError(f"Expected one weight for each of {len(words)} words, got {weights.shape[-1]}.")
    kept = [
        index
        for index, word in enumerate(words)
        if (stop_words or not word.is_stop_word)
        and (punctuation or not word.is_punctuation)
        and (special or word.category != "special")
    ]
    shown = weights.index_select(-1, torch.tensor(kept, dtype=torch.long, device=weights.device))
    total = weights.double().sum(dim=-1)
    removed = total - shown.double().sum(dim=-1)
    if len(kept) == len(words):
        removed = torch.zeros_like(total)
    share = torch.where(total == 0, torch.nan, removed / total)
    return FilteredWords(tuple(words[index] for index in kept), shown, share)


def _source_spans(encoding: TextEncoding) -> list[tuple[int, int, int] | None]:
    """For every piece its index and its span in the original text; None for special tokens."""
    spans: list[tuple[int, int, int] | None] = []
    normalized = encoding.normalized
    for index, (start, end) in enumerate(encoding.spans.tolist()):
        if encoding.special[index]:
            spans.append(None)
            continue
        # Some tokenizers count the space before a word to its first piece.
        first, last = trim(normalized.text, start, end)
        if first >= last:
            first, last = start, end
        if first < last:
            spans.append((index, *normalized.source_span(first, last)))
        else:
            at = int(normalized.source_index[first]) if first < len(normalized.text) else len(encoding.text)
            spans.append((index, at, at))
    return spans


def _end_of_chunk(text: str, end: int) -> int:
    match = re.compile(r"\s").search(text, end, end + _BEYOND_LAST_PIECE)
    return match.start() if match else min(len(text), end + _BEYOND_LAST_PIECE)


def _assign(
    spans: list[tuple[int, int, int] | None], cores: list[tuple[int, int]]
) -> list[tuple[int, int, tuple[int, ...]]]:
    """Lay pieces over words: (start, end, pieces) of every word that has one."""
    groups: list[tuple[int, int, list[int]]] = []
    core = 0
    for span in sorted((span for span in spans if span is not None), key=lambda span: (span[1], span[0])):
        index, start, end = span
        while core < len(cores) and cores[core][1] <= start:
            core += 1
        first = last = core
        while last < len(cores) and cores[last][0] < end:
            last += 1
        if first < last:
            start, end = cores[first][0], max(cores[last - 1][1], end)
        if groups and start < groups[-1][1]:
            groups[-1] = (groups[-1][0], max(groups[-1][1], end), groups[-1][2])
            groups[-1][2].append(index)
        elif first < last or not groups:
            groups.append((start, end, [index]))
        else:
            # A piece of white space alone goes with the word before it.
            groups[-1][2].append(index)
    return [(start, end, tuple(sorted(pieces))) for start, end, pieces in groups]


def _word(text: str, start: int, end: int, pieces: tuple[int, ...]) -> Word:
    # The accent of a last letter that is written as a character of its own has no normalised character.
    while end < len(text) and unicodedata.category(text[end]) == "Mn":
        end += 1
    written = text[start:end]
    marks = bool(written.strip()) and all(_is_punctuation(character) for character in written)
    return Word(written, start, end, pieces, "other", is_stop_word(written), marks)


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character).startswith("P") or (character.isascii() and not character.isalnum())


def _categorized(words: list[Word]) -> Iterator[Word]:
    for index, word in enumerate(words):
        before = words[index - 1].text if index else ""
        after = words[index + 1].text if index + 1 < len(words) else ""
        if word.is_punctuation:
            yield word
            continue
        category = categorize(word.text, "" if before in (".", "!", "?", ":") else before, after)
        yield replace(word, category=category, is_stop_word=word.is_stop_word and category == "other")


def _with_special(encoding: TextEncoding, words: Iterator[Word]) -> list[Word]:
    result = list(words)
    for index in encoding.special.nonzero()[0].tolist():
        at = sum(word.pieces[0] < index for word in result)
        place = result[at - 1].end if at else 0
        result.insert(at, Word(encoding.pieces[index], place, place, (index,), "special", False, False))
    return result
