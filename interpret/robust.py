"""What an attention map may be read for: per atom where atoms differ, one global ranking where they do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from interpret.measure.attention import largest_difference
from interpret.record import StructureRecord
from interpret.words import Word, filter_words, merge_pieces

Mode = Literal["atoms differ", "atoms collapsed", "one atom", "one class"]

# Atoms of different classes whose rows differ by less than this share of attention attend alike.
LEAST_DIFFERENCE = 0.01


@dataclass(frozen=True)
class RankedWord:
    """A word, its category, and the attention it receives.

    Attributes:
        weight: share of the row, before any filtering, summed over the word's pieces.
        uniform: the control: what uniform attention would give it, its share of the pieces. Weights are sums, so a
            word of many pieces leads every ranking unless it is held against this.
    """

    word: str
    category: str
    weight: float
    uniform: float

    @property
    def ratio(self) -> float:
        """Weight over uniform: 1 says that the word received what its length explains."""
        return self.weight / self.uniform


@dataclass(frozen=True)
class RobustAnalysis:
    """Attention of one structure, read as far as it can be read.

    Attributes:
        tap: the attention map.
        mode: which reading applies. reason: why, in words.
        difference: share of attention by which atoms of different classes differ (largest head, mean over pairs).
        ranking: all words by attention averaged over atoms and heads.
        per_atom: the same for each atom; empty unless atoms differ.
        removed_share: attention on special tokens and on words filtered out by choice.
    """

    tap: str
    mode: Mode
    reason: str
    difference: float
    ranking: tuple[RankedWord, ...]
    per_atom: tuple[tuple[RankedWord, ...], ...]
    removed_share: float

    def top(self, atom: int | None = None, count: int = 3) -> tuple[RankedWord, ...]:
        """The first words of an atom's ranking, or of the global one where atoms have none of their own."""
        ranking = self.per_atom[atom] if atom is not None and self.per_atom else self.ranking
        return ranking[:count]


def analyze_attention(
    record: StructureRecord, tap: str, *, stop_words: bool = False, punctuation: bool = False
) -> RobustAnalysis:
    """Read an attention map of a structure.

    Args:
        tap: weights from atoms to tokens.
        stop_words, punctuation: keep them in the rankings. What filtering takes away is reported, never hidden.
    """
    weights = torch.from_numpy(record.values(tap))
    difference = float(largest_difference(weights, record.classes.labels))
    mode, reason = _mode(record, difference)
    per_word = merge_pieces(weights.mean(dim=0), record.words)
    kept, shown, removed = filter_words(
        record.words, per_word.mean(dim=0), stop_words=stop_words, punctuation=punctuation
    )
    pieces = len(record.encoding.pieces)
    per_atom: tuple[tuple[RankedWord, ...], ...] = ()
    if mode == "atoms differ":
        per_atom = tuple(
            _rank(*filter_words(record.words, row, stop_words=stop_words, punctuation=punctuation)[:2], pieces)
            for row in per_word
        )
    return RobustAnalysis(tap, mode, reason, difference, _rank(kept, shown, pieces), per_atom, float(removed))


def _mode(record: StructureRecord, difference: float) -> tuple[Mode, str]:
    atoms, classes = record.graph.number_of_atoms, record.classes.number_of_classes
    if atoms == 1:
        return "one atom", "a structure of one atom has no second atom to differ from"
    if classes == 1:
        return "one class", f"its {atoms} atoms are alike in the network's input, so they attend alike by construction"
    share = f"atoms of {classes} different classes differ by {100 * difference:.3g} % of their attention"
    if difference < LEAST_DIFFERENCE:
        return "atoms collapsed", f"{share}, less than {100 * LEAST_DIFFERENCE:g} %"
    return "atoms differ", share


def _rank(words: Sequence[Word], weights: torch.Tensor, pieces: int) -> tuple[RankedWord, ...]:
    """Words spelled alike are one entry; ties are in the order of the text."""
    # One list a spelling, [weight, uniform share, category], and one RankedWord at the end: this runs once an atom.
    total: dict[str, list[Any]] = {}
    for word, weight in zip(words, weights.tolist(), strict=True):
        known = total.setdefault(word.text, [0.0, 0.0, word.category])
        known[0] += weight
        known[1] += len(word.pieces) / pieces
    ranked = [RankedWord(text, str(category), weight, uniform) for text, (weight, uniform, category) in total.items()]
    order = np.argsort([-word.weight for word in ranked], kind="stable")
    return tuple(ranked[i] for i in order)
