"""Whether a text carries its own target: the number itself, or a word for the property.

A number that equals the target within the precision it is printed with may stand there by accident, most of all where
targets repeat (half of a data set of band gaps is 0) or a number has few digits. The control counts the same for the
targets of the other structures: exactly, over all of them, no draw needed. A word for a property (metallic,
semiconductor) is held against permuted targets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from interpret.lexicon import is_formula, is_number
from interpret.modality.substitution import places

Floats = npt.NDArray[np.float64]
_NUMBER = re.compile(r"(?<![\d.])\d+(?:\.(\d+))?(?![\d.]\d)")


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


# Words that name or imply what such data sets are labelled with; lower case, hyphens and spaces alike.
PROPERTY_WORDS = _words(
    """
    metallic metal metals semimetal semimetallic half-metallic nonmetallic semiconductor semiconductors semiconducting
    insulator insulators insulating conductor conductors conducting superconductor superconductors superconducting
    bandgap band-gap gap gapless gapped wide-gap narrow-gap direct-gap indirect-gap ev magnetic nonmagnetic non-magnetic
    ferromagnetic antiferromagnetic ferrimagnetic paramagnetic diamagnetic ferroelectric piezoelectric dielectric
    stable unstable metastable hull modulus hard hardness soft brittle ductile transparent opaque
    """
)
PERMUTATIONS = 999
SEED = 0


class PrintedNumber(NamedTuple):
    """A number of a text: how it is written, its value, and the targets that, rounded as it is, are the number."""

    written: str
    value: float
    low: float
    high: float

    def equals(self, target: float) -> bool:
        """Whether the target is the number, as far as it is printed."""
        return self.low <= target <= self.high


def printed_numbers(text: str) -> list[PrintedNumber]:
    """The numbers of a text, quantities and ranges included; not those of formulas, sites, space groups, directions."""
    found = []
    for place in places(text):
        if is_number(place.text):
            for match in _NUMBER.finditer(place.text):
                value = float(match[0])
                # A little more than half a unit: the halves of decimal fractions are no binary ones.
                half = (0.5 + 1e-9) * 10.0 ** -len(match[1] or "")
                found.append(PrintedNumber(match[0], value, value - half, value + half))
    return found


def property_words(text: str) -> list[str]:
    """Words of the text that name or imply a property, each once, in lower case; GaP is no gap."""
    words = (place.text for place in places(text) if not is_formula(place.text))
    return list(dict.fromkeys(word for written in words if (word := written.lower()) in PROPERTY_WORDS))


def leakage_rows(ids: Sequence[str], texts: Sequence[str], targets: Floats) -> list[dict[str, Any]]:
    """A row a structure: the number that equals its target, how likely that is by chance, and its property words.

    Columns: ``match`` 1 where a number of the text equals the target, NaN without a target; ``number`` the most precise
    of them; ``chance`` the share of all other structures whose target one of this text's numbers equals.
    """
    ordered = np.sort(targets[np.isfinite(targets)])
    others = len(ordered) - 1
    rows = []
    for name, text, target in zip(ids, texts, targets.tolist(), strict=True):
        numbers = printed_numbers(text)
        fits = [number for number in numbers if np.isfinite(target) and number.equals(target)]
        labelled = bool(np.isfinite(target))
        rows.append(
            {
                "id": name,
                "target": target,
                "numbers": len(numbers),
                "match": float(bool(fits)) if labelled else float("nan"),
                "number": min(fits, key=lambda n: n.high - n.low).written if fits else "",
                "chance": (_equal(ordered, numbers) - bool(fits)) / others if labelled and others > 0 else float("nan"),
                "property_words": "; ".join(property_words(text)),
            }
        )
    return rows


def _equal(ordered: Floats, numbers: Sequence[PrintedNumber]) -> int:
    """How many of the targets, in ascending order, at least one of the numbers equals."""
    count = end = 0
    for number in sorted(numbers, key=lambda n: n.low):
        first, last = np.searchsorted(ordered, number.low, "left"), np.searchsorted(ordered, number.high, "right")
        count += max(0, int(last) - max(int(first), end))
        end = max(end, int(last))
    return count


def property_word_rows(texts: Sequence[str], targets: Floats, *, seed: int = SEED) -> list[dict[str, Any]]:
    """A row a property word that some labelled texts have and others have not.

    ``separation`` is the probability that a structure with the word has the larger target than one without it (ties
    half: the area under the ROC curve), 0.5 where the word says nothing. ``p_value`` is two-sided, from permuted
    targets, for the largest distance from 0.5 over all words in units of its standard deviation (Westfall and Young
    1993): many words are no excuse, and a word of one structure does not hide another.
    """
    known = np.isfinite(targets)
    values = targets[known]
    own = [set(property_words(text)) for text, labelled in zip(texts, known, strict=True) if labelled]
    words = sorted(word for word in set().union(*own) if 0 < sum(word in one for one in own) < len(own))
    if not words:
        return []
    present = np.array([[word in one for one in own] for word in words])
    ranks = stats.rankdata(values)
    observed = _separation(present, ranks)
    generator = np.random.default_rng(seed)
    count = present.sum(axis=1)
    spread = np.sqrt((len(own) + 1) / (12 * count * (len(own) - count)))
    standardized = np.abs(observed - 0.5) / spread
    largest = np.array(
        [(np.abs(_separation(present, generator.permutation(ranks)) - 0.5) / spread).max() for _ in range(PERMUTATIONS)]
    )
    rows = []
    for number, word in enumerate(words):
        with_word = present[number]
        beaten = int((largest >= standardized[number] - 1e-9).sum())
        rows.append(
            {
                "word": word,
                "structures": int(with_word.sum()),
                "mean_with": float(values[with_word].mean()),
                "mean_without": float(values[~with_word].mean()),
                "separation": float(observed[number]),
                "p_value": (beaten + 1) / (PERMUTATIONS + 1),
            }
        )
    return rows


def _separation(present: npt.NDArray[np.bool_], ranks: Floats) -> Floats:
    """Mann-Whitney: [W] from which structures have each word [W, n] and the ranks of the targets [n]."""
    count = present.sum(axis=1)
    total = present.shape[1]
    result: Floats = ((present * ranks).sum(axis=1) - count * (count + 1) / 2) / (count * (total - count))
    return result
