"""Do two models rank the words of a text alike: overall, for each element, within each category."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy import stats

from interpret.compare.differences import Inference, interval_method
from interpret.metrics.statistics import mean_with_interval
from interpret.record import StructureRecord
from interpret.words import Word, filter_words, merge_pieces

Floats = npt.NDArray[np.float64]
TOP = (3, 5, 10)
# Expected share of the evaluation that falls on the first ten ranks: 0.86 (Webber et al. 2010).
PERSISTENCE = 0.9
MEASURES = (*(f"overlap_{k}" for k in TOP), "rank_biased_overlap", "kendall_tau")
# Two rankings agree to within rounding of the attention: what differs by less is a tie.
_DIGITS = 9
# Equal rankings have a tau of 1 and not of 1 - 2e-16.
_TAU_DIGITS = 12


def rank_biased_overlap(first: list[int], second: list[int], persistence: float = PERSISTENCE) -> float:
    """Extrapolated rank-biased overlap of two rankings of the same length, equation 32 of Webber et al. 2010.

    1 for equal rankings, 0 for disjoint ones; the top weighs most.

    Args:
        first, second: items, best first, each at most once.

    Example:
        >>> round(rank_biased_overlap([0, 1, 2], [1, 0, 2]), 4)
        0.9
    """
    if first == second:
        return 1.0
    depth = len(first)
    seen_first: set[int] = set()
    seen_second: set[int] = set()
    overlap, total = 0, 0.0
    for rank, (left, right) in enumerate(zip(first, second, strict=True), start=1):
        seen_first.add(left)
        seen_second.add(right)
        overlap = len(seen_first & seen_second)
        total += overlap / rank * persistence**rank
    return (1 - persistence) / persistence * total + overlap / depth * persistence**depth


def chance(items: int) -> dict[str, float]:
    """What each measure is on average for a random ranking of the same items: the control.

    At depth d two random rankings of W items share d^2 / W items on average.
    """
    depth = np.arange(1, items + 1)
    weights = (1 - PERSISTENCE) / PERSISTENCE * PERSISTENCE**depth
    expected = {f"overlap_{k}": k / items if items > k else np.nan for k in TOP}
    expected["rank_biased_overlap"] = float((weights * depth / items).sum() + PERSISTENCE**items)
    expected["kendall_tau"] = 0.0
    return expected


def compare_rankings(first: Floats, second: Floats) -> dict[str, float]:
    """Top-k overlap, rank-biased overlap and Kendall's tau-b of two sets of scores of the same W items.

    NaN where undefined: tau for constant scores or one item, the overlap of k where there are no more than k items.
    Equal scores are in the order of the items.
    """
    first, second = np.round(first, _DIGITS), np.round(second, _DIGITS)
    left, right = (np.argsort(-scores, kind="stable").tolist() for scores in (first, second))
    items = len(left)
    found = {f"overlap_{k}": len(set(left[:k]) & set(right[:k])) / k if items > k else np.nan for k in TOP}
    found["rank_biased_overlap"] = rank_biased_overlap(left, right) if items > 1 else np.nan
    varies = items > 1 and np.ptp(first) > 0 and np.ptp(second) > 0
    found["kendall_tau"] = round(float(stats.kendalltau(first, second).statistic), _TAU_DIGITS) if varies else np.nan
    return found


@dataclass(frozen=True)
class WordScores:
    """Attention of every atom to the different words of a text, in order of first appearance.

    Attributes:
        words: U spellings with their category.
        weights: [N, U], mean over heads, summed over pieces and repetitions.
        uniform: [U], what uniform attention would give.
    """

    words: tuple[tuple[str, str], ...]
    weights: Floats
    uniform: Floats


def word_scores(record: StructureRecord, tap: str, *, stop_words: bool, punctuation: bool) -> WordScores:
    """Scores of a record's words; filtered words are left out as in :func:`interpret.robust.analyze_attention`."""
    weights = torch.from_numpy(record.values(tap)).mean(dim=0)
    merged = merge_pieces(weights, record.words)
    kept, shown, _ = filter_words(record.words, merged, stop_words=stop_words, punctuation=punctuation)
    return _by_spelling(kept, shown.numpy(), len(record.encoding.pieces))


def _by_spelling(words: tuple[Word, ...], weights: Floats, pieces: int) -> WordScores:
    index: dict[str, int] = {}
    category: list[tuple[str, str]] = []
    for word in words:
        if word.text not in index:
            index[word.text] = len(index)
            category.append((word.text, str(word.category)))
    total, uniform = np.zeros((len(weights), len(index))), np.zeros(len(index))
    for column, word in enumerate(words):
        total[:, index[word.text]] += weights[:, column]
        uniform[index[word.text]] += len(word.pieces) / pieces
    return WordScores(tuple(category), total, uniform)


def ranking_rows(first: WordScores, second: WordScores, elements: tuple[str, ...]) -> Iterator[dict[str, object]]:
    """One row a scope and score of one structure.

    Scopes: ``overall`` (mean over atoms), ``element`` (mean over the atoms of an element), ``category`` (the words of
    a category only). Scores: ``weight``, and ``ratio`` to what uniform attention gives: a word of many pieces leads
    every ranking by weight, so two models agree on that whatever they learned.
    """
    if len(first.words) < 2:
        return
    own = np.array(elements)
    groups: list[tuple[str, str, Floats, Floats, npt.NDArray[np.bool_]]] = []
    everything = np.ones(len(first.words), dtype=bool)
    groups.append(("overall", "all", first.weights.mean(0), second.weights.mean(0), everything))
    for element in sorted(set(elements)):
        rows = own == element
        groups.append(("element", element, first.weights[rows].mean(0), second.weights[rows].mean(0), everything))
    categories = np.array([category for _, category in first.words])
    for category in sorted(set(categories.tolist())):
        kept = categories == category
        if kept.sum() > 1:
            groups.append(("category", category, first.weights.mean(0), second.weights.mean(0), kept))
    for scope, group, a, b, kept in groups:
        for score in ("ratio", "weight"):
            scale = first.uniform[kept] if score == "ratio" else 1.0
            found = compare_rankings(a[kept] / scale, b[kept] / scale)
            control = {f"chance.{name}": value for name, value in chance(int(kept.sum())).items()}
            yield {"scope": scope, "group": group, "score": score, "words": int(kept.sum()), **found, **control}


def summarise_rankings(rows: pd.DataFrame, inference: Inference | None = None) -> pd.DataFrame:
    """Mean over structures of each measure, with its interval and its control.

    Args:
        rows: of :func:`ranking_rows`, with ``id`` and ``tap``.

    Returns:
        One row a tap, scope, group, score and measure: ``mean``, ``ci_low``, ``ci_high``, ``chance``, ``structures``.
    """
    inference = inference or Inference()
    keys = ["tap", "scope", "group", "score"]
    columns = [*keys, "measure", "mean", "ci_low", "ci_high", "chance", "structures"]
    if not len(rows):
        return pd.DataFrame(columns=columns)
    result = []
    for key, own in rows.sort_values("id", kind="stable").groupby(keys, sort=False):
        for measure in MEASURES:
            values = own[measure].to_numpy(dtype=np.float64)
            found = mean_with_interval(
                values,
                level=inference.level,
                method=interval_method(len(values)),
                # Some hundred of these are written, none of them decides anything: fewer resamples do.
                resamples=min(inference.resamples, 999),
                seed=inference.seed,
            )
            control = own.loc[~np.isnan(values), f"chance.{measure}"].mean()
            figures = {"mean": found.mean, "ci_low": found.low, "ci_high": found.high, "chance": control}
            result.append(
                dict(zip(keys, key, strict=True)) | {"measure": measure, **figures, "structures": found.count}
            )
    return pd.DataFrame(result, columns=columns)
